"""`visavis train` from a folder of data to a checkpoint that can be served."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_checkpoint

from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.training.export import export_checkpoint
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.train_command import train_command
from visavis.models.visavis_model import VisavisModel


@pytest.fixture
def settings(tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path) -> TrainingSettings:
    export_checkpoint(tiny_model, tiny_processor, tmp_path / "start")
    rows = []
    for color in ("red", "blue", "green"):
        (tmp_path / f"{color}.png").write_bytes(tiny_checkpoint.drawn_picture(color))
        rows.append({"image": f"{color}.png", "captions": [f"a {color} dog ."]})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "captions.train.jsonl").write_text(lines, encoding="utf-8")
    return TrainingSettings(
        data=(str(tmp_path),),
        start_from=str(tmp_path / "start"),
        output=str(tmp_path / "run"),
        epochs=2,
        batch_photos=2,
        threads=1,
        precision="fp32",
    )


def test_a_run_ends_in_a_checkpoint_and_goes_on_when_it_gets_longer(
    settings: TrainingSettings, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = train_command(settings)
    model, _ = load_model(checkpoint, "cpu")
    assert model.config.fusion.kind == "cross_attention"
    assert json.loads((Path(settings.output) / "settings.json").read_text(encoding="utf-8"))["epochs"] == 2
    assert json.loads((Path(settings.output) / "run/position.json").read_text(encoding="utf-8"))["step"] == 4
    train_command(replace(settings, epochs=3))
    assert "going on after step 4, 67% done" in capfd.readouterr().err
    assert json.loads((Path(settings.output) / "run/position.json").read_text(encoding="utf-8"))["step"] == 6


def test_towers_that_are_not_retrained_keep_their_files(settings: TrainingSettings) -> None:
    checkpoint = train_command(settings)
    for shard, same in (("vision.safetensors", True), ("text.safetensors", True), ("joint.safetensors", False)):
        old, new = (folder / shard for folder in (Path(settings.start_from), checkpoint))
        assert (old.read_bytes() == new.read_bytes()) is same, shard


def test_a_new_model_needs_towers(settings: TrainingSettings) -> None:
    with pytest.raises(ValueError, match="a new model needs `towers`"):
        train_command(replace(settings, start_from=""))
