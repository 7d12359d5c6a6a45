"""What an evaluation asks beside its files: pictures that are no photos, words drawn into photos; and what it reads off
the answers: how far confidence can be believed."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, ImageDraw, ImageFont

from visavis.models.generation import Completion, GenerationRequest
from visavis.models.prompt import CAPTION_PROMPT, in_one_word
from visavis.models.replies import NOT_A_PHOTO
from visavis.models.training.calibration_fitting import coverage_at, expected_calibration_error
from visavis.models.training.scoring import exact_match, share

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
READ_QUESTION = "What does the sign say?"
WORD_SIZES = (24, 28, 32, 40, 48)
"""Heights of drawn words, in pixels."""
WORDS = ("STOP", "OPEN", "EXIT", "MARKET", "Coffee", "Hotel", "Garden", "Bakery", "Museum", "TAXI", "SALE", "42", "108")


class Answerer(Protocol):
    """The part of `InferenceEngine` that is used."""

    def add_image(self, data: bytes) -> str: ...

    async def generate(self, request: GenerationRequest) -> Completion: ...


def pictures_in(folder: Path, limit: int | None = None) -> list[Path]:
    """The pictures of a folder in order of name, at most `limit`. Raises ValueError if there are none."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURES)[:limit]
    if not files:
        raise ValueError(f"{folder} holds no pictures")
    return files


async def measure_nonphotos(engine: Answerer, files: Sequence[Path]) -> dict[str, Any]:
    """How many pictures, none of them a photo, are recognised as such when a description is asked for.

    Raises:
        ModelError: a picture is broken.
    """
    replies = [await _ask(engine, file.read_bytes(), CAPTION_PROMPT) for file in files]
    return {"recognised": share(reply in NOT_A_PHOTO for reply in replies), "n": len(files)}


async def measure_reading(engine: Answerer, photos: Sequence[Path], seed: int = 1) -> dict[str, Any]:
    """How many words, drawn into photos at least 24 pixels high, are read as they are written (case aside)."""
    chance = random.Random(seed)
    right = []
    for photo in photos:
        word = chance.choice(WORDS)
        reply = await _ask(engine, with_word(photo, word, chance), in_one_word(READ_QUESTION))
        right.append(exact_match(reply, [word]))
    return {"accuracy": share(right), "n": len(right)}


def with_word(photo: Path, word: str, chance: random.Random) -> bytes:
    """The photo as PNG with a word on a sign, somewhere."""
    with Image.open(photo) as opened:
        picture = opened.convert("RGB")
    font = ImageFont.load_default(chance.choice(WORD_SIZES))
    draw = ImageDraw.Draw(picture)
    left, top, right, low = draw.textbbox((0, 0), word, font)
    x = chance.uniform(4, max(5, picture.width - right - 10))
    y = chance.uniform(4, max(5, picture.height - low - 10))
    ground, ink = chance.choice((("white", "black"), ("navy", "white"), ("gold", "black"), ("darkred", "white")))
    draw.rectangle((x + left - 6, y + top - 6, x + right + 6, y + low + 6), fill=ground)
    draw.text((x, y), word, ink, font)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def calibration_of(judged: Sequence[tuple[float | None, bool]]) -> dict[str, Any] | None:
    """From (confidence, counts) of answers that either count or do not; None without any confidence."""
    sure = [(confidence, counts) for confidence, counts in judged if confidence is not None]
    if not sure:
        return None
    return {"ece": expected_calibration_error(sure), "coverage_at_80": coverage_at(sure, 0.8), "n": len(sure)}


async def _ask(engine: Answerer, data: bytes, question: str) -> str:
    return (await engine.generate(GenerationRequest(question, (), engine.add_image(data)))).text
