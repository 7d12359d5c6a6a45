"""The text encoder: token ids to text features, by any BERT-like transformers model.

Shape letters: B turns, T text tokens, D_t the tower's width.
"""

from __future__ import annotations

import inspect

from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig


class TextEncoder(nn.Module):
    """A bidirectional encoder of the question and the dialogue so far."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        options = {"add_pooling_layer": False} if config.model_type in ("bert", "roberta") else {}
        self.tower = AutoModel.from_config(config, **options)
        self._knows_types = "token_type_ids" in inspect.signature(self.tower.forward).parameters

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids -> (B, T, D_t); `attention_mask` (B, T) is 1 or True for real tokens."""
        options = {"token_type_ids": token_type_ids} if self._knows_types else {}
        states = self.tower(input_ids=input_ids, attention_mask=attention_mask, **options)
        return states.last_hidden_state  # type: ignore[no-any-return]
