"""`visavis average`: the mean of checkpoints, and which of them have one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from visavis.bot.cli import app
from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.training.averaging import mean_of
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel


@pytest.fixture
def folder(tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path) -> Path:
    """`first`, and `second` with another decoder."""
    export_checkpoint(tiny_model, tiny_processor, tmp_path / "first")
    other = VisavisModel(tiny_model.config)
    other.load_state_dict(tiny_model.state_dict())
    with torch.no_grad():
        for parameter in other.decoder.parameters():
            parameter.add_(1.0)
    export_checkpoint(other, tiny_processor, tmp_path / "second")
    return tmp_path


def average(*folders: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["average", *map(str, folders), "--output", str(folders[0].parent / "mean")])
    return result.exit_code, result.output


def test_the_mean_lies_between_and_what_is_the_same_stays(folder: Path) -> None:
    assert average(folder / "first", folder / "second")[0] == 0
    models = {name: load_model(folder / name, "cpu")[0] for name in ("first", "second", "mean")}
    first, second, mean = (model.decoder.norm.weight for model in models.values())
    assert not torch.equal(first, second)
    assert torch.allclose(mean, (first + second) / 2, atol=1e-3)
    assert models["mean"].config.calibration is None
    for shard in ("text.safetensors", "vision.safetensors"):
        assert (folder / "mean" / shard).read_bytes() == (folder / "first" / shard).read_bytes()


def test_what_has_no_mean_is_refused(folder: Path, tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    smaller = replace(tiny_model.config, decoder=replace(tiny_model.config.decoder, intermediate_size=8))
    export_checkpoint(VisavisModel(smaller), tiny_processor, folder / "other")
    for others, reason in (([], "two checkpoints"), ([folder / "other"], "not the same kind")):
        code, said = average(folder / "first", *others)
        assert code == 2 and reason in said
    assert not (folder / "mean").exists()


def test_whole_numbers_are_not_averaged() -> None:
    states = [{"a": torch.tensor([1.0]), "n": torch.tensor([1])}, {"a": torch.tensor([4.0]), "n": torch.tensor([2])}]
    mean = mean_of(states)
    assert mean["a"].item() == 2.5 and mean["n"].item() == 1
