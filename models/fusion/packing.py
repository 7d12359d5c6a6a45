"""Rows of several texts taken apart, one text a row, and put together again.

Shape letters: B rows, T tokens of a row, K texts of all rows, L tokens of the longest text, M memory positions,
D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from visavis.models.fusion.interface import Fused


@dataclass(frozen=True)
class Texts:
    """One text a row: `states` (K, L, D), `mask` (K, L), the `row` (K,) and the `segment` (K,) that it came from."""

    states: Tensor
    mask: Tensor
    row: Tensor
    segment: Tensor


def unpack(states: Tensor, segments: Tensor) -> Texts:
    """(B, T, D) states of rows whose texts stand one after another, numbered by `segments` (B, T); 0 is padding."""
    real = segments > 0
    places = torch.stack([real.nonzero()[:, 0], segments[real]], dim=1)
    owners, lengths = places.unique_consecutive(dim=0, return_counts=True)
    padded = pad_sequence(states[real].split(lengths.tolist()), batch_first=True)
    mask = torch.arange(padded.shape[1], device=states.device) < lengths[:, None]
    return Texts(padded, mask, *owners.unbind(dim=1))


def pack(texts: Texts, states: Tensor, mask: Tensor, rows: int) -> Fused:
    """What became of each text, (K, L', D) with its `mask` (K, L'), one after another in its row: (B, M, D)."""
    counts = mask.new_zeros(rows, dtype=torch.long).index_add(0, texts.row, mask.sum(dim=1)).tolist()
    owners = texts.segment[:, None].expand_as(mask)[mask]
    parts = (pad_sequence(flat.split(counts), batch_first=True) for flat in (states[mask], owners))
    return Fused(*parts)


def last(positions: int) -> tuple[slice, slice]:
    """All but the last `positions`, and those: how a picture's own places part from its tags."""
    return (slice(None, -positions), slice(-positions, None)) if positions else (slice(None), slice(0, 0))
