"""L_t2i: from a text to its picture, as the number of a visual word in every cell of a grid.

Visual words are the centres of a k-means over the features of the frozen image encoder, averaged to the grid's cells
(a codebook as in BEiT, Bao et al. 2022, but without training a tokenizer). The text is read with no picture in sight.
Shape letters: N pictures, P patches, C cells of the grid, K visual words, M memory positions, D and D_v widths.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.attention import Attention, FeedForward

ROUNDS = 12


def grid_cells(patches: Tensor, side: int) -> Tensor:
    """Features (N, P, D_v), with or without tokens before the grid -> unit vectors of cells (N, side * side, D_v)."""
    grid = math.isqrt(patches.shape[1])
    maps = patches[:, patches.shape[1] - grid * grid :].transpose(1, 2).unflatten(2, (grid, grid))
    return F.normalize(F.adaptive_avg_pool2d(maps, side).flatten(2).transpose(1, 2), dim=2)


def k_means(points: Tensor, words: int, generator: torch.Generator) -> Tensor:
    """Unit vectors (R, D_v) -> `words` unit centres by cosine (spherical k-means, Dhillon and Modha 2001).

    A centre that loses all its points starts anew at one of them.

    Raises:
        ValueError: fewer points than centres.
    """
    if len(points) < words:
        raise ValueError(f"{words} visual words need as many cells, there are {len(points)}")
    centres = points[torch.randperm(len(points), generator=generator)[:words]].clone()
    for _ in range(ROUNDS):
        nearest = nearest_word(points, centres)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        lost = torch.bincount(nearest, minlength=words) == 0
        again = torch.randint(len(points), (words,), generator=generator)
        centres = torch.where(lost[:, None], points[again], F.normalize(sums, dim=1))
    return centres


def nearest_word(cells: Tensor, codebook: Tensor) -> Tensor:
    """Unit vectors (..., D_v) and centres (K, D_v) -> the number of the nearest centre (...)."""
    return (cells @ codebook.T).argmax(dim=-1)


class CodePredictor(nn.Module):
    """A query a cell attends to what was made of a text; (N, M, D) -> logits (N, C, K)."""

    def __init__(self, width: int, heads: int, side: int, words: int) -> None:
        super().__init__()
        self.cells = nn.Parameter(0.02 * torch.randn(side * side, width))
        self.attention = Attention(width, heads)
        self.norm, self.feed_norm, self.out_norm = (nn.LayerNorm(width) for _ in range(3))
        self.feed_forward = FeedForward(width, 2 * width)
        self.out = nn.Linear(width, words)

    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        """`mask` (N, M) is True where a text may be attended to."""
        cells = self.cells.expand(text.shape[0], -1, -1)
        cells = cells + self.attention(self.norm(cells), self.attention.remember(text), mask[:, None, None])
        cells = cells + self.feed_forward(self.feed_norm(cells))
        return self.out(self.out_norm(cells))  # type: ignore[no-any-return]


def code_loss(logits: Tensor, codes: Tensor) -> Tensor:
    """The mean cross-entropy of a cell: logits (N, C, K), codes (N, C)."""
    return F.cross_entropy(logits.float().flatten(0, 1), codes.flatten())
