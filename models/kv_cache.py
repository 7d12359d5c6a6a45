"""Keys and values: what attention remembers. Plain tensors in fixed places; it knows no model and no tokens.

Shape letters: B rows, H heads, M remembered positions, D width, d = D / H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class KeyValue:
    """Keys and values of one attention layer, both (B, H, M, d).

    Keys that are *turned* lie in memory as (B, H, d, M).
    """

    key: Tensor
    value: Tensor

    @property
    def is_turned(self) -> bool:
        """Whether keys lie as a single query reads them fastest: its first place of all positions, its second, ..."""
        return self.key.mT.is_contiguous()

    @property
    def is_whole(self) -> bool:
        """Whether keys (turned or not) and values lie without gaps."""
        return self.value.is_contiguous() and (self.is_turned or self.key.is_contiguous())

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


class Cache(Protocol):
    """What a decoder layer needs of its memory of earlier positions."""

    def write(self, layer: int, new: KeyValue) -> KeyValue:
        """Keep `new` and return all that `layer` remembers."""
        ...


class GrowingCache(Cache, Protocol):
    """One that all rows fill to the same `length`."""

    length: int

    def advance(self, positions: int) -> None:
        """Called once a step, after all layers have written."""
        ...


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

    def choose(self, rows: Tensor) -> None:
        """Go on with these rows, (B,) of as many as there are: beams that were not followed make room for others."""
        self.keys[..., : self.length, :] = self.keys[:, rows, :, : self.length]
        self.values[..., : self.length, :] = self.values[:, rows, :, : self.length]

    def reset(self) -> None:
        """Forget everything; the memory stays allocated."""
        self.length = 0


class KeyValueRows:
    """Keys and values of rows that come and go, (layers, rows, heads, positions, d) each, kept for reuse.

    The keys may be `turned` (see `KeyValue`).
    """

    def __init__(
        self, layers: int, heads: int, head_dim: int, *, dtype: torch.dtype, device: torch.device, turned: bool = False
    ) -> None:
        self.values = torch.zeros(layers, 0, heads, 0, head_dim, dtype=dtype, device=device)
        self.turned = turned
        self.keys = self._keys_like(self.values)

    @property
    def rows(self) -> int:
        """How many there is room for."""
        return self.values.shape[1]

    @property
    def positions(self) -> int:
        """How many each row has room for."""
        return self.values.shape[3]

    def view(self, rows: int, positions: int) -> tuple[KeyValue, ...]:
        """Of every layer the first rows and positions, without a copy."""
        parts = (part[:, :rows, :, :positions].unbind() for part in (self.keys, self.values))
        return tuple(KeyValue(key, value) for key, value in zip(*parts, strict=True))

    def clear(self, row: int) -> None:
        """Zeros, since a masked NaN of somebody before would still spoil an attention."""
        self.keys[:, row].zero_()
        self.values[:, row].zero_()

    def fill(self, row: int, layers: Sequence[KeyValue]) -> None:
        """Put what a row remembers, (1, H, M, d) a layer, in the place of what was there, and zeros behind it."""
        length = layers[0].key.shape[2]
        for layer, held in enumerate(layers):
            self.keys[layer, row, :, :length] = held.key[0]
            self.values[layer, row, :, :length] = held.value[0]
        self.keys[:, row, :, length:] = 0
        self.values[:, row, :, length:] = 0

    def move(self, source: int, target: int) -> None:
        """Copy one row over another."""
        if source != target:
            self.keys[:, target] = self.keys[:, source]
            self.values[:, target] = self.values[:, source]

    def shorten(self, positions: int) -> None:
        """Keep the first positions alone."""
        self._resize(self.values.shape[1], positions)

    def grow(self, rows: int, positions: int) -> None:
        """Make room for so many, at least; what is there is kept."""
        if rows > self.rows or positions > self.positions:
            self._resize(max(rows, self.rows), max(positions, self.positions))

    def _resize(self, rows: int, positions: int) -> None:
        layers, held, heads, length, width = self.values.shape
        values = self.values.new_zeros(layers, rows, heads, positions, width)
        keys = self._keys_like(values)
        kept = (slice(None), slice(min(rows, held)), slice(None), slice(min(positions, length)))
        keys[kept], values[kept] = self.keys[kept], self.values[kept]
        self.keys, self.values = keys, values

    def _keys_like(self, values: Tensor) -> Tensor:
        """Zeros of that shape, laid out as the keys are."""
        if self.turned:
            return torch.zeros_like(values.mT, memory_format=torch.contiguous_format).mT
        return torch.zeros_like(values)
