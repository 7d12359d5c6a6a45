"""What the image encoder says of pictures: its states of patches, and what the object tower sees and believes.

Shape letters: N pictures, P patches with the class token first, D_v width, O cells and C channels of the object tower,
K kinds of things, W tokens of words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageFeatures:
    """`patches` (N, P, D_v), and with an object tower `cells` (N, O, C); with its classifier also `kinds` (N, K), the
    log-probability of every kind of thing, and perhaps `read` (N, W), answer tokens of words read in the picture."""

    patches: Tensor
    cells: Tensor | None = None
    kinds: Tensor | None = None
    read: Tensor | None = None

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """Those tensors that there are, in a fixed order."""
        return tuple(part for part in (self.patches, self.cells, self.kinds, self.read) if part is not None)

    def map(self, change: Callable[[Tensor], Tensor]) -> ImageFeatures:
        """The same with every tensor changed."""
        return ImageFeatures(*(change(part) for part in self.parts))

    @classmethod
    def stack(cls, pictures: list[ImageFeatures]) -> ImageFeatures:
        """Features of several batches, one after another."""
        return cls(*(torch.cat(parts) for parts in zip(*(item.parts for item in pictures), strict=True)))
