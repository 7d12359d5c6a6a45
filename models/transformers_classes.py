"""The model as transformers knows it: configuration and a model with `generate`, for its Auto classes.

Everything is the plain model's own (`config`, `visavis_model`); here stands only what transformers asks
for on top. Serving and training never import it: `export_checkpoint` does, since the files are transformers' own.
Shape letters: B turns, T text tokens, S answer tokens, P patches, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    EncoderDecoderCache,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import Seq2SeqLMOutput

from visavis.models.config import ModelConfig
from visavis.models.tower_configs import TowerConfig
from visavis.models.transformers_generation import EncodedMemory, GenerationCache, NoStutter, PromptEncoder
from visavis.models.visavis_model import VisavisModel
from visavis.models.weight_files import holds_integers, read_weights

PARTS = tuple(part.name for part in fields(ModelConfig))


class VisavisConfig(PreTrainedConfig):
    """`ModelConfig` with what `generate` and the Auto classes want to know beside it. Raises what that raises."""

    model_type = "visavis"

    vision: Any = None
    text: Any = None
    objects: Any = None
    fusion: Any = None
    decoder: Any = None
    calibration: Any = None
    photo_head: bool = False
    shared: Any = None
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True

    object_cells = ModelConfig.object_cells
    tag_rows = ModelConfig.tag_rows
    summary_size = ModelConfig.summary_size

    @classmethod
    def of(cls, config: ModelConfig) -> VisavisConfig:
        """The same configuration in this form, which knows how to save itself."""
        parts: dict[str, Any] = vars(config)
        return cls(**parts, architectures=[VisavisForConditionalGeneration.__name__])

    def __post_init__(self, **kwargs: Any) -> None:
        parts = ModelConfig.from_dict({name: getattr(self, name) for name in PARTS})
        for name in PARTS:
            setattr(self, name, getattr(parts, name))
        for name in ("pad", "bos", "eos"):
            kwargs.setdefault(f"{name}_token_id", getattr(self.decoder, f"{name}_token_id"))
        kwargs.setdefault("decoder_start_token_id", self.decoder.bos_token_id)
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return super().to_dict() | {name: _plain(getattr(self, name)) for name in PARTS}

    @property
    def num_hidden_layers(self) -> int:
        """Those of the part that generates."""
        return self.decoder.num_hidden_layers  # type: ignore[no-any-return]

    def get_text_config(self, *_: Any, **__: Any) -> VisavisConfig:
        """Itself: none of the parts is a whole language model."""
        return self


def _plain(part: Any) -> Any:
    if isinstance(part, PreTrainedConfig):
        return part.to_dict()
    if not is_dataclass(part) or isinstance(part, type):
        return part
    return asdict(part) | ({"model_type": part.model_type} if isinstance(part, TowerConfig) else {})


class VisavisForConditionalGeneration(VisavisModel, PreTrainedModel, GenerationMixin):
    """The plain model with a `forward` for labels, and `generate`: the slow reference."""

    config: Any  # a VisavisConfig
    config_class = VisavisConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: VisavisConfig) -> None:
        PreTrainedModel.__init__(self, config)
        self.build(config)
        self.encoder.main_input_name = self.main_input_name  # type: ignore[assignment]  # `generate` looks for it
        self.post_init()
        self.generation_config.max_new_tokens = (
            config.decoder.max_positions - 1
        )  # pipelines want 256 where nothing is said

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As transformers has it; a folder with 8-bit weights is read here, as transformers does not know them."""
        folder = Path(pretrained_model_name_or_path or "")
        if not holds_integers(folder) or kwargs.get("state_dict") is not None:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        config = kwargs.pop("config", None) or cls.config_class.from_pretrained(folder)
        return super().from_pretrained(None, config=config, state_dict=read_weights(folder, torch.float32), **kwargs)

    def generate(self, *args: Any, logits_processor: Any = None, **kwargs: Any) -> Any:
        """As transformers has it; no answer stutters."""
        processors = LogitsProcessorList([*(logits_processor or ()), NoStutter(self.config.decoder.first_piece)])
        return super().generate(*args, logits_processor=processors, **kwargs)

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        """What `generate` calls once for the prompt."""
        return PromptEncoder(self)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        patch_mask: Tensor | None = None,
        encoder_outputs: EncodedMemory | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        cache: EncoderDecoderCache | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Teacher forcing (`labels` (B, S), -100 is ignored) or one step of `generate` (`encoder_outputs` given; with
        a `cache` only the new ids)."""
        if encoder_outputs is None:
            ids = _needed(input_ids, "input_ids")
            attention_mask = torch.ones_like(ids) if attention_mask is None else attention_mask
            encoder_outputs = PromptEncoder(self)(ids, attention_mask, token_type_ids, pixel_values, patch_mask)
        if decoder_input_ids is None:
            decoder_input_ids = self.shift_right(_needed(labels, "labels or decoder_input_ids"))
        states = _needed(encoder_outputs.last_hidden_state, "encoder_outputs")
        past = None if cache is None else GenerationCache(cache)
        memory = self.decoder.remember(states) if past is None else past.memory(lambda: self.decoder.remember(states))
        logits = self.decoder(decoder_input_ids, memory, encoder_outputs.memory_mask, past)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=states)

    def shift_right(self, labels: Tensor) -> Tensor:
        """Labels (B, S) -> decoder inputs: the start token, then all labels but the last; ignored ones are padding."""
        start = labels.new_full((labels.shape[0], 1), self.config.decoder.bos_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == -100, self.config.decoder.pad_token_id)

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """`generate` hands the answer so far as `input_ids`, and a cache of its own unless that is turned off."""
        cache = kwargs.get("cache", kwargs.get("past_key_values"))  # newer versions call it `cache`
        new_ids = input_ids if cache is None else input_ids[:, cache.get_seq_length() :]
        return {"decoder_input_ids": new_ids, "cache": cache, "encoder_outputs": kwargs["encoder_outputs"]}


def _needed(value: Any, name: str) -> Any:
    if value is None:
        raise ValueError(f"{name} is needed")
    return value
