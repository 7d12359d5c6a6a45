"""The rows that are decoded together: what each remembers of its turn and of its own answer, in memory kept for reuse.

A row joins and leaves between two steps; rows never read each other. It knows tensors and no questions.
Shape letters: L layers, R rows, H heads, M memory positions, S answer positions, d = D / H, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from visavis.models.attention import added_mask
from visavis.models.generation_decoder import GenerationDecoder
from visavis.models.kv_cache import KeyValue, KeyValueRows
from visavis.models.visavis_model import Memory, VisavisModel

_ROUNDING, _STATIC_ROUNDING = 16, 64  # of positions: what is held and not used is read as well
_WORTH_KEEPING = 0.5  # of what is held; less is given back, more would soon be taken again

DecodeStep = Callable[..., Tensor]
"""`decode_rows`, or what does the same with the same arguments."""


class DecodeBatch:
    """Row i belongs to the i-th running answer: `join` appends a row, `leave` moves the last row into the gap.

    On a CPU a step computes what is in use. If `static` (by default on an accelerator) all `max_rows` are allocated at
    the first `join` and computed at every step, so that shapes stay the same, as compiled steps and CUDA graphs need
    it (until a longer memory than ever before joins). `decode` takes the place of `decode_rows`.
    """

    def __init__(
        self, model: VisavisModel, max_rows: int, *, static: bool | None = None, decode: DecodeStep | None = None
    ) -> None:
        self.max_rows = max_rows
        self._decode = decode or decode_rows
        self._decoder = model.step_decoder or model.decoder
        self._static = model.device.type != "cpu" if static is None else static
        sizes = model.config.decoder
        shape = (sizes.num_hidden_layers, sizes.num_attention_heads, sizes.hidden_size // sizes.num_attention_heads)
        on_cpu = model.device.type == "cpu"
        self._own = KeyValueRows(*shape, dtype=model.dtype, device=model.device, turned=on_cpu)
        self._memory = KeyValueRows(*shape, dtype=model.memory_dtype or model.dtype, device=model.device, turned=on_cpu)
        self._may_see = torch.zeros(0, 0, dtype=torch.bool, device=model.device)
        self._positions = torch.zeros(max_rows, dtype=torch.long, device=model.device)
        self._said: list[int] = []  # of each row: how many tokens were decoded
        self._seen: list[int] = []  # of each row: how long its memory is

    def __len__(self) -> int:
        return len(self._said)

    def join(self, memory: Memory) -> None:
        """Append a row for the memory of one turn. Raises ValueError if all rows are taken."""
        row, length = len(self), memory.layers[0].key.shape[2]
        if row == self.max_rows:
            raise ValueError(f"the batch has {self.max_rows} rows, and all are taken")
        self._reserve(row + 1, length)
        self._own.clear(row)
        self._memory.fill(row, memory.layers)
        self._may_see[row] = False
        self._may_see[row, :length] = True if memory.mask is None else memory.mask.flatten()
        self._positions[row] = 0
        self._said.append(0)
        self._seen.append(length)
        self._shorten()

    def leave(self, row: int) -> None:
        """Free a row; the last one takes its place."""
        last = len(self) - 1
        for buffer in (self._own, self._memory):
            buffer.move(last, row)
        for values in (self._may_see, self._positions):
            values[row] = values[last]
        for counts in (self._said, self._seen):
            counts[row] = counts[last]
            counts.pop()
        self._shorten()

    def step(self, tokens: Sequence[int]) -> Tensor:
        """The last token of every row -> what may follow, float32 logits (rows, V). A failing step moves nothing."""
        rows = self.max_rows if self._static else len(self)
        self._own.grow(self._own.rows, self._answer_positions())
        ids = torch.tensor([*tokens, *[0] * (rows - len(self))]).to(self._positions.device)
        logits = self._decode(
            self._decoder,
            ids,
            self._positions[:rows],
            self._memory.view(rows, self._may_see.shape[1]),
            self._may_see[:rows],
            self._own.view(rows, self._own.positions),
        )
        self._positions[: len(self)] += 1
        self._said = [count + 1 for count in self._said]
        return logits[: len(self)]

    def _shorten(self) -> None:
        """Give back what a long memory or a long answer took: every step reads all positions held, for all rows."""
        needed = self._rounded(max(self._seen, default=0))
        if needed and not self._static and needed <= _WORTH_KEEPING * self._may_see.shape[1]:
            self._memory.shorten(needed)
            self._may_see = self._may_see[:, :needed].clone()
        if (needed := self._answer_positions()) <= _WORTH_KEEPING * self._own.positions:
            self._own.shorten(needed)

    def _answer_positions(self) -> int:
        """For the longest answer and one token more."""
        most = self._decoder.max_positions
        return most if self._static else min(most, self._rounded(max(self._said, default=0) + 1))

    def _rounded(self, positions: int) -> int:
        step = _STATIC_ROUNDING if self._static else _ROUNDING
        return -(-positions // step) * step

    def _reserve(self, rows: int, length: int) -> None:
        """Make room; what is there is kept. Rows are doubled, so that one answer alone does not pay for a crowd."""
        held, longest = self._may_see.shape
        if rows <= held and length <= longest:
            return
        if rows > held:
            rows = self.max_rows if self._static else min(max(rows, 2 * held), self.max_rows)
        rows, longest = max(rows, held), max(self._rounded(length), longest)
        self._own.grow(rows, max(self._own.positions, self._answer_positions()))
        self._memory.grow(rows, longest)
        grown = self._may_see.new_zeros(rows, longest)
        grown[: self._may_see.shape[0], : self._may_see.shape[1]] = self._may_see
        self._may_see = grown


def decode_rows(
    decoder: GenerationDecoder,
    tokens: Tensor,
    positions: Tensor,
    memory: tuple[KeyValue, ...],
    may_see: Tensor,
    own: tuple[KeyValue, ...],
) -> Tensor:
    """One decode step without a look at the values: shapes depend on shapes alone, nothing waits for a device.

    Args:
        decoder: the model's.
        tokens, positions: (R,), the newest token of each row and where it stands in the answer.
        memory: of every layer, (R, H, M, d).
        may_see: (R, M), True where a row may attend to its memory.
        own: of every layer, (R, H, S, d): the answer so far, to which this step's keys and values are added.

    Returns:
        Logits (R, V), float32.
    """
    past = torch.arange(own[0].key.shape[2], device=tokens.device) <= positions[:, None]
    if tokens.device.type == "cpu":  # once for all layers
        may_see, past = added_mask(may_see, memory[0].key.dtype), added_mask(past, own[0].key.dtype)
    states = decoder.states(
        tokens[:, None],
        positions[:, None],
        memory,
        may_see[:, None, None],
        past[:, None, None],
        _StepCache(own, positions),
    )
    return decoder.logits(states)[:, 0].float()


class _StepCache:
    """Takes the place of a `KVCache` where every row has a length of its own."""

    def __init__(self, layers: tuple[KeyValue, ...], positions: Tensor) -> None:
        self._layers, self._positions = layers, positions
        self._rows = torch.arange(positions.shape[0], device=positions.device)

    def write(self, layer: int, new: KeyValue) -> KeyValue:
        """Store the keys and values of one position a row, (R, H, 1, d), and return all of the layer."""
        held = self._layers[layer]
        held.key[self._rows, :, self._positions] = new.key[:, :, 0]
        held.value[self._rows, :, self._positions] = new.value[:, :, 0]
        return held
