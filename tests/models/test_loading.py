"""Broken checkpoints get one clear sentence."""

import json
from pathlib import Path

import pytest

from visavis.models.checkpoint_files import EMBEDDED, shard_names, shown_name
from visavis.models.errors import ModelError
from visavis.models.loading import load_model, pick_device
from visavis.models.processor import Processor
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel


@pytest.fixture
def checkpoint(tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path) -> Path:
    export_checkpoint(tiny_model, tiny_processor, tmp_path)
    return tmp_path


def test_a_whole_checkpoint_loads(checkpoint: Path) -> None:
    model, _ = load_model(checkpoint, "cpu")
    assert not model.training
    assert shard_names(checkpoint) == ["joint.safetensors", "text.safetensors", "vision.safetensors"]


def test_a_missing_folder_shard_or_kind_is_named(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="there is no visavis checkpoint in"):
        load_model(checkpoint / "nowhere")
    (checkpoint / "text.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the model file .*text.safetensors is missing"):
        load_model(checkpoint)
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "llava"}), encoding="utf-8")
    with pytest.raises(ModelError, match="holds a 'llava' model, expected 'visavis'"):
        load_model(checkpoint)


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100, b"\x80\x04\x95pickle"])
def test_a_corrupted_shard_is_refused(checkpoint: Path, damage: bytes) -> None:
    (checkpoint / "joint.safetensors").write_bytes(damage)
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(checkpoint)


def test_weights_of_another_shape_are_refused_in_one_sentence(
    checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    config["decoder"]["intermediate_size"] = 48
    (checkpoint / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"does not fit its config.json: decoder\..* is missing or misshapen"):
        load_model(checkpoint)
    assert capfd.readouterr() == ("", "")


def test_names_show_no_path(tmp_path: Path) -> None:
    assert shown_name(EMBEDDED) == "visavis-embedded"
    assert shown_name(tmp_path / "mine") == "mine"


def test_devices() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ModelError, match=r"the device 'tpu' is not available here; there is .*cpu"):
        pick_device("tpu")
