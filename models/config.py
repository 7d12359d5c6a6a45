"""The shape of a visavis model: nested vision, text, fusion and decoder configurations.

It knows sizes and kinds only, never files, devices or training. An absent part is None, not a flag.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

FUSION_KINDS = ("cross_attention",)


class FusionConfig(PreTrainedConfig):
    """How text and picture are joined. `intermediate_size` is the width of the feed-forward part."""

    model_type = "visavis_fusion"

    kind: str = "cross_attention"
    hidden_size: int = 384
    num_hidden_layers: int = 2
    num_attention_heads: int = 6
    intermediate_size: int = 768
    dropout: float = 0.1


class DecoderConfig(PreTrainedConfig):
    """The causal generation decoder. `max_positions` bounds an answer, in tokens, with its start token."""

    model_type = "visavis_decoder"

    vocab_size: int = 4000
    hidden_size: int = 384
    num_hidden_layers: int = 3
    num_attention_heads: int = 6
    intermediate_size: int = 1024
    max_positions: int = 64
    dropout: float = 0.1
    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2


class VisavisConfig(PreTrainedConfig):
    """Four nested parts, each given as a configuration or its dictionary and kept as a configuration.

    `vision` and `text` take any transformers configuration of their kind.

    Raises:
        ValueError: the widths of fusion and decoder differ, or the fusion kind is unknown.
    """

    model_type = "visavis"
    sub_configs = {"vision": AutoConfig, "text": AutoConfig, "fusion": FusionConfig, "decoder": DecoderConfig}  # noqa: RUF012

    vision: Any = None
    text: Any = None
    fusion: Any = None
    decoder: Any = None
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision = _nested(self.vision, "dinov2")
        self.text = _nested(self.text, "bert")
        self.fusion = self.fusion if isinstance(self.fusion, FusionConfig) else FusionConfig(**(self.fusion or {}))
        self.decoder = (
            self.decoder if isinstance(self.decoder, DecoderConfig) else DecoderConfig(**(self.decoder or {}))
        )
        for name in ("pad", "bos", "eos"):
            kwargs.setdefault(f"{name}_token_id", getattr(self.decoder, f"{name}_token_id"))
        kwargs.setdefault("decoder_start_token_id", self.decoder.bos_token_id)
        super().__post_init__(**kwargs)
        self._check()

    def _check(self) -> None:
        if self.fusion.kind not in FUSION_KINDS:
            raise ValueError(f"fusion.kind must be one of {', '.join(FUSION_KINDS)}, not {self.fusion.kind!r}")
        if self.fusion.hidden_size != self.decoder.hidden_size:
            raise ValueError(
                f"fusion width {self.fusion.hidden_size} and decoder width {self.decoder.hidden_size} differ"
            )


def _nested(value: dict[str, Any] | PreTrainedConfig | None, default_type: str) -> PreTrainedConfig:
    if isinstance(value, PreTrainedConfig):
        return value
    options = dict(value or {})
    return AutoConfig.for_model(options.pop("model_type", default_type), **options)
