"""Concatenation: the mean of the picture's states beside the mean of the text's, one vector a turn.

The plainest of all fusions and the baseline of visual question answering with two pretrained encoders (ViT and BERT):
the two meet only in the vector, and the decoder, to which it is the whole memory, cannot look at any place.
Shape letters: B turns, T text tokens, P patches, K texts of all rows, D_v and D_t widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visavis.models.fusion.interface import Fused
from visavis.models.fusion.packing import last, pack, unpack
from visavis.models.kv_cache import KeyValue


def create_fusion_vector(
    images: Any, texts: Any, image_mask: Tensor | None = None, text_mask: Tensor | None = None
) -> Tensor:
    """What any two encoders say of B pictures and B texts, averaged and side by side: (B, D_v + D_t).

    Args:
        images, texts: states (B, P, D_v) and (B, T, D_t), or what an encoder of transformers (`last_hidden_state`) or
            ours (`patches`) returns.
        image_mask, text_mask: (B, P) and (B, T), 1 or True where a state counts; an attention mask serves. None
            counts all.

    Raises:
        ValueError: the numbers of pictures and texts differ.
    """
    seen, read = _states(images), _states(texts)
    if seen.shape[0] != read.shape[0]:
        raise ValueError(f"as many pictures as texts are needed, not {seen.shape[0]} and {read.shape[0]}")
    return torch.cat([masked_mean(seen, image_mask), masked_mean(read, text_mask)], dim=1)


def _states(said: Any) -> Tensor:
    return getattr(said, "last_hidden_state", getattr(said, "patches", said))  # type: ignore[no-any-return]


def masked_mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """(B, M, D) -> (B, D), the mean of the states that count; zeros where none does."""
    if mask is None:
        return states.mean(dim=1)
    counted = mask.to(states.dtype)[:, :, None]
    return (states * counted).sum(dim=1) / counted.sum(dim=1).clamp_min(1)


class ConcatFusion(nn.Module):
    """The fusion vector of each text and its picture, brought to the decoder's width: one memory position a text."""

    def __init__(self, width: int, dropout: float, *, tags: int = 0) -> None:
        super().__init__()
        self.seen, self.shown = last(tags)
        self.join = nn.Sequential(nn.Linear(2 * width, width), nn.LayerNorm(width), nn.Dropout(dropout))

    def remember(self, patches: Tensor) -> tuple[KeyValue, ...]:
        """Nothing but the patches themselves is needed."""
        return ()

    def forward(
        self,
        text: Tensor,
        patches: Tensor,
        memory: Sequence[KeyValue],
        segments: Tensor,
        patch_mask: Tensor | None = None,
    ) -> Fused:
        """As `FusionEncoder` says; M is the largest number of texts in a row."""
        texts = unpack(text, segments)
        mask = None if patch_mask is None else patch_mask[:, self.seen]
        picture = masked_mean(patches[:, self.seen], mask)[texts.row, None]
        vector = create_fusion_vector(picture, texts.states, text_mask=texts.mask)
        return pack(texts, self.join(vector)[:, None], texts.mask[:, :1], text.shape[0])
