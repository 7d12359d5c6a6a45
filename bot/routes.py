"""The HTTP and websocket endpoints of a gateway, on top of a dialogue manager.

Holds the translation between starlette and the dialogue package, nothing else: what a frame means is decided by
`dialogue.connection`, who may come in by `access`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from visavis.bot.access import counted_address, error_response
from visavis.bot.alt_texts import AltTexts
from visavis.bot.auth import Identities
from visavis.bot.metrics import Metrics
from visavis.bot.openai_api.errors import api_error
from visavis.bot.openai_api.routes import OpenAiApi
from visavis.bot.probes import address_of, http_get
from visavis.dialogue.connection import serve_connection
from visavis.dialogue.errors import BadRequest, DialogueError, ErrorCode, RateLimited
from visavis.dialogue.images import too_many_bytes
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.rate_limits import Action
from visavis.dialogue.sockets import SocketClosed
from visavis.dialogue.store import Store

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 3.0
LONGEST_DRAINED_BODY = 128 * 2**20
IMAGE_CACHING = "private, max-age=86400, immutable"


class StarletteSocket:
    """A starlette websocket as the dialogue package wants it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self.address = counted_address(websocket)

    async def receive(self) -> str | bytes:
        """The next frame; raises SocketClosed when the peer has left or the server closed the socket."""
        try:
            message = await self._websocket.receive()
        except RuntimeError as error:
            raise SocketClosed from error
        if message["type"] == "websocket.disconnect":
            raise SocketClosed
        text, data = message.get("text"), message.get("bytes")
        return text if text is not None else data or b""

    async def send(self, text: str) -> None:
        """Send one text frame; raises SocketClosed when it cannot arrive any more."""
        try:
            await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise SocketClosed from error

    async def close(self, code: int, reason: str) -> None:
        """Close the socket; without effect when it is closed."""
        try:
            await self._websocket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError, OSError):
            log.debug("the socket was closed already")


class Gateway:
    """The endpoints of one gateway and whether it takes new work."""

    def __init__(
        self,
        manager: DialogueManager,
        store: Store,
        identities: Identities,
        api: OpenAiApi,
        alt_texts: AltTexts,
        metrics: Metrics,
        *,
        model_urls: Sequence[str] = (),
    ) -> None:
        self._manager = manager
        self._alt_texts = alt_texts
        self._identities = identities
        self._api = api
        self._store = store
        self._model_urls = model_urls
        self._draining = False
        self._metrics = metrics

    def routes(self) -> list[BaseRoute]:
        """Everything but the files of the page."""
        return [
            WebSocketRoute("/chat", self.chat),
            *self._api.routes(),
            Route("/v1/images", self.add_image, methods=["POST"]),
            Route("/v1/images/{sha256}", self.read_image),
            Route("/v1/images/{sha256}/alt", self.read_alt_text),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
        ]

    async def drain(self, timeout_s: float) -> None:
        """Take no new sockets and turns; return when the running turns have ended, at the latest after `timeout_s`."""
        self._draining = True
        await asyncio.gather(self._manager.drain(timeout_s), self._api.drain(timeout_s))

    async def chat(self, websocket: WebSocket) -> None:
        """One conversation's socket."""
        if self._draining:
            await websocket.send_denial_response(error_response(503, ErrorCode.BUSY, "This server is going down."))
            return
        socket, origin = StarletteSocket(websocket), websocket.headers.get("origin")
        try:
            with self._manager.rates.socket(socket.address, self._manager.limits.sockets_per_address):
                await websocket.accept()
                with self._metrics.ws_connections.track_inprogress():
                    await serve_connection(socket, self._manager, lambda token: self._identities.person(token, origin))
        except RateLimited as error:
            await websocket.send_denial_response(error_response(429, error.code, str(error)))

    async def add_image(self, request: Request) -> Response:
        """`POST /v1/images`: the raw bytes of one picture, for the session in `X-Visavis-Session`."""
        session = _session_of(request)
        try:
            self._manager.rates.take(Action.IMAGE, session, counted_address(request))
            data = await _read_body(request, self._manager.limits.image.max_bytes, self._too_large)
        except DialogueError as error:
            self._metrics.image_refused(error.code)
            raise
        ref = await self._manager.add_image(session, data)
        stored = {"image": ref.sha256, "width": ref.width, "height": ref.height, "mime": ref.mime, "bytes": ref.bytes}
        return JSONResponse(stored, status_code=201)

    async def read_image(self, request: Request) -> Response:
        """`GET /v1/images/{sha256}?session=...`: a picture of that session."""
        ref, data = await self._manager.read_image(_session_of(request), request.path_params["sha256"])
        return Response(data, media_type=ref.mime, headers={"Cache-Control": IMAGE_CACHING, "ETag": f'"{ref.sha256}"'})

    async def read_alt_text(self, request: Request) -> Response:
        """`GET /v1/images/{sha256}/alt?session=...`: what that picture shows; the first time it counts as a picture."""
        session, sha256 = _session_of(request), request.path_params["sha256"]
        await self._manager.read_image(session, sha256)
        text = await self._alt_texts.known(sha256)
        if text is None:
            self._manager.rates.take(Action.IMAGE, session, counted_address(request))
            text = await self._alt_texts.make(sha256)
        caching = {} if text is None else {"Cache-Control": IMAGE_CACHING}
        return JSONResponse({"alt": text or ""}, headers=caching)

    async def healthz(self, request: Request) -> Response:
        """200 while the process lives."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """200 when a turn could be answered now, else 503; either way what is and what is not."""
        parts = {
            "gateway": not self._draining,
            "store": await self._store_answers(),
            "model": await self._model_answers(),
        }
        ready = all(parts.values())
        return JSONResponse({"status": "ready" if ready else "not ready", "parts": parts}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Prometheus text."""
        return PlainTextResponse(self._metrics.render(), media_type=self._metrics.content_type)

    def _too_large(self, size: int) -> DialogueError:
        return too_many_bytes(size, self._manager.limits.image)

    async def _store_answers(self) -> bool:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._store.ping()
        except (DialogueError, TimeoutError):
            return False
        return True

    async def _model_answers(self) -> bool:
        """Whether one of the servers that can answer by default does; somebody else's are not asked."""
        for url in self._model_urls:
            answer = await http_get(address_of(url), "/healthz", timeout_s=READY_TIMEOUT_S)
            if answer is not None and answer[0] == 200:
                return True
        return not self._model_urls


def _session_of(request: Request) -> str:
    session = request.headers.get("x-visavis-session") or request.query_params.get("session")
    if not session:
        raise BadRequest("Expected a session id in the header X-Visavis-Session or in ?session=, got none.")
    return session


async def _read_body(request: Request, limit: int, too_large: Callable[[int], DialogueError]) -> bytes:
    """At most `limit` bytes. What is beyond is read and thrown away (within reason), because a browser that is
    answered while it still sends reports a broken network instead of our answer."""
    body, size = bytearray(), 0
    async for chunk in _chunks(request):
        size += len(chunk)
        if size <= limit:
            body += chunk
        elif size > LONGEST_DRAINED_BODY:
            break
        else:
            body.clear()
    if size > limit:
        raise too_large(size)
    return bytes(body)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        yield chunk


async def _answer_dialogue_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DialogueError)
    return api_error(error).response()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {404: "There is nothing at this address.", 405: "This address does not take that method."}
    text = message.get(error.status_code, error.detail)
    return error_response(error.status_code, ErrorCode.BAD_REQUEST, text, headers=error.headers)


async def _answer_bug(request: Request, error: Exception) -> Response:
    """The traceback goes to the log (starlette raises the error again after this answer), never to the client."""
    return error_response(500, ErrorCode.INTERNAL_ERROR, "Something went wrong in the server; it has been logged.")


EXCEPTION_HANDLERS: Mapping[Any, Any] = {
    DialogueError: _answer_dialogue_error,
    HTTPException: _answer_http_error,
    Exception: _answer_bug,
}
