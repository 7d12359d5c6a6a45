"""The table of times by part: everything is run, nothing is judged."""

from pathlib import Path

import pytest
import torch

from visavis.models import part_times
from visavis.models.precision import Precision
from visavis.models.processor import Processor
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel


def test_every_part_has_a_time_and_a_line(
    tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_checkpoint(tiny_model, tiny_processor, tmp_path)
    threads = torch.get_num_threads()
    monkeypatch.setattr(part_times, "TEXT_TOKENS", (3, 5))
    monkeypatch.setattr(part_times, "ROWS", (1, 2))
    monkeypatch.setattr(part_times, "TOKENS", 2)
    monkeypatch.setattr(part_times, "COMPANY_S", 0.1)
    monkeypatch.setattr(part_times, "COMPANY", ("a picture", "a question of 5 tokens", "a step of 2 rows"))
    try:
        times = part_times.part_times(tmp_path, Precision.FP32, 1)
        company = part_times.company_times(tmp_path, Precision.FP32, part_times.COMPANY)
    finally:
        torch.set_num_threads(threads)
    parts = ["a picture", "a question of 3 tokens", "a question of 5 tokens", "a step of 1 rows", "a step of 2 rows"]
    assert list(times) == parts and min(times.values()) > 0
    assert list(company) == list(part_times.COMPANY) and min(company.values()) > 0
    lines = part_times.table({"fp32": times, "twice": {part: 2.04 for part in times}}).splitlines()
    assert lines[0] == "|  | fp32 | twice |"
    assert [line.split(" | ")[-1] for line in lines[2:]] == ["2.0 |"] * 5
