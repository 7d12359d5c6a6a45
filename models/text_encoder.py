"""The text encoder: token ids to text features, by our BERT or any BERT-like transformers model.

Shape letters: B turns, T text tokens, D_t the tower's width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from visavis.models.bert import Bert
from visavis.models.tower_configs import BertConfig


class TextEncoder(nn.Module):
    """A bidirectional encoder of the question and the dialogue so far."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.tower = create_tower(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids -> (B, T, D_t); `attention_mask` (B, T) is 1 or True for real tokens."""
        return self.tower(input_ids, attention_mask, token_type_ids)  # type: ignore[no-any-return]


def create_tower(config: Any) -> nn.Module:
    """Ids, mask and segments (B, T) -> last hidden states (B, T, D_t). Only a kind that is not ours imports
    transformers."""
    if isinstance(config, BertConfig):
        return Bert(config)
    from visavis.models.transformers_towers import TextTower

    return TextTower(config)
