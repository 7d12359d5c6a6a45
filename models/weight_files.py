"""Weights on disk: float16, and 8-bit integers with a scale a row for towers that training never touches.

Rounding to 8 bits a row changes a frozen image encoder's features by less than float16 inference would, and halves the
largest file. `name` then holds int8 and `name_scale` the float16 scales, (rows, 1). Quantising what was dequantised
gives the same bytes again, so a tower's file never changes without a reason.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from visavis.models.checkpoint_files import shard_names

SCALE = "_scale"
STEPS = 127


def quantise(name: str, weight: Tensor) -> dict[str, Tensor]:
    """A matrix (rows, columns) -> int8 and float16 scales under their stored names."""
    largest = weight.float().abs().amax(dim=1, keepdim=True)
    scale = (largest / STEPS).half()
    scale[scale == 0] = 1
    rounded = (weight.float() / scale.float()).round().clamp(-STEPS, STEPS)
    return {name: rounded.to(torch.int8), name + SCALE: scale}


def read_weights(
    folder: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """All shards of a checkpoint, in `dtype`.

    Raises:
        OSError, SafetensorError: a file is missing or broken.
    """
    stored: dict[str, Tensor] = {}
    for shard in shard_names(folder):
        stored |= load_file(folder / shard, device=str(device))
    scales = {name.removesuffix(SCALE): stored.pop(name) for name in list(stored) if name.endswith(SCALE)}
    return {name: _in(dtype, tensor, scales.get(name)) for name, tensor in stored.items()}


def holds_integers(folder: Path) -> bool:
    """True if some weights of the folder need their scales: `read_weights` knows how, others do not."""
    index = folder / "model.safetensors.index.json"
    return index.is_file() and any(
        name.endswith(SCALE) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    )


def _in(dtype: torch.dtype, tensor: Tensor, scale: Tensor | None) -> Tensor:
    if scale is not None:
        return (tensor.float() * scale.float()).to(dtype)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
