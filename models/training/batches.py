"""From photos to tensors: all that is asked about a photo is packed into one row (Krell et al. 2021).

Padding each answer to the longest would waste more than half of a step, and giving every answer its own copy of the
picture's keys and values would cost as much again. So a row holds one photo, its texts one after another and its
answers one after another; masks keep them apart. A text shared by several answers (one request, five captions) stands
once.
Shape letters: N photos, T packed text tokens, S packed answer tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.models.processor import Processor
from visavis.models.prompt import Exchange
from visavis.models.training.data import Example, Photo, examples_of

IGNORED = -100
Text = tuple[str, tuple[Exchange, ...]]


@dataclass(frozen=True)
class Row:
    """One photo with its distinct texts and its answers as (index of the text, token ids with the end token)."""

    photo: Photo
    texts: list[Text]
    answers: list[tuple[int, list[int]]]


@dataclass(frozen=True)
class PackedAnswers:
    """Answers of N photos, each (N, S). `answer_id` and `text_id` count from 1 in a row; 0 is padding."""

    input_ids: Tensor
    labels: Tensor
    positions: Tensor
    answer_id: Tensor
    text_id: Tensor

    def self_mask(self) -> Tensor:
        """(N, 1, S, S): a token may attend to its own answer's past."""
        same = self.answer_id[:, :, None] == self.answer_id[:, None, :]
        return (same & torch.ones_like(same[0]).tril())[:, None]

    def memory_mask(self, text_segments: Tensor, patches: int) -> Tensor:
        """(N, 1, S, P + T): all patches, and the answer's own text; `text_segments` (N, T) counts from 1."""
        own = self.text_id[:, :, None] == text_segments[:, None, :]
        return torch.cat([own.new_ones(*own.shape[:2], patches), own], dim=2)[:, None]


def epoch_rows(
    photos: Sequence[Photo],
    processor: Processor,
    *,
    size: int,
    seed: int,
    max_tokens: int,
    **shares: float,
) -> Iterator[list[Row]]:
    """One epoch in batches of `size` photos, in an order that `seed` fixes; the last, smaller batch is kept.

    `shares` are those of `examples_of`.
    """
    chance = random.Random(seed)
    order = chance.sample(range(len(photos)), len(photos))
    for start in range(0, len(order), size):
        chosen = [photos[index] for index in order[start : start + size]]
        yield [make_row(photo, examples_of(photo, chance, **shares), processor, max_tokens) for photo in chosen]


def make_row(photo: Photo, examples: Sequence[Example], processor: Processor, max_tokens: int) -> Row:
    """Tokenise the answers (cut at `max_tokens` with the end token) and number the distinct texts."""
    texts: dict[Text, int] = {}
    index = [texts.setdefault((item.question, item.history), len(texts)) for item in examples]
    end = processor.answers.special_id("eos_token")
    answers = [[*processor.encode_answer(item.answer)[: max_tokens - 1], end] for item in examples]
    return Row(photo, list(texts), list(zip(index, answers, strict=True)))


def split_by_length(rows: Sequence[Row], groups: int) -> list[list[Row]]:
    """Rows of like length together, so that little is padded."""
    ordered = sorted(rows, key=_words)
    size = -(-len(ordered) // groups)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _words(row: Row) -> int:
    """What a row costs, roughly: the words of its texts and the tokens of its answers."""
    asked = sum(len(line.split()) for text, history in row.texts for line in (text, *sum(history, ())))
    return asked + sum(len(ids) for _, ids in row.answers)


def pack_answers(rows: Sequence[Row], bos_token_id: int, pad_token_id: int) -> PackedAnswers:
    """Lay the answers of each row one after another; every answer starts at position 0 with the start token."""
    shape = (len(rows), max(sum(len(ids) for _, ids in row.answers) for row in rows))
    packed = PackedAnswers(
        input_ids=torch.full(shape, pad_token_id),
        labels=torch.full(shape, IGNORED),
        positions=torch.zeros(shape, dtype=torch.long),
        answer_id=torch.zeros(shape, dtype=torch.long),
        text_id=torch.zeros(shape, dtype=torch.long),
    )
    for number, row in enumerate(rows):
        start = 0
        for count, (text, ids) in enumerate(row.answers, 1):
            place = slice(start, start + len(ids))
            packed.input_ids[number, place] = torch.tensor([bos_token_id, *ids[:-1]])
            packed.labels[number, place] = torch.tensor(ids)
            packed.positions[number, place] = torch.arange(len(ids))
            packed.answer_id[number, place] = count
            packed.text_id[number, place] = text + 1
            start += len(ids)
    return packed
