"""The shape of a visavis model: nested vision, text, fusion and decoder configurations.

It knows sizes and kinds only, never files, devices or training. An absent part is None, not a flag.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

FUSION_KINDS = ("cross_attention",)


class ObjectConfig(PreTrainedConfig):
    """The object tower, EfficientNet-Lite2: a second look at the picture by a classifier of things.

    `resolution` is the side of its square input, `channels` the width of its last block, `head_size` that of its head;
    `image_mean` and `image_std` are those of the pixels that the model is given, which are mapped to -1..1.
    """

    model_type = "visavis_objects"

    resolution: int = 224
    channels: int = 352
    head_size: int = 1280
    image_mean: tuple[float, ...] | list[float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, ...] | list[float] = (0.229, 0.224, 0.225)

    @property
    def cells(self) -> int:
        """How many positions it adds behind the patches."""
        return (self.resolution // 32) ** 2


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
    """Nested parts, each given as a configuration or its dictionary and kept as a configuration.

    `vision` and `text` take any transformers configuration of their kind; `objects` is None without an object tower.

    Raises:
        ValueError: the widths of fusion and decoder differ, or the fusion kind is unknown.
    """

    model_type = "visavis"
    sub_configs = {  # noqa: RUF012
        "vision": AutoConfig,
        "text": AutoConfig,
        "objects": ObjectConfig,
        "fusion": FusionConfig,
        "decoder": DecoderConfig,
    }

    vision: Any = None
    text: Any = None
    objects: Any = None
    fusion: Any = None
    decoder: Any = None
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision = _nested(self.vision, "dinov2")
        self.text = _nested(self.text, "bert")
        self.objects = ObjectConfig(**self.objects) if isinstance(self.objects, dict) else self.objects
        self.fusion = self.fusion if isinstance(self.fusion, FusionConfig) else FusionConfig(**(self.fusion or {}))
        self.decoder = (
            self.decoder if isinstance(self.decoder, DecoderConfig) else DecoderConfig(**(self.decoder or {}))
        )
        for name in ("pad", "bos", "eos"):
            kwargs.setdefault(f"{name}_token_id", getattr(self.decoder, f"{name}_token_id"))
        kwargs.setdefault("decoder_start_token_id", self.decoder.bos_token_id)
        super().__post_init__(**kwargs)
        self._check()

    @property
    def object_cells(self) -> int:
        """How many of the last picture positions are the object tower's: 0 without one."""
        return 0 if self.objects is None else self.objects.cells

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
