"""A part of a picture: "what is *this*?". It is cut out and looked at by itself, with some of what is around it.

So a small thing is seen as large as a whole picture and gets its own name.

Shape letters: S maps, G cells a side of a map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from visavis.models.generation import Region

MARGIN = 0.12
"""How much of its size is added on every side."""
LEAST = 0.06
"""Of the picture's side: less than that shows nothing."""


def widened(region: Region) -> Region:
    """The region with its surroundings, inside the picture."""
    left, width = _stretched(region.x, region.w)
    top, height = _stretched(region.y, region.h)
    return Region(left, top, width, height)


def _stretched(start: float, size: float) -> tuple[float, float]:
    half = max(size * (1 + 2 * MARGIN), LEAST) / 2
    middle = start + size / 2
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return low, high - low


def cut_out(picture: Image.Image, region: Region) -> Image.Image:
    """The widened region as a picture of its own, at least one pixel large."""
    part, (width, height) = widened(region), picture.size
    left, top = int(part.x * width), int(part.y * height)
    right, low = round((part.x + part.w) * width), round((part.y + part.h) * height)
    return picture.crop((left, top, max(right, left + 1), max(low, top + 1)))


def over_picture(maps: Tensor, region: Region) -> Tensor:
    """Heat over a cut-out (S, G, G) -> the same heat in its place over the whole picture, every map summing to 1."""
    part, side = widened(region), maps.shape[1]
    top, left = int(part.y * side), int(part.x * side)
    rows = max(1, min(side, round((part.y + part.h) * side)) - top)
    columns = max(1, min(side, round((part.x + part.w) * side)) - left)
    whole = torch.zeros_like(maps)
    small = F.interpolate(maps[:, None], (rows, columns), mode="area")[:, 0]
    whole[:, top : top + rows, left : left + columns] = small
    total: Tensor = whole.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return whole / total
