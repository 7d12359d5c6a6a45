"""Keys and values: what attention remembers. Plain tensors in fixed places; it knows no model and no tokens.

Shape letters: B rows, H heads, M remembered positions, D width, d = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class KeyValue:
    """Keys and values of one attention layer, both (B, H, M, d)."""

    key: Tensor
    value: Tensor

    def rows(self, index: Tensor | None) -> KeyValue:
        """Pick (and repeat) rows: `index` (R,) -> (R, H, M, d). None keeps all."""
        return self if index is None else KeyValue(self.key[index], self.value[index])

    def join(self, other: KeyValue) -> KeyValue:
        """Append the positions of `other` behind ours; rows must agree."""
        return KeyValue(torch.cat([self.key, other.key], dim=2), torch.cat([self.value, other.value], dim=2))

    @property
    def nbytes(self) -> int:
        """Bytes held by both tensors."""
        return self.key.nbytes + self.value.nbytes


class KVCache:
    """Preallocated self-attention memory of a decoder: (layers, B, H, max_length, d), filled from the left.

    Raises:
        ValueError: more positions are written than were allocated.
    """

    def __init__(
        self,
        layers: int,
        rows: int,
        heads: int,
        max_length: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (layers, rows, heads, max_length, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0

    def write(self, layer: int, new: KeyValue) -> KeyValue:
        """Store `new` behind what `layer` holds and return all of it; `advance` moves on when all layers have."""
        end = self.length + new.key.shape[2]
        if end > self.keys.shape[3]:
            raise ValueError(f"the cache holds {self.keys.shape[3]} positions, {end} are needed")
        self.keys[layer, :, :, self.length : end] = new.key
        self.values[layer, :, :, self.length : end] = new.value
        return KeyValue(self.keys[layer, :, :, :end], self.values[layer, :, :, :end])

    def advance(self, positions: int) -> None:
        """Call once a step, after all layers have written `positions` new ones."""
        self.length += positions

    def reset(self) -> None:
        """Forget everything; the memory stays allocated."""
        self.length = 0
