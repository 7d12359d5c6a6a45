"""One claimed turn: model stream -> events, replay pieces and, at the end, the record in the history.

Knows the store and the chat model, not the sockets that listen and not the order of turns.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from enum import Enum, auto
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, UsageMetadata
from langchain_core.messages.ai import add_usage

from visavis.dialogue.context import Budget, Context, build_messages
from visavis.dialogue.errors import ErrorCode, StoreUnavailable
from visavis.dialogue.events import (
    Event,
    FinalEvent,
    TextDelta,
    Timings,
    TurnAccepted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnQueued,
    TurnRestarted,
    Usage,
)
from visavis.dialogue.html import render_html
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.store import Claim, SessionStore
from visavis.dialogue.turn_log import TurnLog

logger = logging.getLogger(__name__)
T = TypeVar("T")

_BROKEN = "The model could not answer this; please try again."
_TOO_SLOW = "The model took too long and was stopped; please try again."
_DIED_TWICE = "The server stopped twice while it worked on this answer; please send the question again."
_TELLING = set(ErrorCode) - {ErrorCode.MODEL_ERROR, ErrorCode.INTERNAL_ERROR}


class _Stop(Enum):
    CANCELLED = auto()
    LOST = auto()


def first_events(session: str, turn: str, position: int) -> list[Event]:
    """What every turn begins with in its first attempt."""
    accepted = TurnAccepted(session=session, turn=turn, attempt=1, seq=1)
    return [accepted, *([TurnQueued(session=session, turn=turn, attempt=1, seq=2, position=position)] * bool(position))]


class TurnRun:
    """Runs a claimed turn once. The claim is kept up while the model speaks; losing it ends the run silently."""

    def __init__(
        self,
        claim: Claim,
        log: TurnLog,
        sessions: SessionStore,
        model: BaseChatModel,
        policy: TurnPolicy,
        budget: Budget,
    ) -> None:
        self._claim = claim
        self._log = log
        self._sessions = sessions
        self._model = model
        self._policy = policy
        self._budget = budget
        self._unsaved: list[Event] = []
        self._text: list[str] = []
        self._usage: UsageMetadata | None = None
        self._metadata: dict[str, Any] = {}
        self._started = time.time()
        self._first_ms = 0
        self._stop: _Stop | None = None
        self._answering: asyncio.Task[FinalEvent] | None = None

    async def execute(self) -> None:
        """Answer and record the turn. Cancelling this hands the turn over to another process."""
        self._begin()
        self._answering = asyncio.create_task(self._answer())
        keeper = asyncio.create_task(self._keep_claim(self._answering))
        try:
            await asyncio.wait([self._answering])
            await keeper
            if self._stop is not _Stop.LOST:
                await self._finish(self._end_of(self._answering))
        except asyncio.CancelledError:
            await self._hand_over(keeper)
            raise
        finally:
            self._log.is_local = False
            self._log.wake()

    def _end_of(self, answering: asyncio.Task[FinalEvent]) -> FinalEvent:
        """A task that is cancelled before its first step never gets to say so."""
        return self._cancelled() if answering.cancelled() and self._stop else answering.result()

    def cancel(self) -> None:
        """Stop the answer; what was said by then is kept."""
        self._end(_Stop.CANCELLED)

    def _end(self, reason: _Stop) -> None:
        if self._stop is None and self._answering is not None and not self._answering.done():
            self._stop = reason
            self._answering.cancel()

    def _begin(self) -> None:
        claim = self._claim
        first: list[Event] = first_events(claim.session, claim.turn.id, claim.position)
        if claim.attempt > 1:
            first = [TurnRestarted(**self._place(1))]
        self._log.is_local = True
        self._log.begin(claim.attempt, first)
        self._unsaved = first

    def _place(self, seq: int | None = None) -> dict[str, Any]:
        claim, seq = self._claim, self._log.last_seq + 1 if seq is None else seq
        return {"session": claim.session, "turn": claim.turn.id, "attempt": claim.attempt, "seq": seq}

    async def _answer(self) -> FinalEvent:
        """The event that ends the turn, whatever happens, unless the claim is lost."""
        try:
            if self._claim.attempt > self._policy.max_attempts:
                return self._failed(ErrorCode.MODEL_ERROR, _DIED_TWICE)
            async with asyncio.timeout(self._policy.turn_timeout_s):
                return self._completed(await self._stream())
        except asyncio.CancelledError:
            if self._stop is not _Stop.CANCELLED:
                raise
            return self._cancelled()
        except Exception as error:  # the edge of the turn: any model may raise anything
            if self._stop is _Stop.CANCELLED:
                return self._cancelled()
            logger.warning("turn %s failed", self._claim.turn.id, exc_info=True)
            return self._failure(error)

    async def _stream(self) -> Context:
        session = await self._patiently(lambda: self._sessions.load_session(self._claim.session))
        context = build_messages(session, self._claim.turn, self._budget)
        stream = cast(AsyncGenerator[AIMessageChunk, None], self._model.astream(context.messages))
        # Closed at once when the answer is stopped: that is what frees the model's row.
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                self._take(chunk)
        return context

    def _take(self, chunk: AIMessageChunk) -> None:
        self._metadata.update(chunk.response_metadata)
        if chunk.usage_metadata is not None:
            self._usage = add_usage(self._usage, chunk.usage_metadata)
        # A lone surrogate from a careless model could be neither stored nor sent.
        text = str(chunk.text).encode("utf-8", "replace").decode()
        if not text:
            return
        self._first_ms = self._first_ms or _ms_since(self._started)
        self._text.append(text)
        delta = TextDelta(**self._place(), text=text)
        self._unsaved.append(delta)
        self._log.extend([delta])

    def _completed(self, context: Context) -> TurnCompleted:
        text = "".join(self._text)
        confidence, image = self._metadata.get("confidence"), self._metadata.get("image")
        usage = self._usage or UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
        details: Any = usage.get("input_token_details", {})
        accepted = self._claim.turn.at
        return TurnCompleted(
            **self._place(),
            text=text,
            html=render_html(text),
            image=image if isinstance(image, str) else next(reversed(context.images), None),
            left_out=context.left_out,
            usage=Usage(usage["input_tokens"], usage["output_tokens"], details.get("image", 0)),
            timings=Timings(max(0, round((self._started - accepted) * 1000)), self._first_ms, _ms_since(accepted)),
            confidence=float(confidence) if isinstance(confidence, int | float) else None,
        )

    def _cancelled(self) -> TurnCancelled:
        return TurnCancelled(**self._place(), text="".join(self._text))

    def _failed(self, code: ErrorCode, message: str) -> TurnFailed:
        return TurnFailed(**self._place(), code=str(code), message=message)

    def _failure(self, error: Exception) -> TurnFailed:
        """What a client may see of a model's exception: its message only when it carries a code of ours that says
        what to do about it."""
        if isinstance(error, TimeoutError):
            return self._failed(ErrorCode.MODEL_ERROR, _TOO_SLOW)
        code = getattr(error, "code", None)
        if isinstance(code, str) and code in _TELLING:
            return self._failed(ErrorCode(code), _sentence(str(error)) or _BROKEN)
        return self._failed(ErrorCode.MODEL_ERROR, _BROKEN)

    async def _keep_claim(self, answering: asyncio.Task[FinalEvent]) -> None:
        """Until the answer is there: renew the lease, save the replay in pieces, and see whether to stop."""
        renewed = float("-inf")
        while not answering.done():
            if self._unsaved or time.monotonic() - renewed >= self._policy.renew_s:
                renewed = time.monotonic()
                await self._renew()
            await asyncio.wait([answering], timeout=self._policy.flush_s)

    async def _renew(self) -> None:
        events = list(self._unsaved)
        try:
            answer = await self._sessions.renew_claim(self._claim, events, self._policy.lease_s)
        except StoreUnavailable:
            # Go on: if another process takes the turn over meanwhile, the fencing token keeps this one from writing.
            logger.warning("the claim of turn %s could not be renewed", self._claim.turn.id)
            return
        del self._unsaved[: len(events)]
        if answer:
            self._end(_Stop.LOST if answer < 0 else _Stop.CANCELLED)

    async def _finish(self, final: FinalEvent) -> None:
        """Record first, tell then: nobody sees an answer that a crash could take back."""
        events = [*self._unsaved, final]
        if await self._patiently(lambda: self._sessions.finish_turn(self._claim, events, final)):
            self._log.extend([final])

    async def _hand_over(self, keeper: asyncio.Task[None]) -> None:
        assert self._answering is not None
        for task in (self._answering, keeper):
            task.cancel()
        await asyncio.gather(self._answering, keeper, return_exceptions=True)
        try:
            await self._sessions.hand_over(self._claim)
        except StoreUnavailable:
            logger.warning("turn %s waits for its lease to run out", self._claim.turn.id)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call while the store is away, for as long as the policy allows."""
        deadline, pause_s = time.monotonic() + self._policy.finish_patience_s, 0.1
        while True:
            try:
                return await call()
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(2.0, pause_s * 2)


def _sentence(message: str) -> str:
    """Models write their messages as programs do."""
    return message and message[0].upper() + message[1:] + ("" if message[-1] in ".!?" else ".")


def _ms_since(start: float) -> int:
    return max(0, round((time.time() - start) * 1000))
