"""Cross-attention fusion: text states attend to the picture's patches through gates that start at zero.

The tanh gate follows Flamingo (Alayrac et al. 2022, section 2.2), but one a channel, as LayerScale has it (Touvron et
al. 2021): a single gate a layer crosses zero again and again, turns the gradient of all that stands behind it round
each time, and never opened. With closed gates this is a text-only encoder.
Shape letters: B turns, T text tokens, P patches, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visavis.models.attention import Attention, FeedForward, SelfAttention
from visavis.models.fusion.interface import Fused
from visavis.models.kv_cache import KeyValue


class FusionLayer(nn.Module):
    """Self-attention over the text, gated cross-attention to the patches, feed-forward; all pre-norm."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = SelfAttention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.feed_forward = FeedForward(width, inner, dropout)
        self.cross_gate = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, text: Tensor, image: KeyValue, text_mask: Tensor | None, patch_mask: Tensor | None) -> Tensor:
        """(B, T, D) text states and the patches' keys and values -> (B, T, D)."""
        normed = self.self_norm(text)
        mixed = self.self_attention.attend(*self.self_attention.read(normed), text_mask)
        text = text + self.dropout(mixed)
        seen = self.cross_attention(self.cross_norm(text), image, patch_mask)
        text = text + self.cross_gate.tanh() * self.dropout(seen)
        return text + self.dropout(self.feed_forward(self.feed_norm(text)))  # type: ignore[no-any-return]


class CrossAttentionFusion(nn.Module):
    """A stack of gated layers. The patches' keys and values depend on the picture alone: made once a picture."""

    shown = slice(None)

    def __init__(self, layers: int, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(width, heads, inner, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def remember(self, patches: Tensor) -> tuple[KeyValue, ...]:
        """(B, P, D) projected patches -> one `KeyValue` a layer."""
        attentions: list[Any] = [layer.cross_attention for layer in self.layers]
        return tuple(attention.remember(patches) for attention in attentions)

    def forward(
        self,
        text: Tensor,
        patches: Tensor,
        memory: Sequence[KeyValue],
        segments: Tensor,
        patch_mask: Tensor | None = None,
    ) -> Fused:
        """As `FusionEncoder` says; the fused states stand where the text's stood, M = T."""
        seen = None if patch_mask is None else patch_mask.bool()[:, None, None]
        text_mask = _own_text(segments)
        for layer, image in zip(self.layers, memory, strict=True):
            text = layer(text, image, text_mask, seen)
        return Fused(self.norm(text), segments)


def _own_text(segments: Tensor) -> Tensor | None:
    """(B, T) -> (B, 1, T, T), True within a text (and within padding, which nobody reads); None where each row is one
    whole text: attention without a mask is faster."""
    if bool((segments == segments[:, :1]).all()):
        return None
    return (segments[:, :, None] == segments[:, None, :])[:, None]
