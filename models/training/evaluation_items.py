"""What an evaluation asks: the files of a data folder as a list of items, each one question about one picture.

It reads text and names pictures; it neither opens a picture nor knows a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from visavis.models.prompt import CAPTION_PROMPT, Exchange, in_one_word
from visavis.models.training.data import read_lines

# Says nothing about what is wanted, but is a question that the model has met: what it answers comes from the picture.
BLANK_QUESTION = "What is it?"
THING_QUESTION = "What is this?"


class Section(StrEnum):
    CAPTIONS = "captions"
    QUESTIONS = "questions"
    DIALOGUES = "dialogues"
    THINGS = "things"


class Blank(StrEnum):
    IMAGE = "image"
    QUESTION = "question"


SHORT_ANSWERS = frozenset({Section.QUESTIONS, Section.THINGS})


@dataclass(frozen=True)
class Item:
    """One question about one picture, and what is expected.

    `expected` holds the references of a caption, the accepted answers of a question or the one key answer of a
    dialogue turn; `written` is that turn's written answer and `position` its place in the dialogue (0 = first).
    `image` None is an all-grey picture.
    """

    section: Section
    image: Path | None
    question: str
    expected: tuple[str, ...]
    history: tuple[Exchange, ...] = ()
    written: str | None = None
    position: int = 0
    blank_question: bool = False

    @property
    def asked(self) -> str:
        """The question as it is put to the model."""
        question = BLANK_QUESTION if self.blank_question else self.question
        return in_one_word(question) if self.section in SHORT_ANSWERS else question


def read_items(section: Section, file: Path, limit: int | None = None) -> list[Item]:
    """The items of one file in its order, at most `limit` of them; pictures are named relative to the file's folder.

    Raises:
        ValueError: a line lacks what the section needs, names a picture that is not there, or there is no line.
        OSError: the file cannot be read.
    """
    items: list[Item] = []
    for number, row in enumerate(read_lines(file), 1):
        image = file.parent / row["image"]
        if not image.is_file():
            raise ValueError(f"{file}:{number}: there is no picture {image}")
        try:
            items.extend(_READERS[section](image, row))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file}:{number}: expected the fields of {section}, got {', '.join(row)}") from error
        if limit is not None and len(items) >= limit:
            break
    if not items:
        raise ValueError(f"{file} holds no {section}")
    return items[:limit]


def read_training_answers(file: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(question, accepted answers) of each line of a questions file."""
    for row in read_lines(file):
        yield row["question"], tuple(row["answers"])


def swap_pictures(items: Sequence[Item]) -> list[Item]:
    """Pair each item with another photo: the photos in order of name, moved on by half their number.

    Raises:
        ValueError: there are fewer than two photos.
    """
    photos = sorted({item.image for item in items if item.image is not None})
    if len(photos) < 2:
        raise ValueError(f"swapping pictures needs at least two, got {len(photos)}")
    half = len(photos) // 2
    other = dict(zip(photos, photos[half:] + photos[:half], strict=True))
    return [item if item.image is None else replace(item, image=other[item.image]) for item in items]


def blank(items: Iterable[Item], part: Blank) -> list[Item]:
    """The same items with an all-grey picture, or with a question that asks nothing; the history stays."""
    if part is Blank.IMAGE:
        return [replace(item, image=None) for item in items]
    return [replace(item, blank_question=True) for item in items]


def _captions(image: Path, row: dict[str, Any]) -> Iterator[Item]:
    yield Item(Section.CAPTIONS, image, CAPTION_PROMPT, tuple(row["captions"]))


def _questions(image: Path, row: dict[str, Any]) -> Iterator[Item]:
    yield Item(Section.QUESTIONS, image, row["question"], tuple(row["answers"]))


def _things(image: Path, row: dict[str, Any]) -> Iterator[Item]:
    yield Item(Section.THINGS, image, row.get("question", THING_QUESTION), tuple(row["answers"]))


def _dialogues(image: Path, row: dict[str, Any]) -> Iterator[Item]:
    history: tuple[Exchange, ...] = ()
    for position, turn in enumerate(row["turns"]):
        question, answer, short = turn["question"], turn["answer"], turn.get("short")
        if short:  # what has no short form cannot be scored; it still was said
            yield Item(Section.DIALOGUES, image, question, (short,), history, answer, position)
        history = (*history, (question, answer))


_READERS = {
    Section.CAPTIONS: _captions,
    Section.QUESTIONS: _questions,
    Section.DIALOGUES: _dialogues,
    Section.THINGS: _things,
}
