"""The image encoder: pixels to features of patches, by our DINOv2 or any transformers vision model, and to cells of the
object tower.

Shape letters: B pictures, P patches (a class token first, where the model has one), O cells of the object tower,
D_v the tower's width, C the object tower's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.config import ObjectConfig
from visavis.models.efficientnet_lite import EfficientNetLite
from visavis.models.tower_configs import Dinov2Config
from visavis.models.vision_transformer import VisionTransformer


class VisionEncoder(nn.Module):
    """Wraps the towers so that `forwards` can be counted: one a distinct picture is the promise of the engine."""

    def __init__(self, config: Any, objects: ObjectConfig | None = None) -> None:
        super().__init__()
        self.tower = create_tower(config)
        self.objects = None if objects is None else ObjectTower(objects)
        self.forwards = 0

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pixels -> (B, P, D_v), the last hidden states after the tower's final norm.

        With an object tower (B, P + O, max(D_v, C)): its cells stand behind the patches, the narrower of the two
        filled up with zeros.
        """
        self.forwards += pixel_values.shape[0]
        patches: Tensor = self.tower(pixel_values)
        if self.objects is None:
            return patches
        cells: Tensor = self.objects(pixel_values)
        width = max(patches.shape[2], cells.shape[2])
        return torch.cat([F.pad(part, (0, width - part.shape[2])) for part in (patches, cells)], dim=1)


class ObjectTower(nn.Module):
    """EfficientNet-Lite2 on pixels that were normalised for another tower."""

    def __init__(self, config: ObjectConfig) -> None:
        super().__init__()
        self.resolution = config.resolution
        self.network = EfficientNetLite()
        # Its own scale: (255 x - 127) / 128 of pixels x in 0..1.
        self.scale = [std * 255 / 128 for std in config.image_std]
        self.shift = [(255 * mean - 127) / 128 for mean in config.image_mean]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, O, C)."""
        if pixel_values.shape[-1] != self.resolution:
            size = (self.resolution, self.resolution)
            pixel_values = F.interpolate(pixel_values, size, mode="bilinear", antialias=True)
        scale, shift = (pixel_values.new_tensor(values)[:, None, None] for values in (self.scale, self.shift))
        maps: Tensor = self.network(pixel_values * scale + shift)
        return maps.flatten(2).transpose(1, 2)


class ImageProjection(nn.Module):
    """Features of either tower -> the width of the fusion encoder."""

    def __init__(self, vision_width: int, width: int, objects: ObjectConfig | None) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Linear(vision_width, width), nn.LayerNorm(width))
        self.vision_width, self.config = vision_width, objects
        if objects is not None:
            self.head = nn.Linear(objects.channels, objects.head_size)
            self.objects = nn.Sequential(nn.Linear(objects.head_size, width), nn.LayerNorm(width))

    def forward(self, features: Tensor) -> Tensor:
        """(B, P + O, max(D_v, C)) -> (B, P + O, D)."""
        if self.config is None:
            return self.patches(features)  # type: ignore[no-any-return]
        split = features.shape[1] - self.config.cells
        patches = self.patches(features[:, :split, : self.vision_width])
        cells = self.objects(F.relu6(self.head(features[:, split:, : self.config.channels])))
        return torch.cat([patches, cells], dim=1)


def create_tower(config: Any) -> nn.Module:
    """Pixels (B, 3, H, W) -> last hidden states (B, P, D_v). Only a kind that is not ours imports transformers."""
    if isinstance(config, Dinov2Config):
        return VisionTransformer(config)
    from visavis.models.transformers_towers import VisionTower

    return VisionTower(config)
