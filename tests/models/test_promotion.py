"""`visavis promote`: a checkpoint takes another one's place only if it measures no worse."""

import asyncio
import json
from pathlib import Path

import pytest
import torch
from tiny_checkpoint import drawn_picture
from typer.testing import CliRunner

from visavis.bot.cli import app
from visavis.models.engine import InferenceEngine
from visavis.models.generation import GenerationRequest
from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.prompt import in_one_word
from visavis.models.training import promotion, train_command
from visavis.models.training.export import export_checkpoint
from visavis.models.training.settings import TrainingSettings
from visavis.models.visavis_model import VisavisModel

QUESTION = "is it the dog?"


@pytest.fixture
def folder(tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path) -> Path:
    """`good` knows the answer to the only dev question; `bad` has never learned anything."""
    export_checkpoint(tiny_model, tiny_processor, tmp_path / "good")
    torch.manual_seed(5)
    export_checkpoint(VisavisModel(tiny_model.config), tiny_processor, tmp_path / "bad")
    picture = tmp_path / "photo.png"
    picture.write_bytes(drawn_picture())
    said, other = (asyncio.run(answer(tmp_path / name, picture.read_bytes())) for name in ("good", "bad"))
    assert said and said != other
    line = json.dumps({"image": "photo.png", "question": QUESTION, "answers": [said]})
    (tmp_path / "questions.dev.jsonl").write_text(line + "\n", encoding="utf-8")
    return tmp_path


async def answer(checkpoint: Path, picture: bytes) -> str:
    with InferenceEngine(*load_model(checkpoint, "cpu")) as engine:
        request = GenerationRequest(in_one_word(QUESTION), (), engine.add_image(picture))
        return (await engine.generate(request)).text


def promote(folder: Path, name: str, *options: str) -> int:
    arguments = ["promote", str(folder / name), str(folder), "--to", str(folder / "served"), *options]
    return CliRunner().invoke(app, arguments).exit_code


def test_only_a_checkpoint_that_is_no_worse_is_promoted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "EMBEDDED", folder / "bad")  # what the first one is compared with
    assert promote(folder, "good") == 0
    served = (folder / "served" / "joint.safetensors").read_bytes()
    assert served == (folder / "good" / "joint.safetensors").read_bytes()
    (record,) = json.loads((folder / "served" / "promotion.json").read_text(encoding="utf-8"))
    assert record["figure"] == "accuracy" and record["after"] == 1.0

    assert promote(folder, "bad") == 1
    assert (folder / "served" / "joint.safetensors").read_bytes() == served
    assert not (folder / "served.before").exists()

    assert promote(folder, "bad", "--may-fall", "1") == 0
    assert (folder / "served.before" / "joint.safetensors").read_bytes() == served
    assert (folder / "served" / "joint.safetensors").read_bytes() != served
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith("served")) == [
        "served",
        "served.before",
    ]


def test_without_dev_files_nothing_is_decided(folder: Path) -> None:
    (folder / "questions.dev.jsonl").unlink()
    assert promote(folder, "good") == 2
    assert not (folder / "served").exists()


@pytest.mark.parametrize("given", ["liked", "liked/dialogues.train.jsonl"])
def test_what_people_liked_is_learned_beside_other_data(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "liked").mkdir()
    (tmp_path / "liked" / "dialogues.train.jsonl").touch()
    asked: list[TrainingSettings] = []

    def trained(settings: TrainingSettings, *, fresh: bool) -> Path:
        asked.append(settings)
        return tmp_path

    monkeypatch.setattr(train_command, "train_command", trained)
    assert CliRunner().invoke(app, ["train", "photos", "--feedback", str(tmp_path / given)]).exit_code == 0
    assert asked[0].data == ("photos", str(tmp_path / "liked"))
