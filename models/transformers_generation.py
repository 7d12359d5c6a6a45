"""What transformers' `generate` asks of the model beside a `forward`: an encoder to call once, and a cache.

Shape letters: B turns, T text tokens, P patches, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache, LogitsProcessor
from transformers.modeling_outputs import BaseModelOutput

from visavis.models.kv_cache import KeyValue
from visavis.models.visavis_model import ImageState, VisavisModel, memory_mask


@dataclass
class EncodedMemory(BaseModelOutput):
    """What `generate` hands from step to step: memory states (B, P + M, D) and their mask (B, 1, 1, P + M)."""

    memory_mask: Tensor | None = None


class PromptEncoder(nn.Module):
    """Picture and text to memory states (B, P + M, D), in the form that `generate` expects of an encoder."""

    main_input_name = "input_ids"

    def __init__(self, model: VisavisModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        patch_mask: Tensor | None = None,
        **_: Any,
    ) -> EncodedMemory:
        """Pixels (B, 3, H, W) and text (B, T)."""
        if pixel_values is None:
            raise ValueError("pixel_values are needed: this model answers about a picture")
        image = self.model.image_state(self.model.encode_image(pixel_values))
        states = self.model.encoder.read(input_ids, attention_mask, token_type_ids)
        return encode_memory(self.model, image, states, attention_mask, patch_mask)


def encode_memory(
    model: VisavisModel, image: ImageState, states: Tensor, attention_mask: Tensor, patch_mask: Tensor | None = None
) -> EncodedMemory:
    """Pictures and text states (B, T, D_t), row by row, to what the decoder attends to."""
    fused, shown = model.encoder.fuse(image, states, attention_mask, patch_mask), model.encoder.fusion.shown
    mask = memory_mask(image.shown, fused.segments > 0, None if patch_mask is None else patch_mask[:, shown])
    return EncodedMemory(torch.cat([image.patches[:, shown], fused.states], dim=1), memory_mask=mask)


class GenerationCache:
    """What was said, and what is attended to. Beams are reordered by transformers, row by row."""

    def __init__(self, cache: EncoderDecoderCache) -> None:
        self._cache = cache
        self.length: int = cache.get_seq_length()

    def write(self, layer: int, new: KeyValue) -> KeyValue:
        """Store `new` behind what `layer` holds and return all of it."""
        return KeyValue(*self._cache.self_attention_cache.update(new.key, new.value, layer))

    def advance(self, positions: int) -> None:
        """Nothing to do: transformers counts by itself."""

    def memory(self, remember: Callable[[], Sequence[KeyValue]]) -> Sequence[KeyValue]:
        """Keys and values of the memory: made by `remember` at the first step."""
        kept = self._cache.cross_attention_cache
        if not self._cache.is_updated.get(0):
            for layer, made in enumerate(remember()):
                kept.update(made.key, made.value, layer)
                self._cache.is_updated[layer] = True
        layers: Any = kept.layers
        return [KeyValue(layer.keys, layer.values) for layer in layers]


class NoStutter(LogitsProcessor):
    """No token from `first_piece` on twice running, as an engine has it (`sampling`)."""

    def __init__(self, first_piece: int) -> None:
        self.first_piece = first_piece

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Answers so far (B, S) and scores (B, V) -> scores."""
        last = input_ids[:, -1:]
        return scores.scatter(1, last, scores.gather(1, last).masked_fill(last >= self.first_piece, -torch.inf))
