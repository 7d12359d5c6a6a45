"""Other people's data in our form: COCO captions, VQA v2 questions and LLaVA conversations.

Photos are linked (copied where the file system cannot), annotations become JSON lines beside them. What names a photo
that is not there, or outside the source folder, is left out and counted.
COCO: Lin et al. 2014; VQA v2: Goyal et al. 2017; LLaVA: Liu et al. 2023.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

AGREED = 3
"""Of ten answers to a VQA question one counts as right if so many people gave it (Antol et al. 2015)."""
SHORT_WORDS = 3
_IMAGE_MARK = "<image>"


class DataFormat(StrEnum):
    """What `import_data` reads."""

    COCO = "coco"
    VQAV2 = "vqav2"
    LLAVA = "llava"


@dataclass(frozen=True)
class Row:
    """One line to write: the photo's file, the rest of the line, and which file it belongs to."""

    photo: Path
    kind: str
    split: str
    values: dict[str, Any]


@dataclass
class ImportReport:
    """What was written, and how much could not be."""

    lines: Counter[str]
    photos: int = 0
    missing: int = 0


def import_data(form: DataFormat, source: Path, destination: Path) -> ImportReport:
    """Read `source` and write `destination/images` and `captions|questions|dialogues.<split>.jsonl`, anew.

    Raises:
        ValueError: no annotation file of that form, or one that cannot be read as it.
        OSError: a folder cannot be read or written.
    """
    report = ImportReport(Counter())
    lines: dict[str, list[str]] = {}
    linked: set[Path] = set()
    for row in _READERS[form](source):
        photo = _inside(source, row.photo)
        if photo is None:
            report.missing += 1
            continue
        place = Path("images") / photo.relative_to(source.resolve())
        if photo not in linked:
            _link(photo, destination / place)
            linked.add(photo)
        name = f"{row.kind}.{row.split}.jsonl"
        lines.setdefault(name, []).append(json.dumps({"image": place.as_posix(), **row.values}, ensure_ascii=False))
    if not lines:
        raise ValueError(f"none of the photos that the annotations in {source} name is there")
    for name, rows in lines.items():
        (destination / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
        report.lines[name] = len(rows)
    report.photos = len(linked)
    return report


def _coco(source: Path) -> Iterator[Row]:
    """`annotations/captions_<split>.json` beside folders of photos named as the split."""
    for file in _files(source, "captions_*.json"):
        data, folder = _load(file), file.stem.removeprefix("captions_")
        captions: dict[Any, list[str]] = {}
        for item in data["annotations"]:
            captions.setdefault(item["image_id"], []).append(str(item["caption"]).strip())
        for image in data["images"]:
            if image["id"] in captions:
                yield Row(
                    Path(folder, image["file_name"]), "captions", _split(folder), {"captions": captions[image["id"]]}
                )


def _vqav2(source: Path) -> Iterator[Row]:
    """`v2_OpenEnded_mscoco_<split>_questions.json` and `v2_mscoco_<split>_annotations.json` beside COCO's photos."""
    for file in _files(source, "v2_OpenEnded_mscoco_*_questions.json"):
        folder = file.stem.removeprefix("v2_OpenEnded_mscoco_").removesuffix("_questions")
        asked = {item["question_id"]: item["question"] for item in _load(file)["questions"]}
        for item in _load(file.with_name(f"v2_mscoco_{folder}_annotations.json"))["annotations"]:
            photo = Path(folder, f"COCO_{folder}_{int(item['image_id']):012d}.jpg")
            values = {"question": asked[item["question_id"]], "answers": _agreed(item)}
            yield Row(photo, "questions", _split(folder), values)


def _agreed(item: dict[str, Any]) -> list[str]:
    given = Counter(str(answer["answer"]) for answer in item["answers"])
    return [answer for answer, count in given.most_common() if count >= AGREED] or [str(item["multiple_choice_answer"])]


def _llava(source: Path) -> Iterator[Row]:
    """Lists of `{"image", "conversations": [{"from", "value"}]}` in `*.json`, photos by their path."""
    for file in _files(source, "*.json"):
        for item in _load(file):
            turns = list(_turns(item["conversations"])) if "image" in item else []
            if turns:
                yield Row(Path(item["image"]), "dialogues", "train", {"turns": turns})


def _turns(conversation: Sequence[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Questions with the answers that follow them; an answer of a few words is its own short form."""
    for asked, answered in zip(conversation[::2], conversation[1::2], strict=False):
        if asked["from"] == "human" and answered["from"] == "gpt":
            answer = answered["value"].strip()
            turn = {"question": asked["value"].replace(_IMAGE_MARK, "").strip(), "answer": answer}
            yield turn | ({"short": answer.rstrip(".")} if len(answer.split()) <= SHORT_WORDS else {})


_READERS: dict[DataFormat, Callable[[Path], Iterator[Row]]] = {
    DataFormat.COCO: _coco,
    DataFormat.VQAV2: _vqav2,
    DataFormat.LLAVA: _llava,
}


def _files(source: Path, pattern: str) -> list[Path]:
    found = sorted(source.glob(pattern)) or sorted(source.glob(f"annotations/{pattern}"))
    if not found:
        raise ValueError(f"{source} holds no {pattern}, nor does its folder annotations/")
    return found


def _load(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON file: {error}") from error


def _split(folder: str) -> str:
    return "dev" if folder.startswith(("val", "dev")) else "train"


def _inside(source: Path, photo: Path) -> Path | None:
    """The photo's file under the source, where its own folder may be missing from the name (`train2017/1.jpg`)."""
    root = source.resolve()
    for place in (root / photo, root / photo.name, root / "images" / photo, root / "images" / photo.name):
        if place.resolve().is_relative_to(root) and place.is_file():
            return place.resolve()
    return None


def _link(photo: Path, place: Path) -> None:
    if place.exists() and place.samefile(photo):  # imported before, or SRC is DST: unlinking it could lose the photo
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    try:
        os.link(photo, place)
    except OSError:
        shutil.copyfile(photo, place)
