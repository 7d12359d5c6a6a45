"""The image encoder: pixels to patch features, by any transformers vision model.

Shape letters: B pictures, P patches (a class token first, where the model has one), D_v the tower's width.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig


class VisionEncoder(nn.Module):
    """Wraps the tower so that `forwards` can be counted: one a distinct picture is the promise of the engine."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.tower = AutoModel.from_config(config)
        self.forwards = 0

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pixels -> (B, P, D_v) last hidden states, after the tower's final norm."""
        self.forwards += pixel_values.shape[0]
        return self.tower(pixel_values=pixel_values).last_hidden_state  # type: ignore[no-any-return]
