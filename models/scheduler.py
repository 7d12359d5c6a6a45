"""Step-level (continuous) batching (Yu et al. 2022, "Orca"): what the engine does between two decode steps.

    a round:  prepared questions join -> whoever left is dropped -> one decode step for all rows -> words are sent

Answers join and leave between any two steps; none waits for another's last word. It knows no threads and no sockets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image

from visavis.models.answer import Answer, NewAnswer
from visavis.models.decode_batch import DecodeBatch, DecodeStep
from visavis.models.engine_jobs import EngineCounters, Outbox, failure_of
from visavis.models.errors import ModelError
from visavis.models.generation import FinishReason, GenerationChunk
from visavis.models.handover import Handover, Prepared
from visavis.models.processor import Processor
from visavis.models.request_trace import Stage
from visavis.models.sampling import next_tokens
from visavis.models.visavis_model import VisavisModel


@dataclass(eq=False)
class _Row:
    """A running answer; its place in the list is its row in the batch. `number` counts those that have joined."""

    asked: Prepared
    answer: Answer
    number: int


class Scheduler:
    """Decodes the answers to what is handed over. Call `advance` from one thread, in inference mode."""

    def __init__(
        self,
        model: VisavisModel,
        processor: Processor,
        counters: EngineCounters,
        handover: Handover,
        *,
        new_answer: NewAnswer,
        decode: DecodeStep | None = None,
    ) -> None:
        self._model = model
        self._processor = processor
        self._counters = counters
        self._handover = handover
        self._new_answer = new_answer
        self._batch = DecodeBatch(model, handover.max_rows, decode=decode)
        self._rows: list[_Row] = []
        self._joined = 0
        self._outbox = Outbox()

    @property
    def running(self) -> int:
        """Answers that are being decoded."""
        return len(self._rows)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """A blank picture and a question through all parts, in the memory that turns will use."""
        model = self._model
        pixels = self._processor.pixel_values(Image.new("RGB", (64, 64))).to(model.device, model.dtype)
        question = {
            name: ids.to(model.device) for name, ids in self._processor.encode_question("What is this?").items()
        }
        self._batch.join(model.fuse(model.image_state(model.encode_image(pixels)), **question))
        self._batch.step([model.config.decoder.bos_token_id])
        self._batch.leave(0)

    def advance(self) -> None:
        """One round. Whatever happens to an answer is told to whoever asked and to nobody else."""
        self._join()
        for row in [row for row in self._rows if row.asked.job.over]:
            self._end(row)
        self._step()
        self._outbox.send()

    def stop(self) -> None:
        """End what runs with what was said so far, and fail what has not begun."""
        while self._rows:
            self._end(self._rows[-1])
        for asked in self._handover.take_all():
            self._handover.free()
            self._outbox.put(asked.job, ModelError("the model is shutting down"))
        self._outbox.send()

    def _join(self) -> None:
        for asked in self._handover.take_all():
            self._joined += 1
            row = _Row(asked, self._new_answer(asked.job.request.sampling), self._joined)
            self._rows.append(row)
            with self._failing(row):
                self._batch.join(asked.memory)

    def _step(self) -> None:
        """One token for every row. A step that breaks costs the newest row alone: it is the likeliest culprit, and
        without it there is more memory."""
        if not self._rows:
            return
        with self._failing(max(self._rows, key=lambda row: row.number)):
            logits = self._batch.step([row.answer.token_ids[-1] for row in self._rows])
            chosen = next_tokens(logits, [row.answer for row in self._rows])
            self._counters.decode_steps += 1
            for row, (token, log_probability) in zip(tuple(self._rows), chosen, strict=True):
                with self._failing(row):
                    self._say(row, row.answer.take(token, log_probability))

    def _say(self, row: _Row, piece: str) -> None:
        row.asked.job.request.trace.mark(Stage.FIRST_TOKEN)
        if piece:
            self._outbox.put(row.asked.job, GenerationChunk(piece))
        if row.answer.finish_reason is not None:
            self._end(row)

    def _end(self, row: _Row) -> None:
        self._free(row)
        self._finish(row)

    def _free(self, row: _Row) -> None:
        place = self._rows.index(row)
        if place < len(self._batch):
            self._batch.leave(place)
        self._rows[place] = self._rows[-1]
        self._rows.pop()
        self._counters.rows_freed += 1
        self._handover.free()

    def _finish(self, row: _Row) -> None:
        asked = row.asked
        rest, completion = row.answer.end(
            image=asked.job.look.sha256, text_tokens=asked.text_tokens, image_tokens=asked.image_tokens
        )
        self._counters.add("cancelled" if completion.finish_reason is FinishReason.CANCELLED else "completed")
        self._outbox.put(asked.job, GenerationChunk(rest, completion))

    @contextlib.contextmanager
    def _failing(self, row: _Row) -> Iterator[None]:
        """What goes wrong inside is told to whoever asked for this row, which is freed."""
        try:
            yield
            return
        except Exception as raised:
            error = failure_of(raised)
        if row in self._rows:
            self._free(row)
        self._counters.add("failed")
        self._outbox.put(row.asked.job, error)
