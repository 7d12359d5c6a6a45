"""An engine over somebody else's checkpoint: any image-text-to-text model of transformers behind the face of ours.

Questions are answered one after another by one worker thread, streamed token by token; leaving a stream stops the model
within a token. Weights are safetensors and the code is transformers' own: none comes with a checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from types import TracebackType
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from visavis.models.byte_cache import ByteCache
from visavis.models.engine_jobs import EngineCounters
from visavis.models.errors import BadRequest, Busy, ModelError, NoSharedSpace, UnknownImage
from visavis.models.generation import (
    Completion,
    Embedding,
    GenerationChunk,
    GenerationRequest,
    Shown,
    WordHeat,
    spoken,
)
from visavis.models.images import PictureLimits, check_picture, cut_out, decode_picture, image_id
from visavis.models.replies import reply_without_model
from visavis.models.request_trace import Stage
from visavis.models.text_checks import clean_text
from visavis.models.transformers_answer import Answer, Job, StopWhen, end_tokens
from visavis.models.transformers_prompts import Prompts

logger = logging.getLogger(__name__)
PICTURE_BYTES = 64 << 20
MAX_PICTURES = 9  # of the largest that may be held at once: those of a message, and one from before


class _Pictures:
    """The bytes of pictures that may be asked about."""

    def __init__(self, limits: PictureLimits) -> None:
        self.limits = limits
        self.kept: ByteCache[str, bytes] = ByteCache(max(PICTURE_BYTES, MAX_PICTURES * limits.max_image_bytes), len)

    @property
    def cached_bytes(self) -> int:
        """Bytes held."""
        return self.kept.nbytes


class TransformersEngine:
    """Answers questions with `model` and `processor` of `load_transformers_engine`; else as `InferenceEngine`.

    `max_queue` questions may wait, an answer has `max_new_tokens` when nobody says otherwise. A part of a picture that
    is pointed at is shown as a picture of its own; explanations are not for these models.
    """

    alive = True  # whatever a question does to it, its executor goes on

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        model_name: str,
        max_queue: int = 64,
        max_new_tokens: int = 256,
        limits: PictureLimits = PictureLimits(),  # noqa: B008 - frozen
    ) -> None:
        self.model_name = model_name
        self.counters = EngineCounters()
        self.images = _Pictures(limits)
        self.running = 0
        self.waiting = 0
        self._model = model.train(False)
        self._prompts = Prompts(processor, model.config)
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self._max_queue = max_queue
        self._max_new_tokens = max_new_tokens
        self._closed = False
        self._worker = ThreadPoolExecutor(1, "transformers-engine")

    def __enter__(self) -> TransformersEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs within a token, fail what waits, and end the worker."""
        self._closed = True
        self._worker.shutdown()

    @property
    def told(self) -> str:
        """What is different with this model, in a sentence."""
        return self._prompts.told()

    @property
    def several_pictures(self) -> bool:
        """Whether all pictures of a conversation are shown to the model."""
        return self._prompts.several_pictures

    def looks_at(self, request: GenerationRequest) -> tuple[str, ...]:
        """The pictures whose bytes are needed for a question."""
        return self._prompts.pictures(request)

    def add_image(self, data: bytes) -> str:
        """Take the bytes of a picture and return their sha256; raises as `check_picture`."""
        check_picture(data, self.images.limits)
        sha256 = image_id(data)
        self.images.kept.put(sha256, data)
        return sha256

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """Pieces of the answer; the last one carries the completion. Raises as `InferenceEngine.stream`."""
        if missing := [image for image in self.looks_at(request) if image not in self.images.kept]:
            raise UnknownImage(missing)
        if request.image is None and not self._prompts.without_picture:  # it can do nothing but look
            reply = reply_without_model(clean_text(request.question), has_picture=False)
            for chunk in spoken(reply or "", None):
                yield chunk
            return
        if self.waiting >= self._max_queue:
            self.counters.rejected += 1
            raise Busy(self.waiting)
        wait_s = math.inf if request.deadline_s is None else request.deadline_s
        job = Job(request, time.monotonic() + wait_s, asyncio.get_running_loop())
        self.waiting += 1
        self._worker.submit(self._work, job)
        try:
            while True:
                event = await job.events.get()
                if isinstance(event, ModelError):
                    raise event
                yield event
                if event.completion is not None:
                    return
        finally:
            job.abandoned = True

    async def generate(self, request: GenerationRequest) -> Completion:
        """The whole answer at once; raises what `stream` raises."""
        async with contextlib.aclosing(self.stream(request)) as chunks:
            async for chunk in chunks:
                if chunk.completion is not None:
                    return chunk.completion
        raise AssertionError("a stream ends with a completion or an error")

    async def explain(self, request: GenerationRequest, answer: str) -> tuple[WordHeat, ...]:
        """Raises BadRequest: only our own model can tell."""
        raise BadRequest("this model cannot show where it looked")

    async def likeness(self, text: str, images: Sequence[str]) -> tuple[float, ...]:
        """Nothing: only our own model can tell."""
        return ()

    async def embed(self, text: str = "", *, image: str | None = None) -> Embedding:
        """Raises NoSharedSpace."""
        raise NoSharedSpace

    # The rest runs in the worker thread.

    def _work(self, job: Job) -> None:
        self.waiting -= 1
        self.running = 1
        job.request.trace.mark(Stage.ADMITTED)
        try:
            if self._closed:
                raise ModelError("the model is shutting down")
            job.tell(GenerationChunk(*self._answer(job)))
        except ModelError as error:
            self.counters.failed += 1
            job.tell(error)
        except Exception:
            self.counters.failed += 1
            logger.exception("a question failed")
            job.tell(ModelError("the model failed on this question"))
        finally:
            self.running = 0

    def _answer(self, job: Job) -> tuple[str, Completion]:
        """Prepare, then generate: words go out as they come; the rest of them and the completion are returned."""
        answer = Answer(job, self._tokenizer, end_tokens(self._model))
        options = self._options(job.request)
        if not job.over:
            room = 0 if self._model.config.is_encoder_decoder else options["max_new_tokens"]
            answer.prompt = self._prompts.make(job.request, self._picture, room)
            if room and answer.prompt.left is not None:
                options["max_new_tokens"] = min(room, answer.prompt.left)
            options["min_new_tokens"] = min(job.request.sampling.min_new_tokens, options["max_new_tokens"])
            with torch.inference_mode(), _seeded(job.request.sampling.seed):
                self._model.generate(
                    **self._tensors(answer.prompt.inputs),
                    **options,
                    logits_processor=[answer.probabilities],
                    stopping_criteria=[StopWhen(answer, lambda: self._closed)],
                )
        self.counters.decode_steps += len(answer.token_ids)
        return answer.end(options["max_new_tokens"], self.counters)

    def _picture(self, shown: Shown) -> Image.Image:
        data = self.images.kept.get(shown.sha256)
        if data is None:
            raise UnknownImage([shown.sha256])
        picture = decode_picture(data)
        return picture if shown.region is None else cut_out(picture, *astuple(shown.region))

    def _tensors(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        floats, device = self._model.dtype, self._model.device
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        return {n: v.to(device, floats if v.is_floating_point() else v.dtype) for n, v in tensors.items()}

    def _options(self, request: GenerationRequest) -> dict[str, Any]:
        """What `generate` takes. Beam search, which cannot be streamed, is off whatever the checkpoint says."""
        sampling = request.sampling
        if sampling.beams > 1:
            raise BadRequest("this model's answers are streamed, not searched for with beams")
        options: dict[str, Any] = {
            "max_new_tokens": sampling.max_new_tokens or self._max_new_tokens,
            "num_beams": 1,
            "do_sample": not sampling.greedy,
        }
        if not sampling.greedy:
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        if sampling.repetition_penalty != 1.0:
            options["repetition_penalty"] = sampling.repetition_penalty
        return options


@contextlib.contextmanager
def _seeded(seed: int | None) -> Any:
    if seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
