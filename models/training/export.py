"""A checkpoint to ship: safetensors of 16 bits or less in one shard a part, so that a tower that training did not touch
keeps its file byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from visavis.models.processor import Processor
from visavis.models.transformers_classes import VisavisConfig
from visavis.models.transformers_processors import VisavisProcessor
from visavis.models.visavis_model import VisavisModel
from visavis.models.weight_files import quantise

INDEX = "model.safetensors.index.json"


def export_checkpoint(model: VisavisModel, processor: Processor, folder: Path) -> None:
    """Write config, tokenizers, and `vision`, `objects`, `text` and `joint` shards; `from_pretrained` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: dict[str, dict[str, Tensor]] = {}
    for name, value in model.state_dict().items():
        shards.setdefault(shard_of(name), {}).update(_stored(name, value.detach().cpu()))
    for shard, tensors in shards.items():
        save_file(tensors, folder / shard, metadata={"format": "pt"})
    _write_index(shards, folder / INDEX)
    VisavisConfig.of(model.config).save_pretrained(folder)
    VisavisProcessor.of(processor).save_pretrained(folder)


def _stored(name: str, value: Tensor) -> dict[str, Tensor]:
    """The image encoder's matrices in 8 bits, other numbers in float16."""
    if name.startswith("encoder.vision.tower.") and name.endswith(".weight") and value.dim() == 2:
        return quantise(name, value)
    return {name: (value.half() if value.is_floating_point() else value).contiguous()}


def shard_of(name: str) -> str:
    """Which file holds the parameter `name`."""
    if name.startswith("encoder.vision.objects."):
        return "objects.safetensors"
    for part in ("vision", "text"):
        if name.startswith(f"encoder.{part}."):
            return f"{part}.safetensors"
    return "joint.safetensors"


def _write_index(shards: dict[str, dict[str, Tensor]], file: Path) -> None:
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    total = sum(value.nbytes for tensors in shards.values() for value in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    file.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def count_parameters(model: torch.nn.Module) -> int:
    """All parameters, trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())
