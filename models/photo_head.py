"""Is it a photo at all? A linear reading of the towers' features, fitted on photos and on drawings made by code.

Screens, documents, charts and drawings are nothing that the decoder can speak about; with this it need not try.
Shape letters: N pictures, P patches with the class token first, D_v width, O cells and C channels of the object tower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visavis.models.image_features import ImageFeatures


class PhotoHead(nn.Module):
    """Features -> the probability of a photo."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, features: ImageFeatures) -> Tensor:
        """-> (N,)."""
        return self.linear(summary(features))[:, 0].float().sigmoid()  # type: ignore[no-any-return]


def summary(features: ImageFeatures) -> Tensor:
    """(N, 2 D_v + C): class token, mean patch, and mean cell where there is an object tower."""
    parts = [features.patches[:, 0], features.patches[:, 1:].mean(dim=1)]
    return torch.cat(parts if features.cells is None else [*parts, features.cells.mean(dim=1)], dim=1)
