"""From photos to tensors: all that is asked about a photo is packed into one row (Krell et al. 2021).

Padding each answer to the longest would waste more than half of a step, and giving every answer its own copy of the
picture's keys and values would cost as much again. So a row holds one photo, its texts one after another and its
answers one after another; masks keep them apart. A text shared by several answers (one request, five captions) stands
once.
Shape letters: N photos, T packed text tokens, S packed answer tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from visavis.models.processor import Processor
from visavis.models.prompt import Exchange
from visavis.models.training.data import Example, Photo, examples_of, mirrored
from visavis.models.training.features import View
from visavis.models.training.tag_lessons import Shown, TagLessons

IGNORED = -100
Text = tuple[str, tuple[Exchange, ...]]


@dataclass(frozen=True)
class Row:
    """One photo with its distinct texts and its answers as (index of the text, token ids with the end token).

    It may be `mirrored` and one of the photo's crops (0: the whole), or `shown` with tags and words that are not its
    own.
    """

    photo: Photo
    texts: list[Text]
    answers: list[tuple[int, list[int]]]
    mirrored: bool = False
    crop: int = 0
    shown: Shown | None = None

    @property
    def view(self) -> View:
        """What the feature cache knows it by."""
        return View(self.photo.path, self.mirrored, self.crop)


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

    def memory_mask(self, segments: Tensor, patches: int) -> Tensor:
        """(N, 1, S, P + M): all patches, and what was fused of the answer's own text; `segments` (N, M) from 1."""
        own = self.text_id[:, :, None] == segments[:, None, :]
        return torch.cat([own.new_ones(*own.shape[:2], patches), own], dim=2)[:, None]


@dataclass(frozen=True)
class Mix:
    """What an epoch is made of: `batch_photos` a batch, a share of them mirrored, each whole or one of its `crops` by
    chance, and about `lesson_share` rows of swapped tags a photo. `shares` are the options of `examples_of`."""

    batch_photos: int
    max_tokens: int
    mirror_share: float = 0.0
    crops: int = 0
    lesson_share: float = 0.0
    shares: Mapping[str, Any] = field(default_factory=dict)


class EpochRows:
    """Makes the rows of an epoch, which its seed fixes."""

    def __init__(self, photos: Sequence[Photo], processor: Processor, mix: Mix, lessons: TagLessons | None) -> None:
        self.photos, self.processor, self.mix, self.lessons = photos, processor, mix, lessons

    def batches(self, seed: int) -> Iterator[tuple[int, list[Row]]]:
        """The number of photos and the rows of every batch, in chance's order; the last, smaller one is kept."""
        chance, size = random.Random(seed), self.mix.batch_photos
        order = chance.sample(range(len(self.photos)), len(self.photos))
        for start in range(0, len(order), size):
            chosen = [self.photos[index] for index in order[start : start + size]]
            rows = [self._row(photo, chance) for photo in chosen]
            lessons = [self._lesson(photo, chance) for photo in chosen for _ in range(self._lessons_of_one(chance))]
            yield len(chosen), rows + lessons

    def _lessons_of_one(self, chance: random.Random) -> int:
        """As many as `lesson_share` says on average."""
        return int(self.mix.lesson_share + chance.random()) if self.lessons is not None else 0

    def _row(self, photo: Photo, chance: random.Random) -> Row:
        flip = chance.random() < self.mix.mirror_share
        examples = examples_of(photo, chance, **self.mix.shares)
        if flip:
            examples = [mirrored_example(item) for item in examples]
        row = make_row(photo, examples, self.processor, self.mix.max_tokens)
        crop = chance.randint(0, self.mix.crops) if self.mix.crops else 0
        return replace(row, mirrored=flip, crop=crop)

    def _lesson(self, photo: Photo, chance: random.Random) -> Row:
        assert self.lessons is not None
        shown, examples = self.lessons.lesson(photo, chance)
        return replace(make_row(photo, examples, self.processor, self.mix.max_tokens), shown=shown)


Item = TypeVar("Item")
_END: Any = object()


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in a thread while the one before is used."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = maker.submit(next, items, _END)
            yield item


def mirrored_example(example: Example) -> Example:
    """The same of the mirrored photo."""
    history = tuple((mirrored(asked), mirrored(answered)) for asked, answered in example.history)
    return Example(mirrored(example.question), history, mirrored(example.answer))


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
    size = max(1, -(-len(ordered) // groups))
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
