"""Two vocabularies made from training text: pruned word pieces for questions, byte-level BPE for answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from torch import Tensor

from visavis.models.processor import Vocabulary

SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ANSWER_SPECIALS = ("<pad>", "<s>", "</s>")


def prune_word_pieces(vocabulary_file: Path, texts: Iterable[str], size: int) -> list[int]:
    """Choose which of a BERT vocabulary's pieces to keep, as sorted ids.

    Kept are the special pieces, every single character (so that no Latin word becomes unknown), every piece that
    `texts` use, then the commonest others: the file is sorted by frequency. Pieces of other scripts go.
    """
    pieces = vocabulary_file.read_text(encoding="utf-8").splitlines()
    full = BertWordPieceTokenizer(str(vocabulary_file), lowercase=True)
    used = Counter(index for item in full.encode_batch(list(texts)) for index in item.ids)
    readable = [index for index, piece in enumerate(pieces) if piece.isascii() and not piece.startswith("[unused")]
    must = {
        index for index in readable if pieces[index] in SPECIAL_PIECES or len(pieces[index].removeprefix("##")) == 1
    }
    must |= {index for index in readable if used[index]}
    rest = (index for index in readable if index not in must)
    return sorted(must | {index for index, _ in zip(rest, range(size - len(must)), strict=False)})


def question_vocabulary(pieces: Sequence[str]) -> Vocabulary:
    """A lower-casing word-piece tokenizer over `pieces`, with BERT's special tokens and two segments."""
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = BertWordPieceTokenizer(vocabulary, lowercase=True)._tokenizer
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_PIECES, strict=True))
    return Vocabulary(backend, names)


def answer_vocabulary(texts: Iterable[str], size: int) -> Vocabulary:
    """Train byte-level BPE on `texts`. A leading space belongs to its word, so pieces joined are the text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(ANSWER_SPECIALS),
        initial_alphabet=alphabet,
        min_frequency=2,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    names = dict(zip(("pad_token", "bos_token", "eos_token"), ANSWER_SPECIALS, strict=True))
    return Vocabulary(backend, names)


def embeddings_from_pieces(answers: Vocabulary, questions: Vocabulary, pieces: Tensor) -> Tensor:
    """Start the answer embeddings (V, D) from the mean of the word-piece embeddings `pieces` that spell each token.

    Centred and scaled to a standard deviation of 0.02, since they are the output matrix too: first logits near zero.
    """
    rows = []
    for index in range(len(answers)):
        spelt = answers.tokenizer.decode([index], skip_special_tokens=False).strip()
        ids = questions.tokenizer.encode(spelt or "[UNK]", add_special_tokens=False).ids
        rows.append(pieces[ids].mean(0) if ids else pieces.mean(0))
    table = torch.stack(rows)
    table = table - table.mean(0)
    return 0.02 * table / table.std()
