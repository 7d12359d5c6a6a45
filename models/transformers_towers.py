"""Towers of the kinds that we do not have ourselves: any vision model and any BERT-like text model of transformers.

Imported for a model that has one and not otherwise: transformers takes longer to import than a question to answer.
"""

from __future__ import annotations

import inspect

from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig


class VisionTower(nn.Module):
    """The last hidden states of a vision model."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.model = AutoModel.from_config(config)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pixels -> (B, P, D_v)."""
        return self.model(pixel_values=pixel_values).last_hidden_state  # type: ignore[no-any-return]


class TextTower(nn.Module):
    """The last hidden states of a text model, which need not know segments."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        pooling = {"add_pooling_layer": False} if config.model_type in ("bert", "roberta") else {}
        self.model = AutoModel.from_config(config, **pooling)
        self._knows_types = "token_type_ids" in inspect.signature(self.model.forward).parameters

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids, mask and segments -> (B, T, D_t)."""
        types = {"token_type_ids": token_type_ids} if self._knows_types else {}
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return states.last_hidden_state  # type: ignore[no-any-return]
