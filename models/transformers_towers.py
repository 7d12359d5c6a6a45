"""Towers of the kinds that we do not have ourselves: any vision model and any BERT-like text model of transformers.

Imported for a model that has one and not otherwise: transformers takes longer to import than a question to answer.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from visavis.models.errors import ModelError
from visavis.models.transformers_classes import VisavisForConditionalGeneration


class VisionTower(nn.Module):
    """The last hidden states of a vision model."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.model = _class_of(config)._from_config(config)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pixels -> (B, P, D_v)."""
        return self.model(pixel_values=pixel_values).last_hidden_state  # type: ignore[no-any-return]


class TextTower(nn.Module):
    """The last hidden states of a text model, which need not know segments."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.model = _class_of(config)._from_config(config, **_without_pooler(config))
        self._knows_types = "token_type_ids" in inspect.signature(self.model.forward).parameters

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(B, T) ids, mask and segments -> (B, T, D_t)."""
        types = {"token_type_ids": token_type_ids} if self._knows_types else {}
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return states.last_hidden_state  # type: ignore[no-any-return]


def pretrained_tower(folder: Path, part: str) -> PreTrainedModel:
    """The `vision` or `text` model of a folder with its weights; of CLIP or SigLIP, which hold both, the one asked for.

    Raises:
        OSError: the folder holds no such model. ValueError: a weight is missing.
    """
    disable_progress_bar()
    set_verbosity_error()  # the other tower's weights are left over
    whole = AutoConfig.from_pretrained(folder, local_files_only=True)
    config = getattr(whole, f"{part}_config", whole)
    options: dict[str, Any] = {"config": config, "output_loading_info": True, "local_files_only": True}
    options |= _without_pooler(config) if part == "text" else {}
    model, info = _class_of(config).from_pretrained(folder, dtype=torch.float32, **options)
    if missing := sorted(name for name in info["missing_keys"] if not name.startswith("pooler.")):
        raise ValueError(f"the {part} tower in {folder} lacks the weight {missing[0]}")
    loaded: PreTrainedModel = model
    return loaded


def _class_of(config: PreTrainedConfig) -> Any:
    """`AutoModel` does not know every tower: SigLIP's text model, for one, is only found by its name."""
    if type(config) in MODEL_MAPPING:
        return MODEL_MAPPING[type(config)]
    return getattr(transformers, type(config).__name__.removesuffix("Config") + "Model")


def _without_pooler(config: PreTrainedConfig) -> dict[str, bool]:
    return {"add_pooling_layer": False} if config.model_type in ("bert", "roberta") else {}


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
