"""A chat model's stream -> the events of one attempt at a turn. Knows no store."""

import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, UsageMetadata
from langchain_core.messages.ai import add_usage
from langchain_core.runnables import ensure_config

from visavis.dialogue.context import Context
from visavis.dialogue.drafts import DraftWriter
from visavis.dialogue.errors import ErrorCode
from visavis.dialogue.events import (
    Event,
    TextDelta,
    Timings,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnQueued,
    Usage,
)
from visavis.dialogue.html import render_html
from visavis.dialogue.turn_log import TurnLog

logger = logging.getLogger(__name__)

DIED_TWICE = "The server stopped twice while it worked on this answer; please send the question again."
_BROKEN = "The model could not answer this; please try again."
_TOO_SLOW = "The model took too long and was stopped; please try again."
_TELLING = set(ErrorCode) - {ErrorCode.MODEL_ERROR, ErrorCode.INTERNAL_ERROR}


class Answer:
    """What a model has said so far in one attempt. Events go to the log, and to `unsaved` for the replay."""

    def __init__(self, log: TurnLog, attempt: int, accepted_at: float) -> None:
        self.unsaved: list[Event] = []
        self._log = log
        self._attempt = attempt
        self._accepted_at = accepted_at
        self._text: list[str] = []
        self._drafts = DraftWriter()
        self._usage: UsageMetadata | None = None
        self._metadata: dict[str, Any] = {}
        self._started = time.time()
        self._first_ms = 0

    async def stream(self, model: BaseChatModel, context: Context, options: Mapping[str, Any]) -> TurnCompleted:
        """Let the model speak to its end. Cancelling this closes its stream at once, which frees the model's row."""
        async with aclosing(_spoken(model, context.messages, options)) as pieces:
            async for piece in pieces:
                self._say(piece) if isinstance(piece, str) else self._add(piece)
        return self._completed(context)

    def _add(self, chunk: AIMessageChunk) -> None:
        self._metadata.update(chunk.response_metadata)
        if chunk.usage_metadata is not None:
            self._usage = add_usage(self._usage, chunk.usage_metadata)
        for position in chunk.response_metadata.get("queue_positions", ()):
            self._emit(TurnQueued(**self._place(), position=int(position)))
        self._say(str(chunk.text))

    def _say(self, piece: str) -> None:
        # A lone surrogate from a careless model could be neither stored nor sent.
        text = piece.encode("utf-8", "replace").decode()
        if text:
            self._first_ms = self._first_ms or _ms_since(self._started)
            self._text.append(text)
            draft = self._drafts.add(text)
            self._emit(TextDelta(**self._place(), text=text, **(draft._asdict() if draft else {})))

    def _emit(self, event: Event) -> None:
        self.unsaved.append(event)
        self._log.extend([event])

    def _place(self) -> dict[str, Any]:
        seq = self._log.last_seq + 1
        return {"session": self._log.session, "turn": self._log.turn, "attempt": self._attempt, "seq": seq}

    def _completed(self, context: Context) -> TurnCompleted:
        text = "".join(self._text)
        confidence, image = self._metadata.get("confidence"), self._metadata.get("image")
        usage = self._usage or UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
        details: Any = usage.get("input_token_details", {})
        queue_ms = max(0, round((self._started - self._accepted_at) * 1000))
        return TurnCompleted(
            **self._place(),
            text=text,
            html=render_html(text),
            image=image if isinstance(image, str) else next(reversed(context.images), None),
            left_out=context.left_out,
            usage=Usage(usage["input_tokens"], usage["output_tokens"], details.get("image", 0), self._looked_at()),
            timings=Timings(queue_ms, self._first_ms, _ms_since(self._accepted_at)),
            confidence=float(confidence) if isinstance(confidence, int | float) else None,
            model=str(self._metadata.get("model_name") or ""),
        )

    def _looked_at(self) -> int:
        """How many pictures the model was shown, as far as it says."""
        images = self._metadata.get("images")
        return len(images) if isinstance(images, list) else 0

    def cancelled(self) -> TurnCancelled:
        """The end of a turn that was stopped here."""
        text = "".join(self._text)
        return TurnCancelled(**self._place(), text=text, html=render_html(text))

    def failed(self, code: ErrorCode, message: str) -> TurnFailed:
        """The end of a turn that gets no answer."""
        return TurnFailed(**self._place(), code=str(code), message=message)

    def failure(self, error: Exception) -> TurnFailed:
        """What a client may see of a model's exception: its message only when it carries a code of ours that says
        what to do about it."""
        if isinstance(error, TimeoutError):
            return self.failed(ErrorCode.MODEL_ERROR, _TOO_SLOW)
        code = getattr(error, "code", None)
        if isinstance(code, str) and code in _TELLING:
            return self.failed(ErrorCode(code), _sentence(str(error)) or _BROKEN)
        return self.failed(ErrorCode.MODEL_ERROR, _BROKEN)


def _spoken(
    model: BaseChatModel, messages: list[BaseMessage], options: Mapping[str, Any]
) -> AsyncGenerator[AIMessageChunk | str, None]:
    """What a model says. LangChain's own work for each call and chunk costs a third of all that a turn costs here: a
    model that can `speak` without it does, unless somebody listens by callbacks or holds it back by a rate limiter."""
    speak = getattr(model, "speak", None)
    if speak is None or model.rate_limiter is not None or _has_listeners(model):
        return cast(AsyncGenerator[AIMessageChunk | str, None], model.astream(messages, **options))
    return cast(AsyncGenerator[AIMessageChunk | str, None], speak(messages, **options))


def _has_listeners(model: BaseChatModel) -> bool:
    """Found as `astream` finds them: the model's own, those of a program around this one, tracers."""
    return bool(AsyncCallbackManager.configure(ensure_config()["callbacks"], model.callbacks, model.verbose).handlers)


def _sentence(message: str) -> str:
    """Models write their messages as programs do."""
    return message and message[0].upper() + message[1:] + ("" if message[-1] in ".!?" else ".")


def _ms_since(start: float) -> int:
    return max(0, round((time.time() - start) * 1000))
