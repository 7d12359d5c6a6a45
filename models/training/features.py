"""A disk cache of the frozen image encoder's features: one small file a photo, so that a stopped run goes on.

Encoding costs far more than reading; the files are float16 `.npy` named by the photo's sha256, in a folder named by the
encoder's own weights, so that another encoder never reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from visavis.models.processor import Processor
from visavis.models.visavis_model import VisavisModel


class FeatureCache:
    """Features (P, D_v) of photos by path."""

    def __init__(self, folder: Path, model: VisavisModel, processor: Processor) -> None:
        self.model, self.processor = model, processor
        self.folder = folder / fingerprint(model.encoder.vision.state_dict())
        self.folder.mkdir(parents=True, exist_ok=True)
        self._names: dict[Path, Path] = {}

    def fill(self, photos: Sequence[Path]) -> Iterator[int]:
        """Encode what is missing, one photo at a time; yields after each photo, so that a caller can show progress."""
        for number, photo in enumerate(photos, 1):
            if not self._file(photo).exists():
                self._encode(photo)
            yield number

    def read(self, photos: Sequence[Path]) -> Tensor:
        """(N, P, D_v) in float32. Photos that `fill` has not seen are encoded now."""
        for _ in self.fill(photos):
            pass
        return torch.from_numpy(np.stack([np.load(self._file(photo)) for photo in photos])).float()

    @torch.inference_mode()
    def _encode(self, photo: Path) -> None:
        with Image.open(photo) as image:
            features = self.model.encode_image(self.processor.pixel_values(image))[0]
        part = self._file(photo).with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, features.numpy().astype(np.float16))
        part.rename(self._file(photo))

    def _file(self, photo: Path) -> Path:
        if photo not in self._names:
            self._names[photo] = self.folder / f"{hashlib.sha256(photo.read_bytes()).hexdigest()}.npy"
        return self._names[photo]


def pool_patches(features: Tensor, cells: int = 0) -> Tensor:
    """Average patches two by two: (N, 1 + G * G, D) with a class token first -> (N, 1 + G * G / 4, D).

    The last `cells` positions are the object tower's and stay as they are, here and in `drop_patches`.
    """
    first, patches, rest = _parts(features, cells)
    side = int(patches.shape[1] ** 0.5)
    pooled = F.avg_pool2d(patches.transpose(1, 2).unflatten(2, (side, side)), 2).flatten(2).transpose(1, 2)
    return torch.cat([first, pooled, rest], dim=1)


def drop_patches(features: Tensor, cells: int = 0) -> Tensor:
    """Keep a random half of the patches, the same places in all pictures: (N, 1 + M, D) -> (N, 1 + M // 2, D)."""
    first, patches, rest = _parts(features, cells)
    kept = torch.randperm(patches.shape[1])[: patches.shape[1] // 2]
    return torch.cat([first, patches[:, kept], rest], dim=1)


def _parts(features: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Class token, patches, cells."""
    end = features.shape[1] - cells
    return features[:, :1], features[:, 1:end], features[:, end:]


def fingerprint(state: dict[str, Tensor]) -> str:
    """A short hash of named tensors, in float16 so that storing an encoder in 16 bits does not change its name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().half().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
