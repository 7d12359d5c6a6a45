"""Fusion encoders: one file a kind, one interface, `FusionEncoder`."""

from __future__ import annotations

from visavis.models.config import FusionConfig
from visavis.models.fusion.birnn_cnn import BirnnCnnFusion
from visavis.models.fusion.concat import ConcatFusion, create_fusion_vector
from visavis.models.fusion.cross_attention import CrossAttentionFusion
from visavis.models.fusion.interface import Fused, FusionEncoder
from visavis.models.fusion.mmbt import MmbtFusion

__all__ = ["CrossAttentionFusion", "Fused", "FusionEncoder", "create_fusion", "create_fusion_vector"]


def create_fusion(config: FusionConfig, cells: int, tags: int) -> FusionEncoder:
    """Build what `config.kind` names. Of a picture's positions the last are `cells` and `tags` of an object tower.

    Tags are words for the decoder to copy: every kind shows them to it.
    """
    width, heads, dropout = config.hidden_size, config.num_attention_heads, config.dropout
    layers, inner = config.num_hidden_layers, config.intermediate_size
    if config.kind == "concat":
        return ConcatFusion(width, dropout, tags=tags)
    if config.kind == "birnn_cnn":
        return BirnnCnnFusion(layers, width, heads, dropout, cells=cells, tags=tags)
    if config.kind == "mmbt":
        return MmbtFusion(layers, width, heads, inner, dropout, grid=config.region_grid, cells=cells, tags=tags)
    return CrossAttentionFusion(layers, width, heads, inner, dropout)
