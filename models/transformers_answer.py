"""A running answer of somebody else's model: token by token from `generate` to the event loop that waits for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from visavis.models.detokenizer import StreamingDetokenizer
from visavis.models.engine_jobs import EngineCounters
from visavis.models.errors import ModelError
from visavis.models.generation import Completion, FinishReason, GenerationChunk, GenerationRequest
from visavis.models.request_trace import Stage
from visavis.models.transformers_prompts import Prompt


@dataclass(eq=False)
class Job:
    request: GenerationRequest
    deadline: float
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[GenerationChunk | ModelError] = field(default_factory=asyncio.Queue)  # bounded by the answer
    abandoned: bool = False

    @property
    def over(self) -> bool:
        return self.abandoned or time.monotonic() > self.deadline

    def tell(self, event: GenerationChunk | ModelError) -> None:
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the loop was closed: nobody reads any more
            self.abandoned = True


class _Probabilities(LogitsProcessor):
    """Sees the scores of a step before the token is chosen, and changes nothing."""

    def __init__(self) -> None:
        self.scores: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.scores = scores
        return scores


class Answer:
    """The state of a running answer."""

    def __init__(self, job: Job, tokenizer: Any, end_tokens: frozenset[int]) -> None:
        self.job = job
        self.token_ids: list[int] = []
        self.prompt: Prompt | None = None
        self.finish_reason: FinishReason | None = None
        self.probabilities = _Probabilities()
        self._end_tokens = end_tokens
        self._text = StreamingDetokenizer(
            lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)), job.request.sampling.stop
        )
        self._log_probabilities: list[float] = []

    def take(self, token: int) -> None:
        """The next token: to the text, and what may be shown of it to the reader."""
        if token in self._end_tokens:
            self.finish_reason = FinishReason.STOP
            return
        self.token_ids.append(token)
        self.job.request.trace.mark(Stage.FIRST_TOKEN)
        if self.probabilities.scores is not None:
            self._log_probabilities.append(float(self.probabilities.scores[0].float().log_softmax(-1)[token]))
        if piece := self._text.add(token):
            self.job.tell(GenerationChunk(piece))
        if self._text.stopped:
            self.finish_reason = FinishReason.STOP

    def end(self, max_new_tokens: int, counters: EngineCounters) -> tuple[str, Completion]:
        """The words held back so far, and the whole answer."""
        reason = self.finish_reason or self._reason(max_new_tokens)
        counters.cancelled += reason is FinishReason.CANCELLED
        counters.completed += reason is not FinishReason.CANCELLED
        rest = self._text.finish()
        said = self._log_probabilities
        return rest, Completion(
            text=self._text.text,
            finish_reason=reason,
            confidence=math.exp(sum(said) / len(said)) if said else None,
            image=self.job.request.image,
            input_tokens=self.prompt.tokens if self.prompt else 0,
            output_tokens=len(self.token_ids),
            image_tokens=self.prompt.image_tokens if self.prompt else 0,
            log_probabilities=tuple(said),
            images=self.prompt.images if self.prompt else (),
        )

    def _reason(self, max_new_tokens: int) -> FinishReason:
        """`generate` ends by itself at the limit, or at an end token that it alone knows."""
        if len(self.token_ids) >= max_new_tokens:
            return FinishReason.LENGTH
        return FinishReason.CANCELLED if self.job.over else FinishReason.STOP


class StopWhen(StoppingCriteria):
    """Hears every token, and ends the work when the answer has ended or nobody waits for it."""

    def __init__(self, answer: Answer, is_closed: Callable[[], bool]) -> None:
        self._answer = answer
        self._is_closed = is_closed

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        answer = self._answer
        if answer.finish_reason is None:
            answer.take(int(input_ids[0, -1]))
        ended = answer.finish_reason is not None or answer.job.over or self._is_closed()
        return torch.full((input_ids.shape[0],), ended, device=input_ids.device, dtype=torch.bool)


def end_tokens(model: Any) -> frozenset[int]:
    """Which tokens end an answer, wherever the checkpoint says so."""
    configs = [model.generation_config, model.config, getattr(model.config, "text_config", None)]
    ends = next((end for config in configs if (end := getattr(config, "eos_token_id", None)) is not None), ())
    return frozenset([ends] if isinstance(ends, int) else ends)
