"""The check of an accelerator, run on the processor: it finds equal answers equal, and different ones different."""

from pathlib import Path

import pytest

from visavis.models import gpu_check
from visavis.models.processor import Processor
from visavis.models.rivals import GenerateRival
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel


@pytest.fixture
def folder(tmp_path: Path, tiny_model: VisavisModel, tiny_processor: Processor) -> Path:
    export_checkpoint(tiny_model, tiny_processor, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "PICTURES", 2)
    monkeypatch.setattr(gpu_check, "TOKENS", 6)


def test_equal_answers_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--device", "cpu", "--model", str(folder)]) == 0
    assert capsys.readouterr().out.count("100.0%") == 2


def test_one_wrong_answer_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = GenerateRival.answer

    def wrong_about_dogs(rival: GenerateRival, turns: list[tuple[bytes, str, tuple[()], int]]) -> list[str]:
        return ["?"] if "dog" in turns[0][1] else answer(rival, turns)

    monkeypatch.setattr(GenerateRival, "answer", wrong_about_dogs)
    assert gpu_check.check(folder, "cpu") == {"kernel by kernel": 0.75, "recorded": 0.75}
    assert gpu_check.main(["--device", "cpu", "--model", str(folder)]) == 1


def test_a_device_that_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--device", "mps", "--model", str(folder)]) == 2
    assert "not available" in capsys.readouterr().out
