"""What an evaluation asks beside its files: pictures that are no photos, words drawn into photos."""

import io
import random
from pathlib import Path

import pytest
from PIL import Image
from tiny_checkpoint import drawn_picture

from visavis.models.generation import Completion, FinishReason, GenerationRequest
from visavis.models.replies import NOT_A_PHOTO
from visavis.models.training.evaluation_probes import (
    WORDS,
    calibration_of,
    measure_nonphotos,
    measure_reading,
    pictures_in,
    with_word,
)


class Engine:
    """Refuses grey pictures; reads "Hotel" everywhere."""

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}

    def add_image(self, data: bytes) -> str:
        self.pictures[str(len(self.pictures))] = data
        return str(len(self.pictures) - 1)

    async def generate(self, request: GenerationRequest) -> Completion:
        with Image.open(io.BytesIO(self.pictures[str(request.image)])) as picture:
            grey = picture.convert("RGB").getpixel((0, 0)) == (128, 128, 128)
        reply = "hotel" if "sign" in request.question else NOT_A_PHOTO[0] if grey else "A dog."
        return Completion(reply, FinishReason.STOP)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, color in enumerate(("gray", "red", "gray", "gray")):
        Image.new("RGB", (60, 60), color).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


async def test_refusals_of_nonphotos_are_counted(folder: Path) -> None:
    assert await measure_nonphotos(Engine(), pictures_in(folder)) == {"recognised": 0.75, "n": 4}
    assert len(pictures_in(folder, limit=2)) == 2
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        pictures_in(folder / "empty")


async def test_words_that_were_drawn_are_asked_for(folder: Path) -> None:
    files = pictures_in(folder) * 20
    figures = await measure_reading(Engine(), files)
    assert figures["n"] == 80
    assert 0 < figures["accuracy"] < 0.3, "one word of many"


def test_a_word_changes_the_photo_and_nothing_else_of_its_size(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(drawn_picture(size=(224, 224)))
    drawn = [with_word(tmp_path / "a.png", WORDS[0], random.Random(seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with Image.open(io.BytesIO(drawn[0])) as picture:
        assert picture.size == (224, 224)


def test_answers_without_confidence_are_left_out() -> None:
    assert calibration_of([(None, True)]) is None
    assert calibration_of([(1.0, True), (None, False)]) == {"ece": 0.0, "coverage_at_80": 1.0, "n": 1}
