"""Fusion encoders: one file a kind, one interface (`remember` a picture once, fuse a text with it every turn)."""

from __future__ import annotations

from visavis.models.config import FusionConfig
from visavis.models.fusion.cross_attention import CrossAttentionFusion

__all__ = ["CrossAttentionFusion", "create_fusion"]


def create_fusion(config: FusionConfig) -> CrossAttentionFusion:
    """Build the fusion encoder that `config.kind` names."""
    return CrossAttentionFusion(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        inner=config.intermediate_size,
        dropout=config.dropout,
    )
