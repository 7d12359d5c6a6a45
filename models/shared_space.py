"""One space for pictures and texts, in which what belongs together is close (CLIP, Radford et al. 2021).

A picture is what a learned query attends to in its projected patches, beside their mean; a text is the mean of its
states before any picture. Both go through a head of their own. It knows neither losses nor files.
Shape letters: N pictures, P picture positions, B texts, T text tokens, D and D_t widths, E size of the space.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.attention import Attention, FeedForward
from visavis.models.fusion.concat import masked_mean

FIRST_SCALE = 1 / 0.07
LARGEST_SCALE = 100.0


class SharedSpace(nn.Module):
    """Two heads to unit vectors, and the learned scale of their dot products (the inverse temperature)."""

    def __init__(self, width: int, text_width: int, heads: int, size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.attention = Attention(width, heads)
        self.picture = nn.Sequential(nn.LayerNorm(2 * width), FeedForward(2 * width, 2 * size))
        self.picture_out = nn.Linear(2 * width, size)
        self.text = nn.Sequential(nn.LayerNorm(text_width), FeedForward(text_width, 2 * size))
        self.text_out = nn.Linear(text_width, size)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied with before a softmax."""
        return self.log_sharpness.exp().clamp(max=LARGEST_SCALE)

    def embed_pictures(self, patches: Tensor) -> Tensor:
        """Projected patches (N, P, D) -> unit vectors (N, E)."""
        query = self.query.expand(patches.shape[0], 1, -1)
        looked = self.attention(query, self.attention.remember(patches))[:, 0]
        whole = torch.cat([looked, patches.mean(dim=1)], dim=1)
        return F.normalize(self.picture_out(whole + self.picture(whole)).float(), dim=1)

    def embed_texts(self, states: Tensor, mask: Tensor) -> Tensor:
        """Text states (B, T, D_t) and their attention mask (B, T) -> unit vectors (B, E)."""
        whole = masked_mean(states, mask)
        return F.normalize(self.text_out(whole + self.text(whole)).float(), dim=1)
