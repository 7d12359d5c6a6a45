"""The shape of a visavis model: nested vision, text, fusion and decoder configurations.

It knows sizes and kinds only, never weights, devices or training. An absent part is None, not a flag. Plain data
classes, since importing transformers' own takes longer than an answer; `transformers_classes` gives them that form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from visavis.models.confidence import Calibration
from visavis.models.tower_configs import BertConfig, Dinov2Config, TowerConfig

FUSION_KINDS = ("cross_attention", "mmbt", "concat", "birnn_cnn")
READERS_OF_WORDS = ("mmbt", "birnn_cnn")
"""Kinds that read words themselves: their text tower is made of embeddings alone, without layers."""
OWN_TOWERS: dict[str, type[TowerConfig]] = {"dinov2": Dinov2Config, "bert": BertConfig}
DEFAULT_TOWERS = {"vision": "dinov2", "text": "bert"}
Part = TypeVar("Part")


@dataclass
class ObjectConfig:
    """The object tower, EfficientNet-Lite2: a second look at the picture by a classifier of things.

    `resolution` is the side of its square input, `channels` the width of its last block, `head_size` that of its head;
    `image_mean` and `image_std` are those of the pixels that the model is given, which are mapped to -1..1. With
    `kinds` (of things that its classifier knows) the names of the likeliest `tags` stand beside the patches, each of
    `tag_tokens` answer tokens at most, and `read_tokens` of words that were read in the picture.
    """

    resolution: int = 224
    channels: int = 352
    head_size: int = 1280
    kinds: int = 0
    tags: int = 4
    tag_tokens: int = 8
    read_tokens: int = 16
    image_mean: tuple[float, ...] | list[float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, ...] | list[float] = (0.229, 0.224, 0.225)

    @property
    def cells(self) -> int:
        """How many positions it adds behind the patches."""
        return (self.resolution // 32) ** 2

    @property
    def tag_rows(self) -> int:
        """How many positions the names, and the words read, take behind those."""
        return self.tags * self.tag_tokens + self.read_tokens if self.kinds else 0


@dataclass
class FusionConfig:
    """How text and picture are joined (`models/fusion`). `intermediate_size` is the width of the feed-forward part,
    `region_grid` how many regions a side `mmbt` cuts the picture into."""

    kind: str = "cross_attention"
    hidden_size: int = 384
    num_hidden_layers: int = 2
    num_attention_heads: int = 6
    intermediate_size: int = 768
    region_grid: int = 4
    dropout: float = 0.1


@dataclass
class DecoderConfig:
    """The causal generation decoder. `max_positions` bounds an answer, in tokens, with its start token."""

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

    @property
    def first_piece(self) -> int:
        """The first token of more than one byte, in a byte-level vocabulary whose special tokens come first. Answers
        never say one twice running ("a road road"), although greedy decoding would; the 0 of 100 is a byte."""
        return max(self.pad_token_id, self.bos_token_id, self.eos_token_id) + 1 + 256


@dataclass
class SharedConfig:
    """One space for pictures and texts (`shared_space`); `size` is that of its vectors."""

    size: int = 256


@dataclass
class ModelConfig:
    """Nested parts, each given as a configuration or its dictionary and kept as a configuration.

    `vision` and `text` may be of any kind that transformers has, and may be named by a folder whose `config.json` is
    read (of CLIP or SigLIP, which hold two, the right one is taken): those that are not ours are kept as transformers'
    configurations. `objects` is None without an object tower, `shared` without a space for search, `calibration`
    before `visavis calibrate`; with `photo_head` the model tells photos from other pictures.

    Raises:
        ValueError: the widths of fusion and decoder differ, or the fusion kind is unknown.
        OSError: a folder holds no configuration.
    """

    vision: Any = field(default_factory=Dinov2Config)
    text: Any = field(default_factory=BertConfig)
    objects: ObjectConfig | None = None
    fusion: FusionConfig = field(default_factory=FusionConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    calibration: Calibration | None = None
    photo_head: bool = False
    shared: SharedConfig | None = None

    def __post_init__(self) -> None:
        self.vision, self.text = tower_config(self.vision, "vision"), tower_config(self.text, "text")
        self.objects = None if self.objects is None else _part(ObjectConfig, self.objects)
        self.calibration = None if self.calibration is None else _part(Calibration, self.calibration)
        self.shared = None if self.shared is None else _part(SharedConfig, self.shared)
        self.fusion, self.decoder = _part(FusionConfig, self.fusion), _part(DecoderConfig, self.decoder)
        if self.fusion.kind not in FUSION_KINDS:
            raise ValueError(f"fusion.kind must be one of {', '.join(FUSION_KINDS)}, not {self.fusion.kind!r}")
        if self.fusion.hidden_size != self.decoder.hidden_size:
            raise ValueError(
                f"fusion width {self.fusion.hidden_size} and decoder width {self.decoder.hidden_size} differ"
            )

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> ModelConfig:
        """What a config.json holds; entries that are not ours are left out."""
        return _part(cls, {name: value for name, value in options.items() if value is not None})

    @property
    def summary_size(self) -> int:
        """The width of what a photo head reads."""
        vision: int = self.vision.hidden_size
        return 2 * vision + (0 if self.objects is None else self.objects.channels)

    @property
    def object_cells(self) -> int:
        """How many picture positions behind the patches are the object tower's: 0 without one."""
        return 0 if self.objects is None else self.objects.cells

    @property
    def tag_rows(self) -> int:
        """How many of the last picture positions are object tags."""
        return 0 if self.objects is None else self.objects.tag_rows


def _part(kind: type[Part], value: Part | Mapping[str, Any]) -> Part:
    if not isinstance(value, Mapping):
        return value
    return kind(**{item.name: value[item.name] for item in fields(kind) if item.name in value})  # type: ignore[arg-type]


def tower_config(value: Any, part: str) -> Any:
    """The configuration of the `vision` or `text` tower, ours where we have the kind, given in whatever form."""
    if isinstance(value, TowerConfig):
        return value
    if isinstance(value, str | Path):
        from transformers import AutoConfig

        whole = AutoConfig.from_pretrained(value, local_files_only=True)
        value = getattr(whole, f"{part}_config", whole)
    options = dict(value if isinstance(value, Mapping) else value.to_dict())
    model_type = options.pop("model_type", DEFAULT_TOWERS[part])
    own = OWN_TOWERS[model_type].from_options(options) if model_type in OWN_TOWERS else None
    if own is not None or not isinstance(value, Mapping):
        return own or value
    from transformers import AutoConfig

    return AutoConfig.for_model(model_type, **options)
