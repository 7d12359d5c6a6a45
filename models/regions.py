"""A region of the picture as a mask over the positions that the model attends to. It knows no model.

Shape letter: P positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from visavis.models.generation import Region


def patch_mask(region: Region, positions: int, cells: int = 0, tags: int = 0) -> Tensor:
    """(1, P), True where the region is touched by a patch, or by one of the `cells` of the object tower behind them.

    Tokens before the grid of patches stay visible; the last positions, `tags` of the whole picture, do not.
    """
    patches = positions - cells - tags
    side = math.isqrt(patches)
    before, tagged = torch.ones(patches - side * side, dtype=torch.bool), torch.zeros(tags, dtype=torch.bool)
    return torch.cat([before, _touched(region, side), _touched(region, math.isqrt(cells)), tagged])[None]


def _touched(region: Region, side: int) -> Tensor:
    """(side * side,): which squares of a grid over the picture overlap the region."""
    edges = torch.arange(side) / max(side, 1)
    columns = (edges + 1 / max(side, 1) > region.x) & (edges < region.x + region.w)
    rows = (edges + 1 / max(side, 1) > region.y) & (edges < region.y + region.h)
    return (rows[:, None] & columns[None, :]).flatten()
