"""Answers on their way to a client: as server-sent events, or waited for as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from visavis.bot.openai_api.answers import Answer, Ending
from visavis.bot.openai_api.completions import CompletionWriter, event
from visavis.bot.openai_api.errors import ApiError, api_error
from visavis.dialogue.errors import ErrorCode
from visavis.models.client_gone import unless_gone


class EventStream(Response):
    """Server-sent events; when the client goes away, they are closed at once, which stops the work behind them."""

    def __init__(self, events: AsyncGenerator[bytes, None], ended: Callable[[], None]) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        del self.headers["content-length"]
        self._events = events
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with contextlib.suppress(ClientDisconnect, OSError):
                await unless_gone(Request(scope, receive), self._send(send))
        finally:
            await self._events.aclose()
            self._ended()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for data in self._events:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def events_of(writer: CompletionWriter, first: str | Ending, rest: Answer) -> AsyncGenerator[bytes, None]:
    """The chunks of an answer; an error after the first word is the last of them."""
    async with contextlib.aclosing(rest):
        yield writer.first()
        yield writer.last(first) if isinstance(first, Ending) else writer.text(first)
        try:
            async for piece in rest:
                yield writer.last(piece) if isinstance(piece, Ending) else writer.text(piece)
        except Exception as error:  # the edge to any model
            yield event(api_error(error).body)


async def whole(answer: Answer) -> tuple[str, Ending]:
    """The text and how it ended; raises what the answer raises."""
    text = ""
    async with contextlib.aclosing(answer):
        async for piece in answer:
            if isinstance(piece, Ending):
                return text, piece
            text += piece
    raise ApiError("The model broke off.", code=ErrorCode.MODEL_ERROR)
