"""One answer while it is being said: from the scores of each step to tokens, words and the reason to end.

It knows nothing of the model, of threads and of other answers. Shape letters: V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from visavis.models.detokenizer import StreamingDetokenizer
from visavis.models.errors import ModelError
from visavis.models.generation import Completion, FinishReason, SamplingParameters
from visavis.models.sampling import create_generator, next_token


class Answer:
    """The state of a running answer. Call `take` with the scores of each step until `finish_reason` is set."""

    def __init__(
        self,
        sampling: SamplingParameters,
        *,
        max_new_tokens: int,
        start_token: int,
        end_token: int,
        decode: Callable[[Sequence[int]], str],
        device: torch.device,
    ) -> None:
        self.token_ids = [start_token]
        self.finish_reason: FinishReason | None = None
        self._sampling = sampling
        self.max_new_tokens = max_new_tokens
        self._end_token = end_token
        self._generator = create_generator(sampling, device)
        self._text = StreamingDetokenizer(decode, sampling.stop)
        self._log_probability = 0.0

    def take(self, scores: Tensor) -> str:
        """Choose the next token from float32 scores (V,) and return the words that may be shown now.

        Raises:
            ModelError: the scores are not numbers.
        """
        if bool(scores.isnan().any()):
            raise ModelError("the model broke down on this question")
        token = next_token(scores, self.token_ids, self._sampling, self._generator)
        if token == self._end_token:
            self.finish_reason = FinishReason.STOP
            return ""
        self._log_probability += float(scores.log_softmax(-1)[token])
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
            confidence=math.exp(self._log_probability / said) if said else None,
            image=image,
            input_tokens=text_tokens + image_tokens,
            output_tokens=said,
            image_tokens=image_tokens,
        )
