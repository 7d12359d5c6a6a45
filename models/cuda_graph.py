"""The decode step as a CUDA graph: all its kernels are launched at once.

One answer token is a few hundred kernels of microseconds each, so that launching them one by one costs more than what
they do (PyTorch documentation, "CUDA Graphs").
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from visavis.models.decode_batch import DecodeStep, decode_rows
from visavis.models.generation_decoder import GenerationDecoder
from visavis.models.kv_cache import KeyValue

logger = logging.getLogger(__name__)

WARM_UP_STEPS = 2


class GraphedStep:
    """`decode_rows` for rows that stay where they are in memory: recorded at the first step, then replayed, and
    recorded again when the buffers have grown. Where it cannot be recorded, every step is launched kernel by kernel.

    The logits are overwritten by the next step.
    """

    def __init__(self) -> None:
        self.recordings = 0
        self._step: DecodeStep | None = None
        self._places: tuple[object, ...] = ()

    def __call__(
        self,
        decoder: GenerationDecoder,
        tokens: Tensor,
        positions: Tensor,
        memory: tuple[KeyValue, ...],
        may_see: Tensor,
        own: tuple[KeyValue, ...],
    ) -> Tensor:
        """As `decode_rows`."""
        buffers = positions, may_see, memory[0].key, memory[0].value, own[0].key, own[0].value
        places = tuple(map(_place, buffers))
        if self._step is None or places != self._places:
            self._step = self._recorded(decoder, tokens, positions, memory, may_see, own)
            self._places = places
        return self._step(decoder, tokens, positions, memory, may_see, own)

    def _recorded(self, decoder: GenerationDecoder, tokens: Tensor, *buffers: Any) -> DecodeStep:
        """A step writes the same keys and values however often it is repeated, so trying it out does no harm."""
        given = tokens.clone()
        try:
            graph, logits = _record(decoder, given, *buffers)
        except RuntimeError:
            logger.warning("the decode step cannot be recorded as a CUDA graph", exc_info=True)
            return decode_rows
        self.recordings += 1

        def replay(_: GenerationDecoder, tokens: Tensor, *__: Any) -> Tensor:
            given.copy_(tokens)
            graph.replay()
            return logits

        return replay


def _record(*inputs: Any) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):  # libraries allocate their workspaces outside of the recording
        for _ in range(WARM_UP_STEPS):
            decode_rows(*inputs)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = decode_rows(*inputs)
    return graph, logits


def _place(buffer: Tensor) -> tuple[int, torch.Size]:
    return buffer.data_ptr(), buffer.shape
