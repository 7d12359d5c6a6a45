"""The inference engine: questions in, streams of words out; one worker thread drives the model.

A picture is encoded once and kept by its sha256, its meeting with the text is computed once a turn, then the answer is
decoded token by token. Questions are answered one after another; those that come meanwhile wait in a bounded queue.
The engine knows no sockets and no messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from types import TracebackType

import torch

from visavis.models.answer import Answer
from visavis.models.errors import BadRequest, Busy, ModelError, UnknownImage
from visavis.models.generation import Completion, FinishReason, GenerationChunk, GenerationRequest, WordHeat
from visavis.models.grounding import word_heat
from visavis.models.image_states import ImageCounters, ImageStates
from visavis.models.images import PictureLimits
from visavis.models.processor import Processor
from visavis.models.regions import patch_mask
from visavis.models.replies import reply_without_model
from visavis.models.text_checks import clean_text
from visavis.models.visavis_model import ImageState, Memory, VisavisModel

logger = logging.getLogger(__name__)
_Event = GenerationChunk | ModelError | tuple[WordHeat, ...]


@dataclass
class EngineCounters(ImageCounters):
    """What the engine has done since it was made; only ever grows."""

    fusion_forwards: int = 0
    decode_steps: int = 0
    rows_freed: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    rejected: int = 0


@dataclass(eq=False)
class _Job:
    """A question on its way, or an `answer` to be explained. The worker fills `events`; the reader sets `abandoned`
    when it leaves."""

    request: GenerationRequest
    deadline: float
    loop: asyncio.AbstractEventLoop
    answer: str | None = None
    events: asyncio.Queue[_Event] = field(default_factory=asyncio.Queue)  # bounded by answer length
    abandoned: bool = False

    @property
    def over(self) -> bool:
        return self.abandoned or time.monotonic() > self.deadline

    def tell(self, event: _Event) -> None:
        """Hand an event to the reader's loop, from the worker thread."""
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the loop was closed: nobody reads any more
            self.abandoned = True


class InferenceEngine:
    """Answers questions about pictures with one model.

    Args:
        model, processor: as `load_model` gives them.
        model_name: what people call the model.
        cache_bytes: how much may be kept of what was computed from pictures.
        max_queue: how many questions may wait before `Busy` is raised.
        max_new_tokens: length limit of an answer when the request names none.
        limits: the largest picture that is accepted.

    Use it as a context manager or call `close`. One engine serves any number of event loops and threads.
    """

    def __init__(
        self,
        model: VisavisModel,
        processor: Processor,
        *,
        model_name: str = "visavis-embedded",
        cache_bytes: int = 256 << 20,
        max_queue: int = 64,
        max_new_tokens: int = 48,
        limits: PictureLimits = PictureLimits(),  # noqa: B008 - frozen
    ) -> None:
        self.model_name = model_name
        self.counters = EngineCounters()
        self.max_queue = max_queue
        self.images = ImageStates(model, processor, self.counters, cache_bytes=cache_bytes, limits=limits)
        self._model = model
        self._model.train(False)
        self._processor = processor
        self._decoder = model.config.decoder
        self._max_new_tokens = max_new_tokens
        self._waiting: deque[_Job] = deque()
        self._running: _Job | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="visavis-engine", daemon=True)
        self._worker.start()

    def __enter__(self) -> InferenceEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Fail what waits, stop what runs within a step, and end the worker. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._worker.join()

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Questions being answered."""
        return int(self._running is not None)

    def add_image(self, data: bytes) -> str:
        """Take the bytes of a picture and return their sha256. It is encoded when the first question about it runs.

        Raises:
            BadImage, ImageTooLarge, UnsupportedImage: by size and header; broken pixels fail the question.
        """
        return self.images.add(data)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """Pieces of the answer as they come; the last one carries the completion.

        Closing the stream (use `contextlib.aclosing`) frees the row within two steps, or takes the question out of the
        queue before anything is computed for it.

        Raises:
            Busy: the queue is full. UnknownImage: send the picture first. BadImage: its pixels are broken.
            ModelError: the model failed on this question; others are not touched.
        """
        request = replace(request, question=clean_text(request.question))
        reply = reply_without_model(request.question, has_picture=request.image is not None)
        if reply is not None:
            for chunk in _spoken(reply, request.image):
                yield chunk
            return
        job = self._submit(request)
        try:
            while True:
                event = await job.events.get()
                if isinstance(event, ModelError):
                    raise event
                if isinstance(event, GenerationChunk):
                    yield event
                    if event.completion is not None:
                        return
        finally:
            self._abandon(job)

    async def explain(self, request: GenerationRequest, answer: str) -> tuple[WordHeat, ...]:
        """Where in the picture the words of an answer to `request` come from; it waits in the queue like a question.

        Nothing for a reply that the model had no part in.

        Raises:
            as `stream`; BadRequest: the request has no picture.
        """
        if request.image is None:
            raise BadRequest("only answers about a picture can be explained")
        request = replace(request, question=clean_text(request.question))
        if reply_without_model(request.question, has_picture=True) is not None:
            return ()
        job = self._submit(request, answer)
        try:
            event = await job.events.get()
        finally:
            self._abandon(job)
        if isinstance(event, ModelError):
            raise event
        assert isinstance(event, tuple)
        return event

    async def generate(self, request: GenerationRequest) -> Completion:
        """The whole answer at once; raises what `stream` raises. Cancelling stops the work."""
        async with contextlib.aclosing(self.stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.completion is not None:
                    return chunk.completion
        raise AssertionError("a stream ends with a completion or an error")

    def _submit(self, request: GenerationRequest, answer: str | None = None) -> _Job:
        if request.image is not None and not self.images.holds(request.image):
            raise UnknownImage([request.image])
        wait_s = math.inf if request.deadline_s is None else request.deadline_s
        job = _Job(request, time.monotonic() + wait_s, asyncio.get_running_loop(), answer)
        with self._changed:
            if self._closed:
                raise ModelError("the model is shutting down")
            if len(self._waiting) >= self.max_queue:
                self.counters.rejected += 1
                raise Busy(len(self._waiting))
            self._waiting.append(job)
            self._changed.notify()
        return job

    def _abandon(self, job: _Job) -> None:
        job.abandoned = True
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self.counters.cancelled += 1

    # The rest runs in the worker thread.

    def _work(self) -> None:
        with torch.inference_mode():
            while (job := self._next_job()) is not None:
                self._answer(job)
                with self._changed:
                    self._running = None
        for job in tuple(self._waiting):
            job.tell(ModelError("the model is shutting down"))

    def _next_job(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._running = None if self._closed else self._waiting.popleft()
            return self._running

    def _answer(self, job: _Job) -> None:
        """Run one question to its end; whatever happens, it is told to the job and to nobody else."""
        try:
            if job.answer is None:
                self._decode(job)
            else:
                job.tell(self._explain(job.request, job.answer))
        except ModelError as error:
            self.counters.failed += 1
            job.tell(error)
        except Exception:
            self.counters.failed += 1
            logger.exception("a question failed")
            job.tell(ModelError("the model failed on this question"))

    def _decode(self, job: _Job) -> None:
        """Encode, fuse, then one token a step, looking at every step whether anybody still waits for it."""
        request = job.request
        answer, text_tokens, image_tokens = self._new_answer(request), 0, 0
        if not job.over:
            memory, text_tokens, image_tokens = self._fuse(request, self.images.state(request.image or ""))
            cache = self._model.new_cache(1, answer.max_new_tokens)
            while answer.finish_reason is None and not (job.over or self._closed):
                last = torch.tensor([answer.token_ids[-1:]], device=self._model.device)
                piece = answer.take(self._model.decode(last, memory, cache)[0, -1].float())
                self.counters.decode_steps += 1
                if piece:
                    job.tell(GenerationChunk(piece))
            self.counters.rows_freed += 1
        rest, completion = answer.end(image=request.image, text_tokens=text_tokens, image_tokens=image_tokens)
        self.counters.completed += completion.finish_reason is not FinishReason.CANCELLED
        self.counters.cancelled += completion.finish_reason is FinishReason.CANCELLED
        job.tell(GenerationChunk(rest, completion))

    def _explain(self, request: GenerationRequest, answer: str) -> tuple[WordHeat, ...]:
        memory, _, patches = self._fuse(request, self.images.state(request.image or ""))
        return word_heat(self._model, self._processor, memory, answer, patches)

    def _new_answer(self, request: GenerationRequest) -> Answer:
        wanted = request.sampling.max_new_tokens or self._max_new_tokens
        return Answer(
            request.sampling,
            max_new_tokens=min(wanted, self._decoder.max_positions),
            start_token=self._decoder.bos_token_id,
            end_token=self._decoder.eos_token_id,
            decode=self._processor.decode_answer,
            device=self._model.device,
        )

    def _fuse(self, request: GenerationRequest, state: ImageState) -> tuple[Memory, int, int]:
        encoded = self._processor.encode_question(request.question, request.history)
        text = {name: ids.to(self._model.device) for name, ids in encoded.items()}
        patches = state.patches.shape[1]
        config = self._model.config
        mask = None
        if request.region is not None:
            mask = patch_mask(request.region, patches, config.object_cells, config.tag_rows).to(self._model.device)
        self.counters.fusion_forwards += 1
        memory = self._model.fuse(state, text["input_ids"], text["attention_mask"], text["token_type_ids"], mask)
        return memory, text["input_ids"].shape[1], patches


def _spoken(reply: str, image: str | None) -> list[GenerationChunk]:
    """A ready reply, word by word like any answer."""
    words = reply.split(" ")
    pieces = [words[0], *(f" {word}" for word in words[1:])]
    completion = Completion(reply, FinishReason.STOP, image=image, output_tokens=len(words))
    return [*(GenerationChunk(piece) for piece in pieces), GenerationChunk("", completion)]
