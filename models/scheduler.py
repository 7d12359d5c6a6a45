"""Step-level (continuous) batching (Yu et al. 2022, "Orca"): what the engine's worker does between two decode steps.

    a round:  whoever left is dropped -> a slice of one picture is encoded -> ready questions are fused and join
              -> one decode step for all rows -> words are sent

Questions join and leave between any two steps; none waits for another's last word. It knows no threads and no sockets.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from visavis.models.answer import Answer
from visavis.models.decode_batch import DecodeBatch, DecodeStep
from visavis.models.engine_jobs import EngineCounters, Job, Outbox, WaitingLine
from visavis.models.errors import BadRequest, ModelError
from visavis.models.generation import Embedding, FinishReason, GenerationChunk, GenerationRequest, spoken
from visavis.models.grounding import word_heat
from visavis.models.image_states import ImageStates
from visavis.models.processor import Processor
from visavis.models.replies import reply_to_no_photo
from visavis.models.sampling import next_tokens
from visavis.models.visavis_model import ImageState, Memory, VisavisModel

logger = logging.getLogger(__name__)

JOINING_AT_ONCE = 4  # while more people wait than get words, else one: fusing costs more than a decode step of 32 rows
IS_A_PHOTO = 0.5
ENCODED_AHEAD = 2  # pictures made ready while all rows are taken


@dataclass(eq=False)
class _Row:
    """A running answer; its place in the list is its row in the batch."""

    job: Job
    answer: Answer
    text_tokens: int
    image_tokens: int
    number: int  # later ones have higher numbers


class Scheduler:
    """Brings the jobs of a line to their ends. Call `advance` from one thread, in inference mode."""

    def __init__(
        self,
        model: VisavisModel,
        processor: Processor,
        images: ImageStates,
        line: WaitingLine,
        counters: EngineCounters,
        *,
        max_rows: int,
        max_new_tokens: int,
        decode: DecodeStep | None = None,
    ) -> None:
        self._model = model
        self._processor = processor
        self._images = images
        self._line = line
        self._counters = counters
        self._max_new_tokens = max_new_tokens
        self._batch = DecodeBatch(model, max_rows, decode=decode)
        self._rows: list[_Row] = []
        self._outbox = Outbox()

    @property
    def running(self) -> int:
        """Questions that are being answered."""
        return len(self._rows)

    def warm_up(self) -> None:
        """A blank picture and a question through all parts, in the memory that turns will use."""
        model, question = self._model, self._encoded(GenerationRequest("What is this?"))
        pixels = self._processor.pixel_values(Image.new("RGB", (64, 64))).to(model.device, model.dtype)
        self._batch.join(model.fuse(model.image_state(model.encode_image(pixels)), *question))
        self._batch.step([model.config.decoder.bos_token_id])
        self._batch.leave(0)

    def advance(self) -> None:
        """One round. Whatever happens to a job is told to that job and to nobody else."""
        self._drop_who_left()
        self._embed_texts()
        self._encode()
        self._admit()
        self._tell_positions()
        self._step()
        self._outbox.send()

    def stop(self) -> None:
        """End what runs with what was said so far, and fail what waits."""
        while self._rows:
            self._end(self._rows[-1])
        for job in self._line.jobs():
            if self._line.take(job):
                self._outbox.put(job, ModelError("the model is shutting down"))
        self._outbox.send()

    def _drop_who_left(self) -> None:
        for row in [row for row in self._rows if row.job.over]:
            self._end(row)
        for job in self._line.jobs():
            if job.over and self._line.take(job):
                self._finish(job, self._new_answer(job.request), 0, 0)

    def _embed_texts(self) -> None:
        """Those wait for no picture and for nobody."""
        for job in self._line.jobs():
            if job.embeds and not job.looks and self._line.take(job):
                with self._failing(job):
                    text = self._encoded(job.request)
                    self._outbox.put(job, _embedding(self._model.embed_texts(*text), text[0].shape[1]))

    def _encode(self) -> None:
        """A slice of the first picture that somebody waits for, or all of it while more people wait for pictures than
        get words; one that nobody wants any more is given up."""
        waiting = [job for job in self._line.jobs() if job.looks]
        wanted = [job.look for job in waiting if not (job.image or self._images.is_ready(job.look))]
        ready = len(waiting) - len(wanted)
        if not wanted or ready >= self._batch.max_rows - len(self._rows) + ENCODED_AHEAD:
            return
        look = self._images.encoding if self._images.encoding in wanted else wanted[0]
        askers = [job for job in waiting if job.look == look]
        with self._failing(*askers):
            state = self._images.encode(look)
            while state is None and len(wanted) > len(self._rows):
                state = self._images.encode(look)
            if state is not None:
                self._counters.image_hits += len(askers) - 1
                for job in askers:
                    job.image = state

    def _admit(self) -> None:
        """Let ready questions join, in the order in which they came, while there are rows; do what takes no row."""
        admitted, most = 0, JOINING_AT_ONCE if len(self._line) > len(self._rows) else 1
        for job in self._line.jobs():
            has_room = not job.takes_row or len(self._rows) < self._batch.max_rows
            state = self._state(job) if has_room and admitted < most else None
            if state is None or not self._line.take(job):
                continue
            admitted += 1
            with self._failing(job):
                if job.embeds:
                    self._outbox.put(job, _embedding(self._model.embed_pictures(state), state.patches.shape[1]))
                elif job.answer is not None:
                    self._explain(job, job.answer, state)
                elif state.photo is not None and float(state.photo) < IS_A_PHOTO:
                    self._refuse(job)
                else:
                    self._join(job, state)

    def _refuse(self, job: Job) -> None:
        """Drawings and screens get a reply that nothing was computed for."""
        for chunk in spoken(reply_to_no_photo(job.request.question), job.look.sha256):
            self._outbox.put(job, chunk)
        self._counters.completed += 1

    def _explain(self, job: Job, answer: str, state: ImageState) -> None:
        if state.shown == self._model.config.tag_rows:
            raise BadRequest("this model keeps no places of the picture, so its answers cannot be explained")
        memory, _, _ = self._fuse(job.request, state)
        heat = word_heat(self._model, self._processor, memory, answer, state.shown, region=job.look.region)
        self._outbox.put(job, heat)

    def _state(self, job: Job) -> ImageState | None:
        if job.image is not None:
            return job.image
        state = self._images.get(job.look)
        self._counters.image_hits += state is not None
        return state

    def _join(self, job: Job, state: ImageState) -> None:
        memory, text_tokens, image_tokens = self._fuse(job.request, state)
        answer = self._new_answer(job.request)
        self._batch.join(memory)
        self._rows.append(_Row(job, answer, text_tokens, image_tokens, self._counters.fusion_forwards))

    def _fuse(self, request: GenerationRequest, state: ImageState) -> tuple[Memory, int, int]:
        text = self._encoded(request)
        self._counters.fusion_forwards += 1
        return self._model.fuse(state, *text), text[0].shape[1], state.patches.shape[1]

    def _encoded(self, request: GenerationRequest) -> tuple[Tensor, Tensor, Tensor]:
        encoded = self._processor.encode_question(request.question, request.history)
        ids, mask, kinds = (
            encoded[name].to(self._model.device) for name in ("input_ids", "attention_mask", "token_type_ids")
        )
        return ids, mask, kinds

    def _tell_positions(self) -> None:
        """To all who wait, but for the first one if it is being looked after already."""
        is_full = len(self._rows) >= self._batch.max_rows
        for position, job in enumerate(self._line.jobs(), start=1):
            if job.takes_row and job.position != position and (is_full or position > 1):
                job.position = position
                self._outbox.put(job, GenerationChunk("", position=position))

    def _step(self) -> None:
        """One token for every row. A step that breaks costs the newest row alone: it is the likeliest culprit, and
        without it there is more memory."""
        if not self._rows:
            return
        with self._failing(max(self._rows, key=lambda row: row.number).job):
            logits = self._batch.step([row.answer.token_ids[-1] for row in self._rows])
            chosen = next_tokens(logits, [row.answer for row in self._rows])
            self._counters.decode_steps += 1
            for row, (token, log_probability) in zip(tuple(self._rows), chosen, strict=True):
                with self._failing(row.job):
                    self._say(row, row.answer.take(token, log_probability))

    def _say(self, row: _Row, piece: str) -> None:
        if piece:
            self._outbox.put(row.job, GenerationChunk(piece))
        if row.answer.finish_reason is not None:
            self._end(row)

    def _end(self, row: _Row) -> None:
        self._free(row)
        self._finish(row.job, row.answer, row.text_tokens, row.image_tokens)

    def _free(self, row: _Row) -> None:
        place = self._rows.index(row)
        self._batch.leave(place)
        self._rows[place] = self._rows[-1]
        self._rows.pop()
        self._counters.rows_freed += 1

    def _finish(self, job: Job, answer: Answer, text_tokens: int, image_tokens: int) -> None:
        rest, completion = answer.end(image=job.look.sha256, text_tokens=text_tokens, image_tokens=image_tokens)
        self._counters.completed += completion.finish_reason is not FinishReason.CANCELLED
        self._counters.cancelled += completion.finish_reason is FinishReason.CANCELLED
        self._outbox.put(job, GenerationChunk(rest, completion))

    @contextlib.contextmanager
    def _failing(self, *jobs: Job) -> Iterator[None]:
        """What goes wrong inside is told to these jobs, which leave the line or their rows."""
        try:
            yield
            return
        except ModelError as known:
            error = known
        except Exception:
            logger.exception("a question failed")
            error = ModelError("the model failed on this question")
        for row in [row for row in self._rows if row.job in jobs]:
            self._free(row)
        for job in jobs:
            self._line.take(job)
            self._counters.failed += 1
            self._outbox.put(job, error)

    def _new_answer(self, request: GenerationRequest) -> Answer:
        wanted = request.sampling.max_new_tokens or self._max_new_tokens
        decoder = self._model.config.decoder
        return Answer(
            request.sampling,
            max_new_tokens=min(wanted, decoder.max_positions),
            start_token=decoder.bos_token_id,
            end_token=decoder.eos_token_id,
            decode=self._processor.decode_answer,
            device=self._model.device,
            calibration=self._model.config.calibration,
        )


def _embedding(vectors: Tensor, tokens: int) -> Embedding:
    return Embedding(tuple(vectors[0].float().tolist()), tokens)
