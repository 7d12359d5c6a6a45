"""A picture to normalised pixels: squeezed to the model's square *without* keeping the ratio, as in training.

Pillow and numpy only; the tensors are torch's. Which bytes are acceptable as a picture is decided elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BaseImageProcessor, BatchFeature

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class VisavisImageProcessor(BaseImageProcessor):
    """RGB, `size` x `size` by bicubic resampling, scaled to 0..1, normalised by `image_mean` and `image_std`."""

    model_input_names = ["pixel_values"]  # noqa: RUF012

    def __init__(
        self,
        size: int = 224,
        image_mean: tuple[float, ...] = IMAGENET_MEAN,
        image_std: tuple[float, ...] = IMAGENET_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size, self.image_mean, self.image_std = size, list(image_mean), list(image_std)

    def preprocess(self, images: Any, return_tensors: str | None = None, **_: Any) -> BatchFeature:
        """One Pillow image or several -> `pixel_values` (N, 3, size, size), float32."""
        several = images if isinstance(images, (list, tuple)) else [images]
        pixels = torch.stack([self._pixels(image) for image in several])
        return BatchFeature({"pixel_values": pixels}, tensor_type=return_tensors)

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        square = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        scaled = np.asarray(square, dtype=np.float32) / 255
        normed = (scaled - np.array(self.image_mean, np.float32)) / np.array(self.image_std, np.float32)
        return torch.from_numpy(normed.transpose(2, 0, 1).copy())
