"""CIDEr-D as a reward: one caption at a time against the references of its photo (Vedantam et al. 2015).

pycocoevalcap scores whole corpora; training needs single captions many times a second, with the n-gram frequencies of
the training set held fixed. The end of the caption counts as a word: without it a model trained on this reward learns
to stop in the middle of a phrase, which no n-gram would notice ("Improved image captioning via policy gradient
optimization of SPIDEr", Liu et al. 2017, describe such endings).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from visavis.models.training.caption_metrics import tokenize

NGRAMS = 4
SIGMA = 6.0
END = "</s>"

Grams = Counter[tuple[str, ...]]
Vector = dict[tuple[str, ...], float]
Caption = tuple[list[Vector], int]
"""One vector for each length of n-gram, and how many pairs of words there are."""


class CiderReward:
    """Scores captions with the document frequencies of `references`, one list of captions a photo."""

    def __init__(self, references: Iterable[Sequence[str]], *, count_end: bool = True) -> None:
        self.end = f" {END}" if count_end else ""
        self.frequency: Grams = Counter()
        photos = 0
        for captions in references:
            photos += 1
            self.frequency.update(set().union(*(self._grams(caption) for caption in captions)))
        self.log_photos = math.log(max(photos, 1))

    def score(self, captions: Sequence[str], references: Sequence[str]) -> list[float]:
        """CIDEr-D of each of some captions of one photo, 0..10; a caption without its full stop gets 0."""
        wanted = [self._weigh(self._grams(reference)) for reference in references]
        return [self._score(caption, wanted) if caption.endswith(".") else 0.0 for caption in captions]

    def _score(self, caption: str, wanted: Sequence[Caption]) -> float:
        said = self._weigh(self._grams(caption))
        return 10 * sum(_similarity(said, reference) for reference in wanted) / len(wanted)

    def _grams(self, caption: str) -> Grams:
        words = (tokenize(caption) + self.end).split()
        return Counter(
            tuple(words[start : start + size])
            for size in range(1, NGRAMS + 1)
            for start in range(len(words) - size + 1)
        )

    def _weigh(self, grams: Grams) -> Caption:
        """Counts weighted by rarity."""
        vectors: list[Vector] = [{} for _ in range(NGRAMS)]
        for gram, count in grams.items():
            vectors[len(gram) - 1][gram] = count * (self.log_photos - math.log(max(1, self.frequency[gram])))
        return vectors, sum(count for gram, count in grams.items() if len(gram) == 2)


def _similarity(said: Caption, wanted: Caption) -> float:
    """Clipped cosine, averaged over the lengths of n-gram, under a penalty for another length of caption."""
    delta = said[1] - wanted[1]
    return math.exp(-(delta**2) / (2 * SIGMA**2)) * sum(map(_cosine, said[0], wanted[0])) / NGRAMS


def _cosine(said: Vector, wanted: Vector) -> float:
    norms = math.sqrt(sum(value**2 for value in said.values()) * sum(value**2 for value in wanted.values()))
    overlap = sum(min(value, wanted[gram]) * wanted[gram] for gram, value in said.items() if gram in wanted)
    return overlap / norms if norms else 0.0
