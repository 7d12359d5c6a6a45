"""One answer while it is being said: from the token of each step to words and the reason to end.

It knows nothing of the model, of threads and of other answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from visavis.models.confidence import Calibration, confidence
from visavis.models.detokenizer import StreamingDetokenizer
from visavis.models.errors import ModelError
from visavis.models.generation import Completion, FinishReason, SamplingParameters
from visavis.models.sampling import create_generator

NewAnswer = Callable[[SamplingParameters], "Answer"]
"""Begins an answer; whoever has the model and its vocabulary makes one."""


class Answer:
    """The state of a running answer, and how its tokens are chosen. Call `take` until `finish_reason` is set."""

    def __init__(
        self,
        sampling: SamplingParameters,
        *,
        max_new_tokens: int,
        start_token: int,
        end_token: int,
        first_piece: int,
        decode: Callable[[Sequence[int]], str],
        device: torch.device,
        calibration: Calibration | None = None,
    ) -> None:
        self.token_ids = [start_token]
        self.finish_reason: FinishReason | None = None
        self.sampling = sampling
        self.max_new_tokens = max_new_tokens
        self.end_token = end_token
        self.first_piece = first_piece
        self.generator = create_generator(sampling, device)
        self._text = StreamingDetokenizer(decode, sampling.stop)
        self._log_probabilities: list[float] = []
        self._calibration = calibration

    def take(self, token: int, log_probability: float) -> str:
        """Go on with the chosen token and return the words that may be shown now.

        Raises:
            ModelError: the log-probability is not a number, so the model's scores were not.
        """
        if not math.isfinite(log_probability):
            raise ModelError("the model broke down on this question")
        if token == self.end_token:
            self.finish_reason = FinishReason.STOP
            return ""
        self._log_probabilities.append(log_probability)
        self.token_ids.append(token)
        piece = self._text.add(token)
        if self._text.stopped:
            self.finish_reason = FinishReason.STOP
        elif len(self.token_ids) > self.max_new_tokens:
            self.finish_reason = FinishReason.LENGTH
        return piece

    def end(self, *, image: str | None, text_tokens: int, image_tokens: int) -> tuple[str, Completion]:
        """The words held back so far, and the whole answer; without a finish reason it was cancelled."""
        rest = self._text.finish()
        said = len(self.token_ids) - 1
        return rest, Completion(
            text=self._text.text,
            finish_reason=self.finish_reason or FinishReason.CANCELLED,
            confidence=confidence(self._log_probabilities, self._calibration),
            image=image,
            input_tokens=text_tokens + image_tokens,
            output_tokens=said,
            image_tokens=image_tokens,
            log_probabilities=tuple(self._log_probabilities),
        )
