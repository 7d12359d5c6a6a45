"""The inference engine: questions in, streams of words out.

A picture is encoded once and kept by its sha256, its meeting with the text is computed once a turn (`Admission`), then
the answer is decoded token by token, together with every other running answer (`Scheduler`). On a CPU they have
threads of their own, elsewhere they take turns in one (`Workers`). Questions that find no row wait in a bounded line.
The engine knows no sockets and no messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from operator import mul
from types import TracebackType

from visavis.models.engine_jobs import EngineCounters, Job, WaitingLine
from visavis.models.engine_workers import start_workers
from visavis.models.errors import BadRequest, Busy, ModelError, NoSharedSpace, UnknownImage
from visavis.models.generation import (
    Completion,
    Embedding,
    GenerationChunk,
    GenerationRequest,
    WordHeat,
    spoken,
)
from visavis.models.handover import Handover
from visavis.models.image_states import ImageStates
from visavis.models.images import PictureLimits
from visavis.models.looks import Look
from visavis.models.mailbox import Event, Mailbox
from visavis.models.processor import Processor
from visavis.models.replies import reply_without_model
from visavis.models.text_checks import clean_text
from visavis.models.visavis_model import VisavisModel
from visavis.models.words_in_pictures import WordReader


class InferenceEngine:
    """Answers questions about pictures with one model.

    Args:
        model, processor: as `load_model` gives them.
        model_name: what people call the model.
        cache_bytes: how much may be kept of what was computed from pictures.
        max_rows: how many answers are decoded together.
        max_queue: how many questions may wait before `Busy` is raised.
        max_new_tokens: length limit of an answer when the request names none.
        limits: the largest picture that is accepted.
        reader: reads words in pictures for questions that ask for them.
        compiled: on a CUDA device, replay decode steps as a CUDA graph.
        threads: of computations on a CPU; by default as many as torch has. A worker computes with half of them.
        preparing: how many workers prepare questions, beside running answers; with 0 they are prepared between steps.
            By default 2 on a CPU, where two computations of one thread each get more done than one of two, and 0 on an
            accelerator, which has one line of work anyhow.
        pictures_together: how many pictures are encoded in one forward; by default one on a CPU, where more gain
            nothing.
        words_every_s: words that follow others sooner than this are handed over together; the end waits for nothing.

    Use it as a context manager or call `close`. One engine serves any number of event loops and threads.
    """

    def __init__(
        self,
        model: VisavisModel,
        processor: Processor,
        *,
        model_name: str = "visavis-embedded",
        cache_bytes: int = 256 << 20,
        max_rows: int = 32,
        max_queue: int = 64,
        max_new_tokens: int = 48,
        limits: PictureLimits = PictureLimits(),  # noqa: B008 - frozen
        reader: WordReader | None = None,
        compiled: bool = True,
        threads: int | None = None,
        preparing: int | None = None,
        pictures_together: int | None = None,
        words_every_s: float = 0.0,
    ) -> None:
        self.model_name = model_name
        self._words_every_s = words_every_s
        self.counters = EngineCounters()
        self.images = ImageStates(
            model, processor, self.counters, cache_bytes=cache_bytes, limits=limits, reader=reader
        )
        self._scale = None if model.shared is None else model.shared.scale.item()
        self._line = WaitingLine(max_queue)
        self._handover = Handover(max_rows, self._line.wake)
        self._scheduler, self._workers = start_workers(
            model.train(False),
            processor,
            self.images,
            self._line,
            self._handover,
            self.counters,
            max_new_tokens=max_new_tokens,
            compiled=compiled,
            threads=threads,
            preparing=preparing,
            together=pictures_together,
        )

    def __enter__(self) -> InferenceEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Fail what waits, stop what runs within a step, and end the worker. May be called twice."""
        self._workers.stop()

    def warm_up(self) -> None:
        """Send a blank turn through all parts, so that nobody waits for an accelerator to choose its kernels.

        Call it before the first question; no counter moves.
        """
        self._scheduler.warm_up()

    @property
    def alive(self) -> bool:
        """False once a worker has ended, by `close` or by a fault of its own: nothing will be answered any more."""
        return self._workers.alive

    @property
    def waiting(self) -> int:
        """Questions in the line."""
        return len(self._line)

    @property
    def running(self) -> int:
        """Questions being answered."""
        return self._handover.reserved

    several_pictures = False

    def looks_at(self, request: GenerationRequest) -> tuple[str, ...]:
        """The pictures whose bytes are needed for a question."""
        return () if request.image is None else (request.image,)

    def add_image(self, data: bytes) -> str:
        """Take the bytes of a picture and return their sha256. It is encoded when the first question about it runs.

        Raises:
            BadImage, ImageTooLarge, UnsupportedImage: by size and header; broken pixels fail the question.
        """
        return self.images.add(data)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """Pieces of the answer as they come; the last one carries the completion.

        While the question has to wait for others, chunks without text tell its position. Closing the stream (use
        `contextlib.aclosing`) frees the row within two steps, or takes the question out of the line before anything
        is computed for it.

        Raises:
            Busy: the line is full. UnknownImage: send the picture first. BadImage: its pixels are broken.
            ModelError: the model failed on this question; others are not touched.
        """
        request = replace(request, question=clean_text(request.question))
        reply = reply_without_model(request.question, has_picture=request.image is not None)
        if reply is not None:
            for chunk in spoken(reply, request.image):
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
        """Where in the picture the words of an answer to `request` come from; it waits in line like a question.

        Nothing for a reply that the model had no part in.

        Raises:
            as `stream`; BadRequest: the request has no picture.
        """
        if request.image is None:
            raise BadRequest("only answers about a picture can be explained")
        request = replace(request, question=clean_text(request.question))
        if reply_without_model(request.question, has_picture=True) is not None:
            return ()
        heat = await self._outcome(self._submit(request, answer))
        assert isinstance(heat, tuple)
        return heat

    async def likeness(self, text: str, images: Sequence[str]) -> tuple[float, ...]:
        """How well a text fits each of some pictures; the softmax of these numbers says which of them is meant.

        Nothing for a model without a shared space. Each picture waits in line like a question.

        Raises:
            as `stream`; UnknownImage names all that are missing.
        """
        if self._scale is None or not images:
            return ()
        if missing := [image for image in images if not self.images.holds(Look(image))]:
            raise UnknownImage(missing)
        words = (await self.embed(text)).vector
        pictures = [(await self.embed(image=image)).vector for image in images]
        return tuple(self._scale * sum(map(mul, words, picture)) for picture in pictures)

    async def embed(self, text: str = "", *, image: str | None = None) -> Embedding:
        """A text, or a picture that is held, in the space that they share; it waits in line like a question.

        Raises:
            as `stream`; NoSharedSpace: the model has none.
        """
        if self._scale is None:
            raise NoSharedSpace
        embedding = await self._outcome(self._submit(GenerationRequest(clean_text(text), image=image), embeds=True))
        assert isinstance(embedding, Embedding)
        return embedding

    async def generate(self, request: GenerationRequest) -> Completion:
        """The whole answer at once; raises what `stream` raises. Cancelling stops the work."""
        async with contextlib.aclosing(self.stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.completion is not None:
                    return chunk.completion
        raise AssertionError("a stream ends with a completion or an error")

    async def _outcome(self, job: Job) -> Event:
        """The one thing that a job gives for which no words are decoded."""
        try:
            event = await job.events.get()
        finally:
            self._abandon(job)
        if isinstance(event, ModelError):
            raise event
        return event

    def _submit(self, request: GenerationRequest, answer: str | None = None, *, embeds: bool = False) -> Job:
        assert request.image is not None or embeds, "what has no picture is answered without the model"
        # What is embedded asks for nothing that had to be read in the picture.
        look = self.images.look(request.image or "", request.region, "" if embeds else request.question)
        if request.image is not None and not self.images.holds(look):
            raise UnknownImage([request.image])
        wait_s = math.inf if request.deadline_s is None or answer is not None else request.deadline_s
        loop = asyncio.get_running_loop()
        events = Mailbox(loop, self._words_every_s)
        job = Job(request, look, time.monotonic() + wait_s, loop, events, answer, embeds)
        try:
            self._line.append(job)
        except Busy:
            self.counters.add("rejected")
            raise
        return job

    def _abandon(self, job: Job) -> None:
        job.abandoned = True
        job.events.close()
        if self._line.take(job):
            self.counters.add("cancelled")
