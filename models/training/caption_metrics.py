"""BLEU, ROUGE-L and CIDEr of captions, by the Python parts of pycocoevalcap.

Its tokenizer is a Java program; `tokenize` stands in for it: lower case, Penn Treebank splitting, the same punctuation
removed. No model and no file is known here.
"""

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass

# As in the Penn Treebank: "don't" -> "do n't", "dog's" -> "dog 's"; "t-shirt" and "3.5" stay whole.
TOKEN = re.compile(r"\w+?(?=n't\b)|n't\b|'(?:s|m|d|re|ve|ll)\b|\d+(?:[.,]\d+)+|\w+(?:-\w+)*|[^\w\s]")
PUNCTUATION = frozenset([*"'`.?!,:-;()[]{}\"…“”‘–—"])


@dataclass(frozen=True)
class CaptionScores:
    """Corpus scores, and the CIDEr of each caption in the order given."""

    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider: float
    each_cider: tuple[float, ...]


def check_installed() -> None:
    """Raise ModuleNotFoundError if captions cannot be scored here: better before an hour of asking than after it."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        raise ModuleNotFoundError("scoring captions needs the extra `train`: pip install 'visavis[train]'")


def tokenize(caption: str) -> str:
    """The counted tokens of a caption, joined by single spaces."""
    tokens = TOKEN.findall(caption.lower().replace("’", "'"))
    return " ".join(token for token in tokens if token not in PUNCTUATION)


def score_captions(replies: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Score one reply a photo against its references; CIDEr weighs words by how rare they are among all references.

    Raises:
        ValueError: the two do not pair up, or a photo has no reference.
        ModuleNotFoundError: the extra `train` is not installed.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    if not replies or len(replies) != len(references) or not all(references):
        raise ValueError(f"expected one reply and some references a photo, got {len(replies)} and {len(references)}")
    said = {index: [tokenize(reply)] for index, reply in enumerate(replies)}
    wanted = {index: [tokenize(caption) for caption in captions] for index, captions in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(wanted, said, verbose=0)
    rouge, _ = Rouge().compute_score(wanted, said)
    cider, each = Cider().compute_score(wanted, said)
    first, second, third, fourth = (float(value) for value in bleu)
    return CaptionScores((first, second, third, fourth), float(rouge), float(cider), tuple(float(v) for v in each))
