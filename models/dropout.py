"""Dropout (Srivastava et al. 2014) with cheap chance: eight decisions from each 64-bit draw.

torch draws numbers on a CPU one by one; with one draw a value, dropout took a quarter of a training step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 256


class Dropout(nn.Dropout):
    """As torch's, with the probability rounded to a multiple of 1/256 on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same; in training, values are zero by chance and the others grow to keep the mean."""
        dropped = round(self.p * _LEVELS)
        if not self.training or input.device.type != "cpu" or not 0 < dropped < _LEVELS:
            return super().forward(input)
        draws = torch.empty(-(-input.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: input.numel()].view(input.shape) >= dropped
        return input * (kept * (_LEVELS / (_LEVELS - dropped))).to(input.dtype)
