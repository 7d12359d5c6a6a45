"""What every fusion encoder is: `remember` a picture once, fuse a text with it every turn.

In training a row holds several texts about one photo; `segments` keeps them apart. In serving it is the attention mask.
Shape letters: B rows, T text tokens of a row, P picture positions, M memory positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from visavis.models.kv_cache import KeyValue


@dataclass(frozen=True)
class Fused:
    """What the decoder attends to beside the picture: `states` (B, M, D).

    `segments` (B, M) says which text of its row a position belongs to, counted from 1; 0 is padding.
    """

    states: Tensor
    segments: Tensor


class FusionEncoder(Protocol):
    """A module; `shown` picks the picture positions that the decoder attends to itself, of states and masks alike."""

    shown: slice

    def remember(self, patches: Tensor) -> tuple[KeyValue, ...]:
        """(B, P, D) projected picture -> keys and values that depend on it alone; nothing where there are none."""
        ...

    def __call__(
        self,
        text: Tensor,
        patches: Tensor,
        memory: Sequence[KeyValue],
        segments: Tensor,
        patch_mask: Tensor | None = None,
    ) -> Fused:
        """Fuse once a turn.

        Args:
            text: text states (B, T, D).
            patches: the projected picture (B, P, D); `memory` is what `remember` made of it.
            segments: (B, T), which text of its row a token belongs to, from 1; 0 is padding.
            patch_mask: (B, P), True means may attend; None means all.
        """
        ...
