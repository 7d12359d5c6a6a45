"""Multi-head attention and feed-forward parts shared by the fusion encoder and the generation decoder.

They take plain numbers, never a configuration. Masks: True means *may attend*; or numbers that are added to the scores
(`added_mask`), which is quicker where a mask is used more than once.
Shape letters: B rows, S queries, M keys, D width, H heads, d = D / H.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.dropout import Dropout
from visavis.models.kv_cache import KeyValue


class ReadsTogether(nn.Module):
    """Self-attention whose queries, keys and values come from several layers in a checkpoint, named by `parts`.

    They read the same states, so they can be served as one: then `joined` takes their place. Served `in_bf16`, they may
    be multiplied so as well.
    """

    parts: ClassVar[tuple[str, ...]]
    joined: nn.Module | None
    in_bf16 = False

    def __init__(self) -> None:
        super().__init__()
        self.register_module("joined", None)

    def project(self, states: Tensor, heads: int) -> list[Tensor]:
        """(B, S, D) -> queries, keys and values, (B, H, S, d) each."""
        if self.joined is None:
            read = [getattr(self, name)(states) for name in self.parts]
            found = [part for one in read for part in one.split(read[0].shape[-1], dim=-1)]
        else:
            found = list(self.joined(states).chunk(3, dim=-1))
        return [part.unflatten(2, (heads, -1)).transpose(1, 2) for part in found]

    def take_apart(self) -> list[nn.Linear]:
        """The layers, which leave for a `joined` one."""
        layers: list[nn.Linear] = [getattr(self, name) for name in self.parts]
        for name in self.parts:
            delattr(self, name)
        return layers


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2) whose keys and values can be made ahead of time.

    The probabilities see no dropout: on a CPU it would rule out the fused kernel and cost a quarter of a training step.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be split over {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def remember(self, states: Tensor) -> KeyValue:
        """(B, M, D) -> keys and values (B, H, M, d): what can be cached."""
        key, value = self.key_value(states).chunk(2, dim=-1)
        return KeyValue(self._split(key), self._split(value))

    def forward(self, states: Tensor, memory: KeyValue, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, S, D) attends to `memory`; `mask` broadcasts to (B, H, S, M).

        `memory` and `mask` may have fewer rows, B / K: each then serves K rows of `states` in a run, and is read once
        for all of them. Their mask must be the same for all queries.
        """
        return self.attend(self._split(self.query(states)), memory, mask, causal)

    def attend(self, query: Tensor, memory: KeyValue, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """The same for queries (B, H, S, d)."""
        sharing = query.shape[0] // memory.key.shape[0]
        if query.shape[2] == 1 and sharing == 1 and query.device.type == "cpu" and memory.is_whole:
            return self.out(one_query(query, memory, mask).flatten(1)[:, None])  # type: ignore[no-any-return]
        if sharing > 1:
            query = query.unflatten(0, (-1, sharing)).transpose(1, 2).flatten(2, 3)
        mixed = F.scaled_dot_product_attention(query, memory.key, memory.value, mask, is_causal=causal)
        if sharing > 1:
            mixed = mixed.unflatten(2, (sharing, -1)).transpose(1, 2).flatten(0, 1)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended

    def weights(self, states: Tensor, memory: KeyValue, mask: Tensor | None = None) -> Tensor:
        """The attention probabilities themselves, (B, H, S, M): slower, for heat maps only."""
        query = self._split(self.query(states))
        scores: Tensor = query @ memory.key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(-1)

    def mix(self, weights: Tensor, memory: KeyValue) -> Tensor:
        """What `forward` gives once the probabilities (B, H, S, M) are known: (B, S, D)."""
        return self.out((weights @ memory.value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, states: Tensor) -> Tensor:
        rows, length, width = states.shape
        return states.view(rows, length, self.heads, width // self.heads).transpose(1, 2)


class SelfAttention(Attention, ReadsTogether):
    """Attention of states to themselves, whose keys and values may be kept."""

    parts = ("query", "key_value")

    def read(self, states: Tensor) -> tuple[Tensor, KeyValue]:
        """(B, S, D) -> queries, and the keys and values of the same states, (B, H, S, d) each."""
        query, key, value = self.project(states, self.heads)
        return query, KeyValue(key, value)


def one_query(query: Tensor, memory: KeyValue, mask: Tensor | None) -> Tensor:
    """Attention of one query a row, (B, H, 1, d) -> (B, H, d), in the memory's precision.

    On a CPU reading the memory is all the work, and the fused kernel, made for many queries, reads slowly. `memory` is
    whole, `mask` broadcasts to (B, H, 1, M).
    """
    rows, heads, positions, width = memory.key.shape
    asked = (query * width**-0.5).to(memory.key.dtype).reshape(rows * heads, width)
    values = memory.value.view(rows * heads, positions, width)
    if memory.is_turned:
        scores = sums_of_rows(asked, memory.key.mT.view(rows * heads, width, positions))
    else:
        scores = torch.bmm(asked[:, None], memory.key.view(rows * heads, positions, width).mT)
    scores = scores.view(rows, heads, 1, positions)
    if mask is not None:
        scores += added_mask(mask, scores.dtype)
    weights = scores.softmax(-1).to(values.dtype).view(rows * heads, positions)
    return sums_of_rows(weights, values).view(rows, heads, width).to(query.dtype)


def sums_of_rows(weights: Tensor, rows: Tensor) -> Tensor:
    """(N, K) weights of rows (N, K, W) -> (N, W): a product with a single row on its left.

    It is what an embedding bag computes, whose CPU kernel reads as fast as memory gives, in fp32 and in bf16; the
    general product of matrices takes two to three times as long.
    """
    bags, length, width = rows.shape
    every = _counted(bags * length, rows.device)
    starts = torch.arange(0, bags * length, length, dtype=torch.int32, device=rows.device)
    table = rows.view(bags * length, width)
    sums: Tensor = torch.embedding_bag(table, every, starts, False, 0, False, weights.reshape(-1))[0]
    return sums


def added_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0 where a query may attend, elsewhere the least number, which is finite for the sake of
    rows that may see nothing. A mask of numbers stays as it is."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


_COUNTED: dict[torch.device, Tensor] = {}


def _counted(numbers: int, device: torch.device) -> Tensor:
    """0, 1, 2, ... in int32. They are kept: a step needs them a dozen times, and they are slow to write."""
    if torch.compiler.is_compiling():
        return torch.arange(numbers, dtype=torch.int32, device=device)
    if device not in _COUNTED or _COUNTED[device].shape[0] < numbers:
        with torch.inference_mode(mode=False):  # others may learn with them
            _COUNTED[device] = torch.arange(max(numbers, 1 << 16), dtype=torch.int32, device=device)
    return _COUNTED[device][:numbers]


class FeedForward(nn.Sequential):
    """Linear, GELU, Linear; to `out` places, by default as many as it reads."""

    def __init__(self, width: int, inner: int, dropout: float = 0.0, *, out: int | None = None) -> None:
        super().__init__(nn.Linear(width, inner), nn.GELU(), Dropout(dropout), nn.Linear(inner, out or width))
