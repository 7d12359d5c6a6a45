"""A server with OpenAI's API that answers, or fails in all the ways that servers on a network fail."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from running_gateway import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")
WORDS = ["A ", "red ", "square."]


class MoodyServer:
    """`moods` are what the next requests meet, in order; then it answers. `asked` are the bodies that came."""

    path = "/v1/chat/completions"
    media_type = "text/event-stream"

    def __init__(self) -> None:
        self.moods: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.gone = 0

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route(self.path, self.complete, methods=["POST"])])

    async def complete(self, request: Request) -> Response:
        self.asked.append(body := await request.json())
        self.keys.append(key := next((request.headers[name] for name in KEY_HEADERS if name in request.headers), None))
        mood = self.moods.pop(0) if self.moods else "well"
        if mood == "asleep":
            await request.receive()  # that nobody waits any more
        if mood.startswith("429"):
            return self._error(429, "slow down", {"Retry-After": mood.partition(" ")[2]})
        if mood == "no system" and any(message["role"] == "system" for message in body["messages"]):
            self.moods.insert(0, mood)
            return self._error(400, "Developer instruction is not enabled for this model")
        if mood == "no temperature" and "temperature" in body:
            self.moods.insert(0, mood)
            return self._error(400, "Unsupported parameter: 'temperature'")
        if mood == "echo":
            return self._error(400, f"cannot read {body['messages'][-1]['content']}")
        if mood.isdecimal():
            return self._error(int(mood), f"no: {key}")
        return StreamingResponse(self._events(mood), media_type=self.media_type)

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        return JSONResponse({"error": {"message": message, "type": "x", "code": None}}, status, headers)

    async def _events(self, mood: str) -> AsyncIterator[bytes]:
        try:
            yield self._begin()
            for number, word in enumerate(WORDS):
                if mood == "cut at once" or (mood == "cut" and number == 2):
                    return
                if mood == "torn" and number == 2:
                    raise ConnectionResetError
                if mood == "stuck" and number == 2:
                    await asyncio.sleep(30)
                yield self._word(word)
                await asyncio.sleep(0.02 if mood == "slow" else 0)
            yield self._end(counts=mood != "counts nothing")
        except asyncio.CancelledError:
            self.gone += 1
            raise

    def _begin(self) -> bytes:
        return b""

    def _word(self, word: str) -> bytes:
        return self._chunk({"content": word})

    def _end(self, *, counts: bool) -> bytes:
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        told = self._event({"choices": [], "usage": usage}) if counts else b""
        return self._chunk({}, "stop") + told + b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], reason: str | None = None) -> bytes:
        return self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    def _event(self, more: dict[str, Any]) -> bytes:
        head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "inner"}
        return f"data: {json.dumps({**head, **more})}\n\n".encode()


@contextlib.asynccontextmanager
async def running(server: MoodyServer) -> AsyncIterator[str]:
    """Its address under real uvicorn."""
    config = uvicorn.Config(server.app, log_config=None, lifespan="off")
    async with listening(_Quiet(config)) as url:
        yield url


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
