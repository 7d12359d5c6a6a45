"""Where a training run stands, so that a stopped one goes on: parameters, averages, optimiser, position.

Tensors are safetensors, numbers JSON; a checkpoint is written beside the old one and then takes its place.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Position:
    """`step` optimiser steps done, `photos` of the current `epoch` seen, `seconds` trained."""

    step: int = 0
    epoch: int = 0
    photos: int = 0
    seconds: float = 0.0


class WeightAverage:
    """An exponential moving average of the trained parameters (Polyak and Juditsky 1992), warmed up at the start."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, nn.Parameter], step: int) -> None:
        """Move towards the parameters after optimiser step number `step`."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in parameters.items():
            self.values[name].lerp_(value, weight)


def save_run(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
    position: Position,
    buffers: dict[str, Tensor],
) -> None:
    """Write `folder` anew, with what else objectives remember (`buffers`); a reader never sees half of it."""
    tensors = {f"parameter/{name}": value.detach() for name, value in parameters.items()}
    tensors |= {f"buffer/{name}": value for name, value in buffers.items()}
    tensors |= {f"average/{name}": value for name, value in average.values.items()}
    for name, parameter in parameters.items():
        for moment in (*MOMENTS, "step"):
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, part / "run.safetensors")
    (part / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def load_run(
    folder: Path,
    parameters: dict[str, nn.Parameter],
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
    buffers: dict[str, Tensor],
) -> Position:
    """Put everything back in place.

    Raises:
        ValueError: the checkpoint belongs to another set of trained parameters.
    """
    tensors = load_file(folder / "run.safetensors")
    position = Position(**json.loads((folder / "position.json").read_text(encoding="utf-8")))
    wanted = [f"parameter/{name}" for name in parameters] + [f"buffer/{name}" for name in buffers]
    if missing := [name.partition("/")[2] for name in wanted if name not in tensors]:
        raise ValueError(f"{folder} does not hold {missing[0]}: it was made with other settings")
    for name, buffer in buffers.items():
        buffer.copy_(tensors[f"buffer/{name}"])
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"parameter/{name}"])
        average.values[name].copy_(tensors[f"average/{name}"])
        if f"{MOMENTS[0]}/{name}" in tensors:
            optimizer.state[parameter] = _moments(tensors, name, position.step)
    return position


def _moments(tensors: dict[str, Tensor], name: str, step: int) -> dict[str, Any]:
    state: dict[str, Any] = {moment: tensors[f"{moment}/{name}"] for moment in MOMENTS}
    state["step"] = tensors.get(f"step/{name}", torch.tensor(float(step)))
    return state


class Swapped:
    """Holds other values in parameters for a while."""

    def __init__(self, parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
        self.parameters, self.values = parameters, values

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data
