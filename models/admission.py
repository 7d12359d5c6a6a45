"""What the engine does for a question before its first word: the picture is encoded, the text meets it, and the memory
that an answer is decoded from is handed over. Whatever needs no words is done here as well.

    a round:  whoever left the line is dropped -> a slice of one picture is encoded -> texts are embedded
              -> ready questions are fused and handed over, in the order in which they came

Several may work on one line: who takes a job first has it alone. It knows no threads and no sockets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import Tensor

from visavis.models.answer import NewAnswer
from visavis.models.beam_search import beam_search
from visavis.models.engine_jobs import EngineCounters, Job, Outbox, WaitingLine, failure_of
from visavis.models.errors import BadRequest, ModelError
from visavis.models.generation import Completion, Embedding, FinishReason, GenerationChunk, GenerationRequest, spoken
from visavis.models.grounding import word_heat
from visavis.models.handover import Handover, Prepared
from visavis.models.image_states import ImageStates
from visavis.models.looks import Look
from visavis.models.picture_work import PictureWork
from visavis.models.processor import Processor
from visavis.models.replies import reply_to_no_photo
from visavis.models.request_trace import Stage
from visavis.models.visavis_model import ImageState, Memory, VisavisModel

JOINING_AT_ONCE = 4  # while more people wait than get words, else one: between two slices of a picture
IS_A_PHOTO = 0.5


class Admission:
    """Takes jobs from a line to the handover, or to their ends. Call `advance` from one thread, in inference mode.

    Up to `together` pictures are encoded in one forward; more than one only where no other admission is at work.
    """

    def __init__(
        self,
        model: VisavisModel,
        processor: Processor,
        images: ImageStates,
        line: WaitingLine,
        counters: EngineCounters,
        handover: Handover,
        new_answer: NewAnswer,
        *,
        together: int = 1,
    ) -> None:
        self._model = model
        self._processor = processor
        self._images = images
        self._line = line
        self._counters = counters
        self._handover = handover
        self._new_answer = new_answer
        self._outbox = Outbox()
        self._pictures = PictureWork(images, line, counters, handover, self._fail, together=together)
        self._did = False

    def advance(self) -> bool:
        """One round; False if there was nothing to do. What happens to a job is told to that job and to nobody else."""
        self._drop_who_left()
        self._did = encoding = self._pictures.advance()
        self._embed_texts()
        self._admit(self._pictures.in_hand if encoding else None)
        self._tell_positions()
        return self._did

    def stop(self) -> None:
        """Fail what waits."""
        for job in self._line.jobs():
            if self._line.take(job):
                self._outbox.put(job, ModelError("the model is shutting down"))
        self._outbox.send()

    def encoded(self, request: GenerationRequest) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, mask and kinds (1, T) of a question with its dialogue, on the model's device."""
        encoded = self._processor.encode_question(request.question, request.history)
        ids, mask, kinds = (
            encoded[name].to(self._model.device) for name in ("input_ids", "attention_mask", "token_type_ids")
        )
        return ids, mask, kinds

    def _drop_who_left(self) -> None:
        for job in self._line.jobs():
            if job.over and self._line.take(job):
                self._counters.add("cancelled")
                self._outbox.put(job, GenerationChunk("", _unanswered(job)))

    def _embed_texts(self) -> None:
        """Those wait for no picture and for nobody."""
        for job in self._line.jobs():
            if job.embeds and not job.looks and self._line.take(job):
                self._did = True
                with self._failing(job):
                    text = self.encoded(job.request)
                    self._outbox.put(job, _embedding(self._model.embed_texts(*text), text[0].shape[1]))

    def _admit(self, encoding: Look | None) -> None:
        """Let ready questions through, in the order in which they came, while there are rows; do what takes no row. Who
        came after somebody whose picture is being encoded here waits for it, or for another worker."""
        admitted, most = 0, JOINING_AT_ONCE if len(self._line) > self._handover.reserved else 1
        for job in self._line.jobs():
            if admitted == most or job.look == encoding:
                break
            state = self._take(job)
            if state is None:
                continue
            admitted, self._did = admitted + 1, True
            job.request.trace.mark(Stage.ADMITTED)
            with self._failing(job):
                if job.embeds:
                    self._outbox.put(job, _embedding(self._model.embed_pictures(state), state.patches.shape[1]))
                elif job.answer is not None:
                    self._explain(job, job.answer, state)
                elif state.photo is not None and float(state.photo) < IS_A_PHOTO:
                    if job.takes_row:
                        self._handover.free()
                    self._refuse(job)
                elif not job.takes_row:
                    self._search(job, state)
                else:
                    self._hand_over(job, state)

    def _take(self, job: Job) -> ImageState | None:
        """Out of the line, with a row if it needs one; None if it is not ready, has no row, or is taken already."""
        state = job.image or self._images.get(job.look)
        if state is None or (job.takes_row and not self._handover.reserve()):
            return None
        if not self._line.take(job):
            if job.takes_row:
                self._handover.free()
            return None
        if job.image is None:
            self._counters.add("image_hits")
        return state

    def _refuse(self, job: Job) -> None:
        """Drawings and screens get a reply that nothing was computed for."""
        for chunk in spoken(reply_to_no_photo(job.request.question), job.look.sha256):
            self._outbox.put(job, chunk)
        self._counters.add("completed")

    def _explain(self, job: Job, answer: str, state: ImageState) -> None:
        if state.shown == self._model.config.tag_rows:
            raise BadRequest("this model keeps no places of the picture, so its answers cannot be explained")
        memory, _ = self._fuse(job.request, state)
        heat = word_heat(self._model, self._processor, memory, answer, state.shown, region=job.look.region)
        self._outbox.put(job, heat)

    def _search(self, job: Job, state: ImageState) -> None:
        """All of an answer at once: beams do not stay in a row of their own."""
        memory, text_tokens = self._fuse(job.request, state)
        job.request.trace.mark(Stage.FUSED)
        answer, sampling = self._new_answer(job.request.sampling), job.request.sampling
        best = beam_search(
            self._model,
            memory,
            sampling.beams,
            max_new_tokens=answer.max_new_tokens,
            min_new_tokens=sampling.min_new_tokens,
            go_on=lambda: not job.over,
        )
        text = "".join(answer.take(*said) for said in zip(best.token_ids, best.log_probabilities, strict=True))
        rest, completion = answer.end(
            image=job.look.sha256, text_tokens=text_tokens, image_tokens=state.patches.shape[1]
        )
        job.request.trace.mark(Stage.FIRST_TOKEN)
        self._counters.add("cancelled" if completion.finish_reason is FinishReason.CANCELLED else "completed")
        self._outbox.put(job, GenerationChunk(text + rest, completion))

    def _hand_over(self, job: Job, state: ImageState) -> None:
        try:
            memory, text_tokens = self._fuse(job.request, state)
            job.request.trace.mark(Stage.FUSED)
            self._outbox.send()  # what was said of the wait comes before the first word
            self._handover.put(Prepared(job, memory, text_tokens, state.patches.shape[1]))
        except Exception:
            self._handover.free()
            raise

    def _fuse(self, request: GenerationRequest, state: ImageState) -> tuple[Memory, int]:
        text = self.encoded(request)
        self._counters.add("fusion_forwards")
        return self._model.fuse(state, *text), text[0].shape[1]

    def _tell_positions(self) -> None:
        """To all who wait, but for the first one if it is being looked after already. Nobody is taken out meanwhile: no
        position is told after a word."""
        with self._line.still():
            is_full = self._handover.room == 0
            for position, job in enumerate(self._line.jobs(), start=1):
                if job.takes_row and job.position != position and (is_full or position > 1):
                    job.position = position
                    self._outbox.put(job, GenerationChunk("", position=position))
            self._outbox.send()

    @contextlib.contextmanager
    def _failing(self, *jobs: Job) -> Iterator[None]:
        """What goes wrong inside is told to these jobs, which leave the line."""
        try:
            yield
        except Exception as raised:
            self._fail(jobs, failure_of(raised))

    def _fail(self, jobs: Sequence[Job], error: ModelError) -> None:
        for job in jobs:
            self._line.take(job)
            self._counters.add("failed")
            self._outbox.put(job, error)


def _unanswered(job: Job) -> Completion:
    return Completion("", FinishReason.CANCELLED, image=job.look.sha256)


def _embedding(vectors: Tensor, tokens: int) -> Embedding:
    return Embedding(tuple(vectors[0].float().tolist()), tokens)
