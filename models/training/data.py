"""Reading training folders: captions, questions and dialogues in JSON lines beside an `images/` folder.

`load_photos` joins everything known about a photo. It reads text only; pixels are read where they are encoded.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visavis.models.prompt import CAPTION_PROMPT, Exchange, in_one_word
from visavis.models.training.caption_questions import choose

CAPTION_REQUESTS = (CAPTION_PROMPT, "What is in this picture?", "What do you see?", "Caption this photo.")
KINDS = ("captions", "questions", "dialogues")


@dataclass(frozen=True)
class DialogueTurn:
    """One question about a photo with a natural answer and a `short` one, which may be empty."""

    question: str
    answer: str
    short: str


@dataclass(frozen=True)
class Question:
    """A free-standing question; any of `answers` is right."""

    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Photo:
    """Everything known about one photo."""

    path: Path
    captions: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    turns: list[DialogueTurn] = field(default_factory=list)


@dataclass(frozen=True)
class Example:
    """One answer to learn: a question, what was said before, and the answer."""

    question: str
    history: tuple[Exchange, ...]
    answer: str


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """JSON lines; a broken one is named by its number.

    Raises:
        ValueError: a line is no JSON object with an "image".
    """
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                row["image"]
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f'{file}:{number}: expected a JSON object with an "image", got {line[:60]!r}'
                ) from error
            yield row


def load_photos(folders: Sequence[Path], split: str = "train") -> list[Photo]:
    """Join `captions|questions|dialogues.<split>.jsonl` of all folders by photo, in a stable order.

    Raises:
        ValueError: a folder holds none of these files, or a line is broken.
    """
    photos: dict[Path, Photo] = {}
    for folder in folders:
        files = [folder / f"{kind}.{split}.jsonl" for kind in KINDS]
        if not any(file.exists() for file in files):
            raise ValueError(f"{folder} holds no {', '.join(file.name for file in files)}")
        for file in filter(Path.exists, files):
            for row in read_lines(file):
                _add(photos.setdefault(folder / row["image"], Photo(folder / row["image"])), row)
    return [photos[path] for path in sorted(photos)]


def _add(photo: Photo, row: dict[str, Any]) -> None:
    photo.captions.extend(tidy_caption(caption) for caption in row.get("captions", ()))
    if "question" in row:
        photo.questions.append(Question(row["question"], tuple(row["answers"])))
    photo.turns.extend(
        DialogueTurn(turn["question"], turn["answer"], turn.get("short", "")) for turn in row.get("turns", ())
    )


def tidy_caption(text: str) -> str:
    """A caption as a person would write it: no space before punctuation, a capital first, a full stop last."""
    text = re.sub(r"\s+([.,;:!?'])", r"\1", " ".join(text.split())).strip(' "')
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def examples_of(
    photo: Photo,
    chance: random.Random,
    short_share: float = 0.3,
    turn_share: float = 1.0,
    caption_share: float = 1.0,
    made_questions: int = 0,
) -> list[Example]:
    """What one epoch learns from a photo: all captions, all questions, all turns with the true dialogue before them.

    The captions of a photo share one request (one text to encode); a share of the turns is asked again for one word.
    With `turn_share` below 1 a photo that has captions brings its dialogue along only that often; `caption_share` is
    the same for its captions. Of the questions that its captions answer (`caption_questions`), about `made_questions`
    are asked.
    """
    request = chance.choice(CAPTION_REQUESTS)
    captions = photo.captions if chance.random() < caption_share else []
    examples = [Example(request, (), caption) for caption in captions]
    examples += [Example(in_one_word(item.question), (), chance.choice(item.answers)) for item in photo.questions]
    examples += _made(photo, chance, made_questions, short_share)
    if photo.captions and chance.random() >= turn_share:
        return examples
    history: tuple[Exchange, ...] = ()
    for turn in photo.turns:
        examples.append(Example(turn.question, history, turn.answer))
        if turn.short and chance.random() < short_share:
            examples.append(Example(in_one_word(turn.question), history, turn.short))
        history = (*history, (turn.question, turn.answer))
    return examples


def _made(photo: Photo, chance: random.Random, count: int, short_share: float) -> list[Example]:
    if not count:
        return []
    return [
        Example(in_one_word(item.question), (), item.short)
        if chance.random() < short_share
        else Example(item.question, (), item.answer)
        for item in choose(photo.captions, chance, count)
    ]


def mirrored(text: str) -> str:
    """The text that is true of the mirrored photo: left and right change places."""
    sides = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return re.sub(r"(?<![a-zA-Z])([Ll]eft|[Rr]ight)(?=\b|most|-hand)", lambda match: sides[match[1]], text)


def all_texts(photos: Sequence[Photo]) -> tuple[list[str], list[str]]:
    """Everything asked and everything answered: what the two vocabularies are made from."""
    asked = [CAPTION_PROMPT, in_one_word("?"), *CAPTION_REQUESTS]
    asked += [item.question for photo in photos for item in photo.questions]
    asked += [turn.question for photo in photos for turn in photo.turns]
    answered = [caption for photo in photos for caption in photo.captions]
    answered += [answer for photo in photos for item in photo.questions for answer in item.answers]
    answered += [text for photo in photos for turn in photo.turns for text in (turn.answer, turn.short) if text]
    return asked, answered
