"""One space for pictures and texts, in which what belongs together is close (CLIP, Radford et al. 2021).

A picture is summed up by the means of its projected patches, of its object cells and of its object tags, side by
side; a text by the mean of its states before any picture. Each kind has a head of its own. It knows neither losses nor
files. Shape letters: N pictures, P picture positions, G groups of them, B texts, T text tokens, D and D_t widths,
E size of the space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.attention import FeedForward
from visavis.models.dropout import Dropout
from visavis.models.fusion.concat import masked_mean

FIRST_SCALE = 20.0
LARGEST_SCALE = 100.0
INNER_WIDTH = 1024
DROPOUT = 0.3  # a few thousand photos are soon known by heart


class SpaceHead(nn.Module):
    """Summaries (N, W) -> unit vectors (N, E): what a linear layer makes of them, and a perceptron beside it."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.width = width
        self.norm, self.dropout = nn.LayerNorm(width), Dropout(DROPOUT)
        self.linear = nn.Linear(width, size)
        self.perceptron = FeedForward(width, INNER_WIDTH, DROPOUT, out=size)

    def forward(self, summaries: Tensor) -> Tensor:
        whole = self.dropout(self.norm(summaries))
        return F.normalize((self.linear(whole) + self.perceptron(whole)).float(), dim=1)


class SharedSpace(nn.Module):
    """Two heads to unit vectors, and the learned scale of their dot products (the inverse temperature).

    `groups` counts the picture's last positions that are summed up apart from the patches before them, in their order.
    """

    def __init__(self, width: int, text_width: int, size: int, groups: Sequence[int] = ()) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.picture = SpaceHead((1 + len(self.groups)) * width, size)
        self.text = SpaceHead(text_width, size)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied with before a softmax."""
        return self.log_sharpness.exp().clamp(max=LARGEST_SCALE)

    def sum_up_pictures(self, patches: Tensor) -> Tensor:
        """Projected patches (N, P, D) -> what the head of pictures reads, (N, G D)."""
        groups = patches.split([patches.shape[1] - sum(self.groups), *self.groups], dim=1)
        return torch.cat([group.mean(dim=1) for group in groups], dim=1)

    def embed_pictures(self, patches: Tensor) -> Tensor:
        """Projected patches (N, P, D) -> unit vectors (N, E)."""
        return self.picture(self.sum_up_pictures(patches))  # type: ignore[no-any-return]

    def embed_texts(self, states: Tensor, mask: Tensor) -> Tensor:
        """Text states (B, T, D_t) and their attention mask (B, T) -> unit vectors (B, E)."""
        return self.text(masked_mean(states, mask))  # type: ignore[no-any-return]
