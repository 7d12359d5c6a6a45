"""Towers of the kinds that we do not have ourselves: any vision model and any BERT-like text model of transformers.

Imported for a model that has one and not otherwise: transformers takes longer to import than a question to answer.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from visavis.models.errors import ModelError
from visavis.models.transformers_classes import VisavisForConditionalGeneration


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


def translated(folder: Path) -> VisavisForConditionalGeneration:
    """A checkpoint that `save_pretrained` wrote: it stores some towers under the names of older releases.

    Raises:
        ModelError: it does not fit its config.json.
    """
    disable_progress_bar()  # loading takes a blink; a bar would only disturb what the caller prints
    set_verbosity_error()  # what does not fit is told below, in one sentence instead of a report
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, info = VisavisForConditionalGeneration.from_pretrained(folder, **options)
    if wrong := [*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])]:
        raise ModelError(f"the checkpoint in {folder} does not fit its config.json: {wrong[0]} is missing or misshapen")
    loaded: VisavisForConditionalGeneration = model
    return loaded
