"""How exactly a model computes on a CPU: linear layers in 8 bits or bf16 where that is faster and harmless.

8 bits are dynamic: weights are rounded once, with a scale for each output channel; activations at every call, with a
scale for each row. Everything else (norms, attention, softmax, embeddings) stays in fp32.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from visavis.models.visavis_model import VisavisModel
from visavis.models.vision_encoder import ObjectTower

_GREATEST, _ZERO_POINT = 127, 128
_LEAST = 1e-12


class Precision(StrEnum):
    """`auto` is what `docs/performance.md` found best for the device."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


class Int8Linear(nn.Module):
    """A linear layer whose product is computed in 8 bits (oneDNN); gives float32.

    Each row of its input has a scale of its own, so that rows of a batch do not touch each other.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        self._scale = (weight.abs().amax(dim=1) / _GREATEST).clamp_min(_LEAST)
        rounded = (weight / self._scale[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._zeros = torch.zeros(weight.shape[0], dtype=torch.int32)
        self._bias = torch.zeros(weight.shape[0]) if linear.bias is None else linear.bias.detach().float()

    def forward(self, states: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        largest = torch.linalg.vector_norm(states, torch.inf, dim=-1, keepdim=True)
        scale = (largest / _GREATEST).clamp_min(_LEAST)
        rounded = (states / scale).add_(_ZERO_POINT + 0.5).to(torch.uint8)
        product = torch.ops.onednn.qlinear_pointwise(
            *(rounded, 1.0, _ZERO_POINT, self._packed, self._scale, self._zeros, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        return torch.addcmul(self._bias, product, scale)


class Bf16Linear(nn.Module):
    """A linear layer whose product is computed in bf16; gives float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().bfloat16(), requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().bfloat16(), requires_grad=False)

    def forward(self, states: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return nn.functional.linear(states.bfloat16(), self.weight, self.bias).float()


LAYERS: dict[Precision, type[Int8Linear] | type[Bf16Linear]] = {
    Precision.INT8: Int8Linear,
    Precision.BF16: Bf16Linear,
}


def serve_with(model: VisavisModel, precision: Precision) -> Precision:
    """Lower the parts that run once a picture or once a turn, in place; gives the precision that was chosen.

    The decoder's own layers stay as they are: they run once a token, for few rows, and heat maps need their gradients.
    """
    chosen = best_for(model.device) if precision is Precision.AUTO else precision
    if chosen in LAYERS:
        encoder = model.encoder
        parts: list[Any] = [encoder.vision.tower, encoder.image_projection, encoder.text, encoder.fusion]
        for part in parts:
            lower(part, chosen)
        attentions: list[Any] = [layer.cross_attention for layer in model.decoder.layers]
        for attention in attentions:
            attention.key_value = LAYERS[chosen](attention.key_value)
        _lower_convolutions(encoder.vision.objects)
    return chosen


def _lower_convolutions(objects: ObjectTower | None) -> None:
    """bf16 for either choice, where the processor has it in hardware: 8-bit convolutions need fitted scales."""
    if objects is not None and getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        objects.network.bfloat16()


def best_for(device: torch.device) -> Precision:
    """8 bits where the processor multiplies them quickly and without overflow; else nothing was measured: fp32."""
    has_instructions = getattr(torch.cpu, "_is_vnni_supported", lambda: False)()
    return Precision.INT8 if device.type == "cpu" and has_instructions else Precision.FP32


def lower(part: nn.Module, precision: Precision) -> None:
    """Replace every linear layer inside of a part."""
    for name, child in list(part.named_children()):
        if isinstance(child, nn.Linear):
            setattr(part, name, LAYERS[precision](child))
        else:
            lower(child, precision)
