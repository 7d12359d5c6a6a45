"""What every contestant is asked: W4, 32 people who each ask four questions about a picture of their own.

Pictures, questions and the lengths of answers follow from numbers alone, so that all contestants get the same. Answers
have a forced length (their end token is forbidden, then they are cut): the work is the same whatever a model would say.
"""

from __future__ import annotations

import io
import random
import zlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

from PIL import Image, ImageOps

from visavis.dialogue.images import normalise_image
from visavis.dialogue.limits import ImageLimits

PEOPLE, TURNS = 32, 4
SHORTEST, LONGEST = 4, 48
EXAMPLES = ("example-cat.jpg", "example-coffee.jpg")
SIZE = (448, 336)
_THINGS = ("dog", "cat", "bus", "man", "woman", "boy", "girl", "car", "boat", "horse", "train", "plane")
_PLACES = ("street", "table", "field", "beach", "water", "park", "room", "wall", "road", "tree", "house", "grass")


@dataclass(frozen=True)
class Person:
    """Who asks: the bytes of a picture as they are uploaded, and questions in order."""

    picture: bytes
    questions: tuple[str, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each answer."""
        return tuple(forced_length(question) for question in self.questions)


def crowd(seed: int, people: int = PEOPLE, turns: int = TURNS) -> list[Person]:
    """People with new pictures; the questions are the same for every seed, so that repeats are alike."""
    return [
        Person(cut_photo(seed * PEOPLE + number), tuple(question(number, turn) for turn in range(turns)))
        for number in range(people)
    ]


def question(person: int, turn: int) -> str:
    """About 16 tokens."""
    chance = random.Random(person * 100 + turn)
    first, second = chance.sample(_THINGS, 2)
    return f"what is the {first} next to the other {second} in the {chance.choice(_PLACES)} doing?"


def forced_length(question: str) -> int:
    """How many tokens the answer to a question has, spread evenly between the shortest and the longest."""
    return SHORTEST + zlib.crc32(question.encode()) % (LONGEST - SHORTEST + 1)


def cut_photo(number: int) -> bytes:
    """A part of an example photo: different for each number, and like a photo for all."""
    chance = random.Random(number)
    with as_file(files("visavis.bot.web") / EXAMPLES[number % len(EXAMPLES)]) as path, Image.open(path) as photo:
        width, height = (side * chance.uniform(0.6, 0.9) for side in photo.size)
        left, top = chance.uniform(0, photo.width - width), chance.uniform(0, photo.height - height)
        part = photo.convert("RGB").resize(SIZE, box=(left, top, left + width, top + height))
    data = io.BytesIO()
    (ImageOps.mirror(part) if chance.random() < 0.5 else part).save(data, "JPEG", quality=90)
    return data.getvalue()


@cache
def as_stored(picture: bytes) -> bytes:
    """What the store keeps of an uploaded picture: what the model gets to see."""
    return normalise_image(picture, ImageLimits()).data
