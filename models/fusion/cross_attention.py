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

from visavis.models.attention import Attention, FeedForward
from visavis.models.kv_cache import KeyValue


class FusionLayer(nn.Module):
    """Self-attention over the text, gated cross-attention to the patches, feed-forward; all pre-norm."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.feed_forward = FeedForward(width, inner, dropout)
        self.cross_gate = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, text: Tensor, image: KeyValue, text_mask: Tensor, patch_mask: Tensor | None) -> Tensor:
        """(B, T, D) text states and the patches' keys and values -> (B, T, D)."""
        normed = self.self_norm(text)
        mixed = self.self_attention(normed, self.self_attention.remember(normed), text_mask)
        text = text + self.dropout(mixed)
        seen = self.cross_attention(self.cross_norm(text), image, patch_mask)
        text = text + self.cross_gate.tanh() * self.dropout(seen)
        return text + self.dropout(self.feed_forward(self.feed_norm(text)))  # type: ignore[no-any-return]


class CrossAttentionFusion(nn.Module):
    """A stack of gated layers. The patches' keys and values depend on the picture alone: made once a picture."""

    def __init__(self, layers: int, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(width, heads, inner, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def remember(self, patches: Tensor) -> tuple[KeyValue, ...]:
        """(B, P, D) projected patches -> one `KeyValue` a layer."""
        attentions: list[Any] = [layer.cross_attention for layer in self.layers]
        return tuple(attention.remember(patches) for attention in attentions)

    def forward(
        self, text: Tensor, image: Sequence[KeyValue], text_mask: Tensor, patch_mask: Tensor | None = None
    ) -> Tensor:
        """Fuse once a turn.

        Args:
            text: text states (B, T, D).
            image: what `remember` gave, rows aligned with `text`.
            text_mask, patch_mask: broadcast to (B, 1, T, T) and (B, 1, T, P), True means may attend; no patch mask
                means all.

        Returns:
            Fused text states (B, T, D).
        """
        for layer, memory in zip(self.layers, image, strict=True):
            text = layer(text, memory, text_mask, patch_mask)
        return self.norm(text)  # type: ignore[no-any-return]
