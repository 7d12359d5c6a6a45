"""Which parameters move, how fast, when, and in which precision: what an optimiser is told.

It knows the names of the model's parts, but neither data nor losses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from visavis.models.training.settings import TrainingSettings
from visavis.models.visavis_model import VisavisModel

PRETRAINED_LR_SCALE = 0.1
"""Of the object tower's head, and of the layers that `mmbt` takes over from BERT."""


def freeze(model: VisavisModel, settings: TrainingSettings) -> dict[str, nn.Parameter]:
    """Trained parameters by name; the rest asks for no gradient.

    Raises:
        ValueError: `trained` names parts that the model has not.
    """
    learning = later_blocks(model, settings.vision_blocks)
    for name, parameter in model.named_parameters():
        tower = name.startswith("encoder.vision.") or (name.startswith("encoder.text.") and not settings.text_lr_scale)
        frozen = (tower and not name.startswith(learning)) or "embeddings.word_embeddings" in name
        parameter.requires_grad_(not frozen and (not settings.trained or name.startswith(settings.trained)))
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not trained:
        raise ValueError(f"the model has no part whose name begins with {' or '.join(settings.trained)}")
    return trained


def later_blocks(model: VisavisModel, count: int) -> tuple[str, ...]:
    """Beginnings of the names of the image encoder's last `count` blocks and of the norm behind them."""
    if not count:
        return ()
    tower = "encoder.vision.tower"
    blocks = len(getattr(model.encoder.vision.tower, "blocks", ()))
    return (*(f"{tower}.encoder.layer.{number}." for number in range(blocks - count, blocks)), f"{tower}.layernorm.")


def parameter_groups(parameters: dict[str, nn.Parameter], settings: TrainingSettings) -> list[dict[str, Any]]:
    """Layer-wise rates: pretrained parts move slowly. Matrices alone decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = settings.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((_scale(name, settings), decay), []).append(parameter)
    return [{"params": values, "scale": scale, "weight_decay": decay} for (scale, decay), values in groups.items()]


def _scale(name: str, settings: TrainingSettings) -> float:
    if name.endswith("cross_gate"):
        return settings.gate_lr_scale
    scales = {
        "encoder.text.": settings.text_lr_scale,
        "encoder.vision.": settings.vision_lr_scale,
        "encoder.image_projection.head.": PRETRAINED_LR_SCALE,
        "encoder.fusion.bert.": PRETRAINED_LR_SCALE,
    }
    return next((scale for part, scale in scales.items() if name.startswith(part)), 1.0)


def schedule(step: int, warmup_steps: int, done: float) -> float:
    """Linear warm-up, then a cosine down to a hundredth (Loshchilov and Hutter 2017)."""
    cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2
    return cosine * min(1.0, (step + 1) / max(1, warmup_steps))


def autocast(precision: str) -> Callable[[], Any]:
    """bf16 autocast where the processor has it in hardware; emulated it is a hundred times slower than fp32."""
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"precision must be auto, bf16 or fp32, not {precision!r}")
    if precision == "bf16" or (precision == "auto" and _bf16_is_faster()):
        return lambda: torch.autocast("cpu", torch.bfloat16)
    return nullcontext


def _bf16_is_faster() -> bool:
    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(256, 256, dtype=dtype)
        _ = matrix @ matrix
        start = time.perf_counter()
        _ = matrix @ matrix
        return time.perf_counter() - start

    return seconds(torch.bfloat16) < seconds(torch.float32)
