"""Other people's data: what the three forms become, and what is left out."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import drawn_picture

from visavis.models.training.data import examples_of, load_photos
from visavis.models.training.data_import import DataFormat, import_data


def write(file: Path, data: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data), encoding="utf-8")


def photo(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(drawn_picture())
    return file


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


def test_coco_captions(source: Path, tmp_path: Path) -> None:
    photo(source / "train2017" / "7.jpg")
    photo(source / "val2017" / "8.jpg")
    photo(tmp_path / "secret.jpg")
    for split, names in (("train2017", {7: "7.jpg", 9: "9.jpg"}), ("val2017", {8: "8.jpg", 6: "../../secret.jpg"})):
        said = [{"image_id": key, "caption": f" photo {key}, {n} "} for key in names for n in range(2)]
        images = [{"id": key, "file_name": name} for key, name in names.items()]
        write(source / "annotations" / f"captions_{split}.json", {"images": images, "annotations": said})
    report = import_data(DataFormat.COCO, source, tmp_path / "out")
    assert (report.photos, report.missing) == (2, 2)
    expected = {"image": "images/train2017/7.jpg", "captions": ["photo 7, 0", "photo 7, 1"]}
    assert lines(tmp_path / "out" / "captions.train.jsonl") == [expected]
    assert [row["image"] for row in lines(tmp_path / "out" / "captions.dev.jsonl")] == ["images/val2017/8.jpg"]
    (read,) = load_photos([tmp_path / "out"])
    assert read.captions == ["Photo 7, 0.", "Photo 7, 1."] and read.path.read_bytes() == drawn_picture()


def test_vqa_answers_that_people_agree_on(source: Path, tmp_path: Path) -> None:
    photo(source / "train2014" / "COCO_train2014_000000000042.jpg")
    asked = [{"question_id": n, "image_id": 42, "question": f"question {n}?"} for n in (1, 2)]
    write(source / "v2_OpenEnded_mscoco_train2014_questions.json", {"questions": asked})
    given = {1: ["red"] * 5 + ["brown"] * 3 + ["pink"] * 2, 2: list("abcdefghij")}
    annotations = [
        {"question_id": n, "image_id": 42, "multiple_choice_answer": "a", "answers": [{"answer": a} for a in given[n]]}
        for n in (1, 2)
    ]
    write(source / "v2_mscoco_train2014_annotations.json", {"annotations": annotations})
    import_data(DataFormat.VQAV2, source, tmp_path / "out")
    rows = lines(tmp_path / "out" / "questions.train.jsonl")
    assert [(row["question"], row["answers"]) for row in rows] == [
        ("question 1?", ["red", "brown"]),
        ("question 2?", ["a"]),
    ]


def test_llava_conversations(source: Path, tmp_path: Path) -> None:
    photo(source / "coco" / "1.jpg")
    talk = [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A dog."},
        {"from": "human", "value": "Where is it?"},
        {"from": "gpt", "value": "It lies on a green sofa."},
    ]
    write(source / "chat.json", [{"id": 1, "image": "coco/1.jpg", "conversations": talk}, {"conversations": talk}])
    import_data(DataFormat.LLAVA, source, tmp_path / "out")
    (row,) = lines(tmp_path / "out" / "dialogues.train.jsonl")
    assert row["turns"] == [
        {"question": "What is it?", "answer": "A dog.", "short": "A dog"},
        {"question": "Where is it?", "answer": "It lies on a green sofa."},
    ]
    (read,) = load_photos([tmp_path / "out"])
    asked = [(item.question, item.answer) for item in examples_of(read, random.Random(0), short_share=1.0)]
    assert asked == [
        ("What is it?", "A dog."),
        ("What is it? In one word.", "A dog"),
        ("Where is it?", "It lies on a green sofa."),
    ]


def test_a_second_import_writes_the_same(source: Path, tmp_path: Path) -> None:
    photo(source / "1.jpg")
    talk = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A dog."}]
    write(source / "a.json", [{"image": "1.jpg", "conversations": talk}])
    for _ in range(2):
        assert import_data(DataFormat.LLAVA, source, tmp_path / "out").lines == {"dialogues.train.jsonl": 1}
    assert (source / "1.jpg").read_bytes() == drawn_picture()


def test_nothing_to_read_is_said(source: Path, tmp_path: Path) -> None:
    source.mkdir()
    with pytest.raises(ValueError, match=r"holds no captions_\*\.json"):
        import_data(DataFormat.COCO, source, tmp_path / "out")
    (source / "x.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.json is no JSON file"):
        import_data(DataFormat.LLAVA, source, tmp_path / "out")
    write(source / "x.json", [{"image": "gone.jpg", "conversations": [{"from": "human", "value": "a"}] * 2}])
    with pytest.raises(ValueError, match="none of the photos"):
        import_data(DataFormat.LLAVA, source, tmp_path / "out")


def test_photos_that_lie_in_their_place_already_stay_there(tmp_path: Path) -> None:
    kept = photo(tmp_path / "images" / "1.jpg")
    talk = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A dog."}]
    write(tmp_path / "images" / "a.json", [{"image": "1.jpg", "conversations": talk}])
    import_data(DataFormat.LLAVA, tmp_path / "images", tmp_path)
    assert kept.read_bytes() == drawn_picture()
    assert [read.path for read in load_photos([tmp_path])] == [kept]
