"""A disk cache of what the frozen part of the image encoder says of photos: one small file a view.

So a stopped run goes on.
Encoding costs far more than reading; the files are float16 arrays named by the photo's sha256, in a folder named by the
frozen weights, so that another encoder never reads them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from visavis.models.image_features import ImageFeatures
from visavis.models.processor import Processor
from visavis.models.training.perturbations import Perturbation
from visavis.models.visavis_model import VisavisModel

TOGETHER = 8
"""Views in one pass of the encoder while the cache is filled."""


class View(NamedTuple):
    """A photo as it is looked at: perhaps mirrored, whole (0) or one of its crops (from 1, `Perturbation.crop_of`)."""

    photo: Path
    mirrored: bool = False
    crop: int = 0


class FeatureCache:
    """Features of photos (or of their `perturbed` forms) by path, before the image encoder's last `later` blocks."""

    def __init__(
        self,
        folder: Path,
        model: VisavisModel,
        processor: Processor,
        later: int = 0,
        *,
        perturbed: bool = False,
        autocast: Callable[[], Any] = nullcontext,
    ) -> None:
        self.model, self.processor, self.later, self.perturbed = model, processor, later, perturbed
        self.autocast = autocast
        self.folder = folder / fingerprint(frozen_weights(model, later))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._names: dict[Path, str] = {}

    def fill(self, views: Sequence[View]) -> Iterator[int]:
        """Encode what is missing, a few views at a time; yields how many are there, for a progress bar."""
        for start in range(0, len(views), TOGETHER):
            some = views[start : start + TOGETHER]
            if missing := [view for view in some if not self._file(view).exists()]:
                self._encode(missing)
            yield start + len(some)

    def read(self, views: Sequence[View]) -> ImageFeatures:
        """Features of N views in float32. Those that `fill` has not seen are encoded now."""
        for _ in self.fill(views):
            pass
        return ImageFeatures.stack([_load(self._file(view)) for view in views])

    def of_perturbed(self) -> FeatureCache:
        """The cache of the same photos in their perturbed forms (`perturbations`); their views are never mirrored."""
        given = (self.folder.parent, self.model, self.processor, self.later)
        return FeatureCache(*given, perturbed=True, autocast=self.autocast)

    @torch.inference_mode()
    def _encode(self, views: Sequence[View]) -> None:
        pixels = torch.cat([self._pixels(view) for view in views])
        with self.autocast():
            features = self.model.encoder.vision.begin(pixels, self.later)
        for number, view in enumerate(views):
            save_features(self._file(view), ImageFeatures(*(part[number : number + 1] for part in features.parts)))

    def _pixels(self, view: View) -> Tensor:
        with Image.open(view.photo) as image:
            form = self._form(view)
            seen = form.apply(image) if form else image.convert("RGB")
            return self.processor.pixel_values(ImageOps.mirror(seen) if view.mirrored else seen)

    def _form(self, view: View) -> Perturbation | None:
        if self.perturbed:
            return Perturbation.of(view.photo.name)
        return Perturbation.crop_of(view.photo.name, view.crop) if view.crop else None

    def _file(self, view: View) -> Path:
        if view.photo not in self._names:
            self._names[view.photo] = hashlib.sha256(view.photo.read_bytes()).hexdigest()
        form = self._form(view)
        mark = f".{'perturbed' if self.perturbed else 'crop'}-{form.fingerprint}" if form else ""
        return self.folder / f"{self._names[view.photo]}{mark}{'.mirrored' if view.mirrored else ''}.npy"


def save_features(file: Path, features: ImageFeatures) -> None:
    """Features of one picture, its arrays one after another; a reader never sees half of them."""
    part = file.with_suffix(".part")
    with part.open("wb") as out:
        for tensor in features.parts:
            np.save(out, tensor.half().numpy())
    part.rename(file)


def _load(file: Path) -> ImageFeatures:
    arrays: list[Tensor] = []
    with file.open("rb") as source:
        size = file.stat().st_size
        while source.tell() < size:
            arrays.append(torch.from_numpy(np.load(source)).float())
    return ImageFeatures(*arrays)


def pool_patches(features: ImageFeatures) -> ImageFeatures:
    """Average patches two by two: (N, 1 + G * G, D), here with a class token first -> (N, 1 + G * G / 4, D)."""
    first, patches = _parts(features.patches)
    side = int(patches.shape[1] ** 0.5)
    pooled = F.avg_pool2d(patches.transpose(1, 2).unflatten(2, (side, side)), 2).flatten(2).transpose(1, 2)
    return replace(features, patches=torch.cat([first, pooled], dim=1))


def drop_patches(features: ImageFeatures, share: float = 0.5) -> ImageFeatures:
    """Keep a random `share` of the patches, the same places in all pictures: (N, 1 + M, D) -> (N, 1 + share M, D)."""
    first, patches = _parts(features.patches)
    kept = torch.randperm(patches.shape[1])[: int(patches.shape[1] * share)]
    return replace(features, patches=torch.cat([first, patches[:, kept]], dim=1))


def _parts(states: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens before the grid (a class token, where the tower has one), patches."""
    start = states.shape[1] - math.isqrt(states.shape[1]) ** 2
    return states[:, :start], states[:, start:]


def frozen_weights(model: VisavisModel, later: int) -> dict[str, Tensor]:
    """The image encoder's tensors that cached features depend on."""
    blocks = len(getattr(model.encoder.vision.tower, "blocks", ()))
    after = (*(f"tower.encoder.layer.{number}." for number in range(blocks - later, blocks)), "tower.layernorm.")
    state = model.encoder.vision.state_dict()
    return {name: value for name, value in state.items() if not (blocks and name.startswith(after))}


def fingerprint(state: dict[str, Tensor]) -> str:
    """A short hash of named tensors, in float16 so that storing an encoder in 16 bits does not change its name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().half().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
