"""Several checkpoints of one beginning made one by the mean of their weights (Wortsman et al. 2022, "Model soups").

Runs of different seeds that start from one checkpoint stay close enough for their mean to be as good as the best of
them or better, so several processes can train without a word to each other and meet afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel


def average_command(checkpoints: Sequence[Path], output: Path) -> None:
    """Write the mean of `checkpoints` to `output`, without a calibration: `visavis calibrate` makes a new one.

    Raises:
        ValueError: fewer than two, or models that are not of one kind with one vocabulary.
        ModelError: a folder holds no checkpoint.
    """
    if len(checkpoints) < 2:
        raise ValueError("an average needs two checkpoints or more")
    first, *others = (load_model(folder, "cpu") for folder in checkpoints)
    for folder, other in zip(checkpoints[1:], others, strict=True):
        if not _are_alike(first, other):
            raise ValueError(f"{folder} is not the same kind of model as {checkpoints[0]}, or has another vocabulary")
    model, processor = first
    mean = mean_of([model.state_dict(), *(other.state_dict() for other, _ in others)])
    averaged = VisavisModel(replace(model.config, calibration=None))
    averaged.load_state_dict(mean)
    export_checkpoint(averaged, processor, output)


def mean_of(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each number; what is no fraction is the first one's."""
    return {
        name: sum((state[name] for state in states[1:]), first) / len(states) if first.is_floating_point() else first
        for name, first in states[0].items()
    }


def _are_alike(one: tuple[VisavisModel, Processor], other: tuple[VisavisModel, Processor]) -> bool:
    configs = [replace(model.config, calibration=None) for model, _ in (one, other)]
    words = [[part.tokenizer.get_vocab() for part in (to.questions, to.answers)] for _, to in (one, other)]
    return configs[0] == configs[1] and words[0] == words[1]
