"""Lessons with swapped tags: the answer names what is shown, and mirrored texts swap sides."""

import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from visavis.models.config import ObjectConfig
from visavis.models.object_tags import ObjectTags
from visavis.models.processor import Processor
from visavis.models.training.batches import EpochRows, Mix
from visavis.models.training.data import CAPTION_REQUESTS, Photo, mirrored
from visavis.models.training.tag_lessons import TagLessons, nearest_kinds, rename, with_article

PHOTO = Photo(Path("a.jpg"), captions=["A brown dog runs.", "The dog runs on grass."])
NAMES = ["cat", "horse", "apple", "tabby"]


@pytest.fixture
def lessons(tiny_processor: Processor) -> TagLessons:
    tags = ObjectTags(ObjectConfig(kinds=4, tags=2, tag_tokens=6, read_tokens=12), 8)
    for row, name in zip(tags.tokens, NAMES, strict=True):
        ids = tiny_processor.encode_answer(" " + name)
        row[: len(ids)] = torch.tensor(ids)
    return TagLessons(tags, tiny_processor, ["stop", "road"])


def test_sure_tags_are_named_and_unsure_ones_are_not(lessons: TagLessons) -> None:
    assert lessons.names == NAMES
    chance = random.Random(1)
    sure = unsure = 0
    for _ in range(60):
        shown, examples = lessons.lesson(PHOTO, chance)
        kind, probability = shown.kinds[0]
        named = [item for item in examples if NAMES[kind] in item.answer]
        assert shown.sure is (probability >= 0.4)
        if shown.sure:
            sure += bool(named)
            assert named
        else:
            unsure += 1
            assert {item.answer for item in examples} >= set(PHOTO.captions)
        assert probability > shown.kinds[1][1]
    assert sure and unsure


def test_tags_beside_the_first_are_like_it(tiny_processor: Processor, lessons: TagLessons) -> None:
    weights = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert nearest_kinds(weights, 2) == [[1, 3], [0, 3], [3, 1], [2, 1]]
    lessons.neighbours = nearest_kinds(weights, 1)
    chance = random.Random(4)
    drawn = [tuple(kind for kind, _ in lessons.lesson(PHOTO, chance)[0].kinds) for _ in range(60)]
    alike = sum(second == lessons.neighbours[first][0] for first, second in drawn)
    assert 35 < alike < 60


def test_photos_without_captions_are_scenes_of_the_thing(lessons: TagLessons) -> None:
    chance = random.Random(5)
    for _ in range(20):
        shown, examples = lessons.lesson(Photo(Path("b.jpg")), chance)
        scenes = [item for item in examples if item.question in CAPTION_REQUESTS]
        assert len(scenes) == shown.sure
        assert all(NAMES[shown.kinds[0][0]] in item.answer for item in scenes)


def test_a_photo_of_a_dog_with_the_tags_of_another_animal_is_a_scene_of_that(lessons: TagLessons) -> None:
    chance = random.Random(6)
    for _ in range(20):
        shown, examples = lessons.lesson(PHOTO, chance)
        scenes = [item for item in examples if item.question in CAPTION_REQUESTS and "dog" not in item.answer]
        assert not shown.sure or all(NAMES[shown.kinds[0][0]] in item.answer for item in scenes)
        assert bool(scenes) == shown.sure


def test_what_is_named_is_affirmed_and_what_is_not_denied_after_it_was_named(lessons: TagLessons) -> None:
    chance, seen = random.Random(7), set()
    for _ in range(200):
        shown, examples = lessons.lesson(PHOTO, chance)
        name = with_article(NAMES[shown.kinds[0][0]])
        for item in examples:
            if item.question.startswith(("Is this a", "Is it a")):
                right = name in item.question
                assert item.answer.casefold().startswith("yes" if right else "no")
                seen.add((right, bool(item.history), "one word" in item.question))
    assert seen == {(right, told, short) for right in (0, 1) for told, short in ((0, 0), (1, 0), (0, 1))}


def test_a_name_is_said_after_any_description_and_a_colour_after_the_name(lessons: TagLessons) -> None:
    chance, colors = random.Random(8), 0
    for _ in range(60):
        shown, examples = lessons.lesson(PHOTO, chance)
        if shown.sure:
            name = with_article(NAMES[shown.kinds[0][0]])
            (after,) = [item for item in examples if item.history and item.history[0][0] in CAPTION_REQUESTS]
            assert name in after.answer and after.question not in CAPTION_REQUESTS
            (color,) = [item for item in examples if item.question == "What color is it?"]
            assert color.answer == "It is brown." and name in color.history[0][1]
            colors += 1
    assert colors


def test_words_that_are_shown_are_read(lessons: TagLessons) -> None:
    chance, read = random.Random(2), 0
    for _ in range(40):
        shown, examples = lessons.lesson(PHOTO, chance)
        if shown.words:
            read += 1
            words = lessons.processor.decode_answer(list(shown.words))
            assert any(words in item.answer for item in examples)
    assert read


def test_an_epoch_adds_lessons_mirrors_and_crops(lessons: TagLessons, tiny_processor: Processor) -> None:
    photos = [PHOTO] * 40
    rows = EpochRows(photos, tiny_processor, Mix(40, 16, mirror_share=0.5, crops=2, lesson_share=0.5), lessons)
    ((count, made),) = rows.batches(1)
    assert count == 40 and 50 < len(made) < 70
    assert 10 < sum(row.mirrored for row in made) < 30
    assert sum(row.shown is not None for row in made) == len(made) - 40
    seen = Counter(row.crop for row in made if row.shown is None)
    assert set(seen) == {0, 1, 2} and min(seen.values()) > 5
    assert all(row.crop == 0 and not row.mirrored for row in made if row.shown is not None)


@pytest.mark.parametrize(
    ("caption", "renamed"),
    [
        ("A brown dog runs.", "A brown tabby runs."),
        ("A dog and the dog.", "A tabby and the tabby."),
        ("A hotdog.", "A hotdog."),
    ],
)
def test_a_dog_is_renamed(caption: str, renamed: str) -> None:
    assert rename(caption, "tabby") == renamed


def test_articles() -> None:
    assert [with_article(name) for name in ("apple", "tabby", "sunglasses", "bus")] == [
        "an apple",
        "a tabby",
        "sunglasses",
        "a bus",
    ]


def test_left_and_right_change_places() -> None:
    assert mirrored("Left of the rightmost left-hand man, upright.") == "Right of the leftmost right-hand man, upright."
