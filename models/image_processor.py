"""A picture to normalised pixels: squeezed to the model's square *without* keeping the ratio, as in training.

Which bytes are acceptable as a picture is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageProcessor:
    """RGB, `size` x `size` by bicubic resampling, scaled to 0..1, normalised by `image_mean` and `image_std`."""

    size: int = 224
    image_mean: Sequence[float] = IMAGENET_MEAN
    image_std: Sequence[float] = IMAGENET_STD

    def pixel_values(self, images: Image.Image | Sequence[Image.Image]) -> Tensor:
        """One Pillow image or several -> (N, 3, size, size), float32."""
        several = [images] if isinstance(images, Image.Image) else images
        return torch.stack([self._pixels(image) for image in several])

    def _pixels(self, image: Image.Image) -> Tensor:
        square = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        scaled = np.asarray(square, dtype=np.float32) / 255
        normed = (scaled - np.array(self.image_mean, np.float32)) / np.array(self.image_std, np.float32)
        return torch.from_numpy(normed.transpose(2, 0, 1).copy())
