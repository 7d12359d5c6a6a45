"""Perturbed pictures and texts: decided by a name or a chance, and never more than they say."""

import random

import tiny_checkpoint
import torch
from PIL import Image

from visavis.models.training.perturbations import Perturbation, Synonyms, perturb_text
from visavis.models.training.vocabulary import SPECIAL_PIECES, question_vocabulary

WHOLE = (0.0, 0.0, 1.0, 1.0)
PLAIN = (1.0, 1.0, 1.0)
NOTHING = (0.0, 0.0, 0.0, 0.0)


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    width, height = picture.size
    return [picture.getpixel((x, y)) for x in (0, width - 1) for y in (0, height - 1)]  # type: ignore[misc]


def test_a_name_decides_what_happens_to_a_photo() -> None:
    assert Perturbation.of("a.jpg") == Perturbation.of("a.jpg") != Perturbation.of("b.jpg")
    flips = [Perturbation.of(f"{number}.jpg").mirrored for number in range(200)]
    assert 60 < sum(flips) < 140


def test_each_change_by_itself() -> None:
    picture = Image.new("RGB", (40, 40), "white")
    picture.paste("black", (0, 0, 20, 40))
    mirrored = Perturbation(WHOLE, True, PLAIN, NOTHING).apply(picture)
    assert [corner[0] for corner in corners(picture)] == [0, 0, 255, 255]
    assert [corner[0] for corner in corners(mirrored)][2:] == [0, 0]
    cropped = Perturbation((0.5, 0.0, 0.5, 1.0), False, PLAIN, NOTHING).apply(picture)
    assert cropped.size == (40, 40) and all(corner == (255, 255, 255) for corner in corners(cropped)[1:])
    erased = Perturbation(WHOLE, False, PLAIN, (0.5, 0.5, 0.5, 0.5)).apply(picture)
    assert corners(erased)[3] == (128, 128, 128) and corners(erased)[2] == (255, 255, 255)
    darker = Perturbation(WHOLE, False, (1.0, 0.5, 1.0), NOTHING).apply(picture)
    assert corners(darker)[2] == (127, 127, 127)


def test_a_crop_keeps_nearly_all_of_a_photo_and_its_colours() -> None:
    crops = [Perturbation.crop_of(f"{number}.jpg", 1 + number % 3) for number in range(100)]
    assert crops[0] == Perturbation.crop_of("0.jpg", 1) != Perturbation.crop_of("0.jpg", 2)
    assert all(crop.crop[2] >= 0.8 and crop.crop[3] >= 0.8 for crop in crops)
    assert not any(crop.mirrored or crop.erased for crop in crops)
    grey = crops[0].apply(Image.new("RGB", (40, 40), (128, 128, 128))).getpixel((20, 20))
    assert len(set(grey)) == 1 and 90 < grey[0] < 170  # type: ignore[arg-type, index]
    assert len({crop.fingerprint for crop in crops}) == 100


def test_any_photo_keeps_its_size() -> None:
    for number in range(20):
        picture = tiny_checkpoint.picture_of(tiny_checkpoint.drawn_picture(size=(31, 7)))
        assert Perturbation.of(str(number)).apply(picture).size == (31, 7)


def synonyms() -> Synonyms:
    pieces = [*SPECIAL_PIECES, "dog", "puppy", "car", "runs"]
    rows = torch.zeros(len(pieces), 3)
    rows[-4:] = torch.tensor([[1.0, 0.1, 0.0], [1.0, 0.0, 0.1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return Synonyms(question_vocabulary(pieces), rows, ["dog", "puppy", "car", "runs", "unheard"])


def test_only_near_words_stand_for_each_other() -> None:
    chance, known = random.Random(1), synonyms()
    assert {known.replace("dog", chance) for _ in range(20)} == {"puppy"}
    assert known.replace("Puppy", chance) == "dog"
    assert known.replace("car", chance) == "car"
    assert known.replace("unheard", chance) == "unheard"


def test_a_perturbed_text_masks_drops_replaces_and_moves_some_words() -> None:
    chance, known = random.Random(2), synonyms()
    text = "the dog runs behind a car today"
    made = [perturb_text(text, chance, known, "[MASK]") for _ in range(300)]
    words = [item.split() for item in made]
    assert any("[MASK]" in item for item in words)
    assert any("puppy" in item for item in words)
    assert any(len(item) < 7 for item in words)
    assert any(sorted(item) == sorted(text.split()) and item != text.split() for item in words)
    assert sum(len(set(item) & set(text.split())) for item in words) > 0.6 * 7 * 300
    assert not any("[MASK]" in perturb_text(text, chance, known, None) for _ in range(50))
    assert all(perturb_text("dog", chance, known, None) for _ in range(50))
