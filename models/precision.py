"""How a model computes on a CPU: linear layers in 8 bits or bf16 where that is faster and harmless, all packed.

8 bits are dynamic: weights are rounded once, with a scale for each output channel; activations at every call, with a
scale for each row. Everything else (norms, attention, softmax, embeddings) stays in fp32.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from visavis.models.attention import ReadsTogether
from visavis.models.efficientnet_lite import SameConv2d
from visavis.models.generation_decoder import GenerationDecoder
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
        # These are the operators that are vectorised: a norm, or a cast to uint8, would cost as much as the product.
        scale = (states.abs().amax(dim=-1, keepdim=True) / _GREATEST).clamp_min(_LEAST)
        rounded = (states / scale).round_().to(torch.int8).view(torch.uint8).bitwise_xor_(_ZERO_POINT)
        product = torch.ops.onednn.qlinear_pointwise(
            *(rounded, 1.0, _ZERO_POINT, self._packed, self._scale, self._zeros, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        return torch.addcmul(self._bias, product, scale)


class PackedLinear(nn.Module):
    """A linear layer computed in `dtype`, its weights laid out once as oneDNN reads them; gives float32.

    Laid out at every call, weights would cost as much as the product where there are few rows.
    """

    dtype: ClassVar[torch.dtype] = torch.float32

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().to(self.dtype)
        self._bias = None if linear.bias is None else linear.bias.detach().to(self.dtype)
        self._is_packed = weight.device.type == "cpu" and torch.backends.mkldnn.is_available() and self._is_native()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self._is_packed else weight

    def forward(self, states: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        states = states.to(self.dtype)
        if not self._is_packed:
            return nn.functional.linear(states, self._weight, self._bias).float()
        product: Tensor = torch.ops.mkldnn._linear_pointwise(states, self._weight, self._bias, "none", [], "")
        return product.float()

    def _is_native(self) -> bool:
        return True


class Bf16Linear(PackedLinear):
    """The same in bf16."""

    dtype = torch.bfloat16

    def _is_native(self) -> bool:
        return has_bf16()


class PackedConvolution(nn.Module):
    """A convolution of the object tower with its weights laid out once as oneDNN reads them, in the weights' precision;
    clipping is part of it. The layout is that of the first picture's size."""

    def __init__(self, convolution: SameConv2d) -> None:
        super().__init__()
        self.weight, self._plain = convolution.weight, convolution
        self._packed: Tensor | None = None
        self._fused = ("hardtanh", [0.0, 6.0], "") if convolution.clips else ("none", [], "")

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        maps, padding = self._plain.pad(maps)
        sizes = (padding, self._plain.stride, (1, 1), self._plain.groups)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *sizes, maps.shape)
        convolved: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps, self._packed, self._plain.bias, *sizes, *self._fused
        )
        return convolved


LAYERS: dict[Precision, type[Int8Linear] | type[PackedLinear]] = {
    Precision.INT8: Int8Linear,
    Precision.BF16: Bf16Linear,
    Precision.FP32: PackedLinear,
}


def serve_with(model: VisavisModel, precision: Precision) -> Precision:
    """Prepare a model for serving, in place; gives the precision that was chosen.

    Parts that run once a picture or once a turn are lowered, or packed. Steps are taken with a copy of the decoder; its
    own layers stay as they are: heat maps need their gradients.
    """
    chosen = best_for(model.device) if precision is Precision.AUTO else precision
    if chosen is Precision.FP32 and model.device.type != "cpu":
        return chosen
    native = model.device.type == "cpu" and has_bf16()
    steps = Precision.BF16 if chosen is Precision.INT8 and native else chosen
    model.step_decoder = _for_steps(model.decoder, steps)
    model.memory_dtype = torch.bfloat16 if steps is Precision.BF16 and native else None
    encoder = model.encoder
    parts: list[Any] = [encoder.vision.tower, encoder.image_projection, encoder.text, encoder.fusion]
    for part in parts:
        lower(part, chosen)
    attentions: list[Any] = [layer.cross_attention for layer in model.decoder.layers]
    for attention in attentions:
        attention.key_value = LAYERS[chosen](attention.key_value)
    if encoder.vision.objects is not None:
        _serve_convolutions(encoder.vision.objects, chosen)
    return chosen


def _joined(layers: Sequence[nn.Linear]) -> nn.Linear:
    """One layer whose output is that of all, side by side."""
    joined = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers)).requires_grad_(False)
    joined.weight.copy_(torch.cat([layer.weight for layer in layers]))
    joined.bias.copy_(torch.cat([layer.bias for layer in layers]))
    return joined


def _for_steps(decoder: GenerationDecoder, precision: Precision) -> GenerationDecoder:
    """A copy; what chooses the word stays in fp32."""
    quick = copy.deepcopy(decoder)
    lower(quick, precision)
    vocabulary, width = decoder.token_embedding.weight.shape
    words = nn.Linear(width, vocabulary, bias=False, device="meta")
    words.weight = nn.Parameter(decoder.token_embedding.weight.detach(), requires_grad=False)
    quick.output = PackedLinear(words)
    return quick


def _serve_convolutions(objects: ObjectTower, precision: Precision) -> None:
    """bf16 for either lower choice, where the processor has it in hardware: 8-bit convolutions need fitted scales."""
    if precision is not Precision.FP32 and has_bf16():
        objects.network.bfloat16()
    if torch.backends.mkldnn.is_available() and objects.network.stem.weight.device.type == "cpu":
        _pack_convolutions(objects.network)


def _pack_convolutions(part: nn.Module) -> None:
    for name, child in list(part.named_children()):
        if isinstance(child, SameConv2d):
            setattr(part, name, PackedConvolution(child))
        else:
            _pack_convolutions(child)


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 itself."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def best_for(device: torch.device) -> Precision:
    """8 bits where the processor multiplies them quickly and without overflow; else nothing was measured: fp32."""
    has_instructions = getattr(torch.cpu, "_is_vnni_supported", lambda: False)()
    return Precision.INT8 if device.type == "cpu" and has_instructions else Precision.FP32


def lower(part: nn.Module, precision: Precision) -> None:
    """Replace every linear layer inside of a part; those that read the same states become one."""
    if isinstance(part, ReadsTogether):
        part.joined = LAYERS[precision](_joined(part.take_apart()))
        part.in_bf16 = precision is not Precision.FP32 and has_bf16()
    for name, child in list(part.named_children()):
        if isinstance(child, nn.Linear):
            setattr(part, name, LAYERS[precision](child))
        else:
            lower(child, precision)
