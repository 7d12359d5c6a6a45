"""Recall against a case by hand, and measured on a tiny model."""

from pathlib import Path

import pytest
import tiny_checkpoint
import torch

from visavis.models.errors import NoSharedSpace
from visavis.models.processor import Processor
from visavis.models.training.retrieval import measure_retrieval, recalls
from visavis.models.visavis_model import VisavisModel


def test_recall_by_hand() -> None:
    """Three pictures; the first has two captions, of which one is found at once, the other after two wrong pictures."""
    likeness = torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.2, 0.3, 0.4, 0.2], [0.1, 0.2, 0.8, 0.1]])
    figures = recalls(likeness, torch.tensor([0, 0, 1, 2]))
    # caption -> picture: ranks 0, 2, 2, 2
    assert figures["r1"] == pytest.approx(1 / 4)
    assert figures["r5"] == figures["r10"] == figures["caption_r5"] == 1
    # picture -> best caption: 0.9 of four; 0.4, the best; 0.1 behind two others and equal to one
    assert figures["caption_r1"] == pytest.approx(2 / 3)


def test_a_tiny_model_is_measured(tiny_processor: Processor, tmp_path: Path) -> None:
    model = tiny_checkpoint.tiny_model(tiny_processor, shared={"size": 8})
    captioned = []
    for number, color in enumerate(("red", "blue", "green")):
        (tmp_path / f"{color}.png").write_bytes(tiny_checkpoint.drawn_picture(color))
        captioned.append((tmp_path / f"{color}.png", [f"a {color} dog", "what is it?"][: 1 + number % 2]))
    done: list[int] = []
    figures = measure_retrieval(model, tiny_processor, captioned, done.append)
    assert done == [1, 2, 3]
    assert figures["n"] == 3 and figures["r5"] == figures["caption_r5"] == 1
    assert 0 <= figures["r1"] <= 1 and 0 < figures["gap"] <= 2


def test_a_model_without_the_space_cannot_be_measured(
    tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(tiny_checkpoint.drawn_picture())
    with pytest.raises(NoSharedSpace):
        measure_retrieval(tiny_model, tiny_processor, [(tmp_path / "a.png", ["a dog"])])
