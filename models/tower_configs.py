"""Sizes of the two towers that we have ourselves, under transformers' names and with its defaults.

A configuration that asks for what our towers lack is not ours: `from_options` then gives None. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self


@dataclass
class TowerConfig:
    """What both have in common; `fixed` holds the options that must have one value, if they are given at all."""

    model_type: ClassVar[str]
    fixed: ClassVar[Mapping[str, Any]]

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self | None:
        """The options of a transformers configuration; those that do not touch the result are left out."""
        if any(options.get(name, value) != value for name, value in cls.fixed.items()):
            return None
        return cls(**{field.name: options[field.name] for field in fields(cls) if field.name in options})


@dataclass
class Dinov2Config(TowerConfig):
    """A vision transformer as DINOv2 has it; square pictures and patches, no dropout."""

    model_type = "dinov2"
    fixed = {  # noqa: RUF012
        "hidden_act": "gelu",
        "qkv_bias": True,
        "use_swiglu_ffn": False,
        "drop_path_rate": 0.0,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }

    mlp_ratio: int = 4
    layer_norm_eps: float = 1e-6
    image_size: int = 224
    patch_size: int = 14
    num_channels: int = 3
    layerscale_value: float = 1.0
    use_mask_token: bool = True


@dataclass
class BertConfig(TowerConfig):
    """A bidirectional BERT without pooler."""

    model_type = "bert"
    fixed = {  # noqa: RUF012
        "hidden_act": "gelu",
        "is_decoder": False,
        "add_cross_attention": False,
        "position_embedding_type": "absolute",
    }

    vocab_size: int = 30522
    intermediate_size: int = 3072
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
