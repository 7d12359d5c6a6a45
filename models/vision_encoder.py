"""The image encoder: pixels to features of patches, by our DINOv2 or any transformers vision model, and to cells and
kinds of the object tower.

Shape letters: B pictures, P patches (a class token first, where the model has one), O cells of the object tower,
D_v the tower's width, C the object tower's, K kinds of things.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.config import ObjectConfig
from visavis.models.efficientnet_lite import EfficientNetLite
from visavis.models.image_features import ImageFeatures
from visavis.models.tower_configs import Dinov2Config
from visavis.models.vision_transformer import VisionTransformer


class VisionEncoder(nn.Module):
    """Wraps the towers so that `forwards` can be counted: one a distinct picture is the promise of the engine."""

    def __init__(self, config: Any, objects: ObjectConfig | None = None) -> None:
        super().__init__()
        self.tower = create_tower(config)
        self.objects = None if objects is None else ObjectTower(objects)
        self.forwards = 0

    def forward(self, pixel_values: Tensor) -> ImageFeatures:
        """(B, 3, H, W) normalised pixels -> features; patches are the last hidden states after the tower's norm."""
        return self.finish(self.begin(pixel_values, 0), 0)

    def begin(self, pixel_values: Tensor, later: int) -> ImageFeatures:
        """All but the last `later` blocks and the norm of the tower: what training keeps of a photo while those blocks
        still learn. Only our own tower can be cut; one of transformers runs whole here."""
        self.forwards += pixel_values.shape[0]
        patches: Tensor
        if isinstance(self.tower, VisionTransformer):
            patches = self.tower.run(self.tower.embed(pixel_values), 0, len(self.tower.blocks) - later)
        else:
            patches = self.tower(pixel_values)
        return ImageFeatures(patches) if self.objects is None else ImageFeatures(patches, *self.objects(pixel_values))

    def finish(self, features: ImageFeatures, later: int) -> ImageFeatures:
        """What `begin` left out."""
        if not isinstance(self.tower, VisionTransformer):
            return features
        blocks = len(self.tower.blocks)
        patches = self.tower.layernorm(self.tower.run(features.patches, blocks - later, blocks))
        return replace(features, patches=patches)


class ObjectTower(nn.Module):
    """EfficientNet-Lite2 on pixels that were normalised for another tower; with its own classifier where the
    configuration says how many kinds of things it knows."""

    def __init__(self, config: ObjectConfig) -> None:
        super().__init__()
        self.resolution = config.resolution
        self.network = EfficientNetLite()
        if config.kinds:
            self.head = nn.Linear(config.channels, config.head_size)
            self.classes = nn.Linear(config.head_size, config.kinds)
        self.kinds = config.kinds
        # Its own scale: (255 x - 127) / 128 of pixels x in 0..1.
        self.scale = [std * 255 / 128 for std in config.image_std]
        self.shift = [(255 * mean - 127) / 128 for mean in config.image_mean]

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> cells (B, O, C), and the log-probabilities of kinds (B, K) if it has a classifier."""
        if pixel_values.shape[-1] != self.resolution:
            size = (self.resolution, self.resolution)
            pixel_values = F.interpolate(pixel_values, size, mode="bilinear", antialias=True)
        scale, shift = (pixel_values.new_tensor(values)[:, None, None] for values in (self.scale, self.shift))
        maps: Tensor = self.network(pixel_values * scale + shift)
        cells = maps.flatten(2).transpose(1, 2).to(pixel_values.dtype)
        return (cells, self.classify(cells)) if self.kinds else (cells,)

    def classify(self, cells: Tensor) -> Tensor:
        """(B, O, C) -> (B, K) log-probabilities."""
        return self.classes(F.relu6(self.head(cells)).mean(dim=1)).float().log_softmax(-1)  # type: ignore[no-any-return]


class ImageProjection(nn.Module):
    """Features of either tower -> the width of the fusion encoder."""

    def __init__(self, vision_width: int, width: int, objects: ObjectConfig | None) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Linear(vision_width, width), nn.LayerNorm(width))
        if objects is not None:
            self.head = nn.Linear(objects.channels, objects.head_size)
            self.objects = nn.Sequential(nn.Linear(objects.head_size, width), nn.LayerNorm(width))

    def forward(self, features: ImageFeatures) -> Tensor:
        """-> (B, P + O, D)."""
        patches: Tensor = self.patches(features.patches)
        if features.cells is None:
            return patches
        return torch.cat([patches, self.objects(F.relu6(self.head(features.cells)))], dim=1)


def create_tower(config: Any) -> nn.Module:
    """Pixels (B, 3, H, W) -> last hidden states (B, P, D_v). Only a kind that is not ours imports transformers."""
    if isinstance(config, Dinov2Config):
        return VisionTransformer(config)
    from visavis.models.transformers_towers import VisionTower

    return VisionTower(config)
