"""The endpoints of the OpenAI-compatible API, on top of chat models and a dialogue manager.

Stateless by default: all messages come with the request and nothing is kept. With a session's id the last message of
the user is the session's next turn. Knows no model by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from visavis.bot.access import counted_address
from visavis.bot.openai_api.answers import Answer, answer_in_session, answer_of_model, turn_command
from visavis.bot.openai_api.bodies import ChatRequest, EmbeddingsRequest, read_body
from visavis.bot.openai_api.completions import CompletionWriter
from visavis.bot.openai_api.conversation import PictureSource, Said, read_messages, read_picture, to_langchain
from visavis.bot.openai_api.document import openapi_document
from visavis.bot.openai_api.embeddings import embed
from visavis.bot.openai_api.errors import ApiError, api_error
from visavis.bot.openai_api.keys import ApiKeys
from visavis.bot.openai_api.pictures import Pictures
from visavis.bot.openai_api.streams import EventStream, events_of, whole
from visavis.dialogue.errors import ErrorCode
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.rate_limits import Action
from visavis.models.client_gone import unless_gone

MAX_BODY_BYTES = 64 * 2**20
SESSION_HEADER = "x-visavis-session"
KEY_HEADER = "idempotency-key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
Endpoint = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")


@dataclass(frozen=True)
class _PicturesOfSession:
    """Pictures that go to the model as they are."""

    pictures: Pictures
    session: str | None

    async def block(self, source: PictureSource) -> dict[str, Any]:
        return await self.pictures.block(source, self.session)


@dataclass(frozen=True)
class _KeepingPictures:
    """Pictures that a session keeps."""

    pictures: Pictures
    session: str

    async def block(self, source: PictureSource) -> dict[str, Any]:
        return {"type": "image", "file_id": await self.pictures.keep(source, self.session)}


class OpenAiApi:
    """The API over `models` by name, the first one being the default and the one of sessions."""

    def __init__(
        self, models: Mapping[str, BaseChatModel], manager: DialogueManager, pictures: Pictures, keys: ApiKeys
    ) -> None:
        self._models = models
        self._manager = manager
        self._pictures = pictures
        self._keys = keys
        self._running: set[object] = set()
        self._idle = asyncio.Event()
        self._draining = False

    def routes(self) -> list[Route]:
        """Everything under /v1 but pictures."""
        return [
            Route("/v1/chat/completions", self._guarded(self.complete), methods=["POST"]),
            Route("/v1/embeddings", self._guarded(self.embed), methods=["POST"]),
            Route("/v1/models", self._guarded(self.list_models)),
            Route("/v1/models/{model:path}", self._guarded(self.show_model)),
            Route("/v1/sessions", self._guarded(self.begin_session), methods=["POST"]),
            Route("/v1/sessions/{session}", self._guarded(self.forget_session), methods=["DELETE"]),
            Route("/openapi.json", self.document),
        ]

    async def drain(self, timeout_s: float) -> None:
        """Refuse new answers; return when the running ones have ended, at the latest after `timeout_s`."""
        self._draining = True
        self._idle.clear()
        if self._running:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), timeout_s)

    async def complete(self, request: Request) -> Response:
        """`POST /v1/chat/completions`. What goes wrong before the first word has a status of its own."""
        if self._draining:
            raise ApiError("The server is restarting; please send this again in a moment.", code=ErrorCode.BUSY)
        raw = await _read(request)
        body = await asyncio.to_thread(read_body, ChatRequest, raw)
        name, _ = self._model(body.model)
        session = _session_of(request, body)
        self._manager.rates.take(Action.TURN, session or "", counted_address(request))
        answer = await self._answer(body, session, _key_of(request))
        usage = body.stream_options is not None and body.stream_options.include_usage is True
        writer = CompletionWriter(f"chatcmpl-{uuid.uuid4().hex}", name, include_usage=usage)
        running = object()
        self._running.add(running)
        ended = self._ended(running)
        if not body.stream:
            try:
                text, ending = await unless_gone(request, whole(answer))
            finally:
                ended()
            return JSONResponse(writer.whole(text, ending))
        try:
            first = await unless_gone(request, anext(answer))
        except BaseException:
            await answer.aclose()
            ended()
            raise
        return EventStream(events_of(writer, first, answer), ended)

    async def embed(self, request: Request) -> Response:
        """`POST /v1/embeddings`."""
        raw = await _read(request)
        body = await asyncio.to_thread(read_body, EmbeddingsRequest, raw)
        name, model = self._model(body.model)
        session = request.headers.get(SESSION_HEADER)
        self._manager.rates.take(Action.TURN, session or "", counted_address(request))
        return JSONResponse(await unless_gone(request, embed(body, name, model, self._pictures, session)))

    async def list_models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        return JSONResponse({"object": "list", "data": [_model_object(name) for name in self._models]})

    async def show_model(self, request: Request) -> Response:
        """`GET /v1/models/{model}`."""
        name, _ = self._model(request.path_params["model"])
        return JSONResponse(_model_object(name))

    async def begin_session(self, request: Request) -> Response:
        """`POST /v1/sessions`: a new conversation that the server remembers."""
        self._manager.rates.take(Action.REQUEST, "", counted_address(request))
        return JSONResponse({"object": "session", "id": await self._manager.new_session()}, status_code=201)

    async def forget_session(self, request: Request) -> Response:
        """`DELETE /v1/sessions/{session}`: everything of a conversation goes."""
        receipt = await self._manager.forget(request.path_params["session"])
        deleted = {"object": "session.deleted", "id": receipt.session, "deleted": True}
        return JSONResponse({**deleted, "turns": receipt.turns, "images": receipt.images})

    async def document(self, request: Request) -> Response:
        """`GET /openapi.json`: this API, described; open to all."""
        return JSONResponse(openapi_document(list(self._models)))

    async def _answer(self, body: ChatRequest, session: str | None, key: str | None) -> Answer:
        """The answer that will be spoken; pictures are read before, so that what is wrong with them is told."""
        said = read_messages(body.messages)
        explain = body.extension.explain
        if session is not None and body.store is not False:
            return await self._turn(said[-1], body, session, key)
        _, model = self._model(body.model)
        reader = _PicturesOfSession(self._pictures, session)
        messages = await to_langchain(said, reader, self._manager.limits.max_images)
        return answer_of_model(model, messages, body.sampling, stop=body.stop_strings, explain=explain)

    async def _turn(self, said: Said, body: ChatRequest, session: str, key: str | None) -> Answer:
        """The session has the history, so of the messages only the last one counts."""
        keep = _KeepingPictures(self._pictures, session)
        images = [(await read_picture(source, keep))["file_id"] for source in said.pictures]
        region = body.sampling.get("region")
        name, _ = self._model(body.model)
        command = turn_command(said.text, images, region, manager=self._manager, session=session, key=key, model=name)
        lasting = key is not None
        return answer_in_session(self._manager, session, command, explain=body.extension.explain, lasting=lasting)

    def _model(self, name: str | None) -> tuple[str, BaseChatModel]:
        default = next(iter(self._models))
        name = default if not name or (name == "visavis" and name not in self._models) else name
        if name not in self._models:
            known = ", ".join(self._models)
            message = f"The model {name!r} does not exist here; there is {known}."
            raise ApiError(message, code="model_not_found", status=404, param="model")
        return name, self._models[name]

    def _ended(self, running: object) -> Callable[[], None]:
        def end() -> None:
            self._running.discard(running)
            if not self._running:
                self._idle.set()

        return end

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint behind the keys, its errors in OpenAI's form."""

        async def guarded(request: Request) -> Response:
            try:
                self._keys.check(request)
                return await endpoint(request)
            except ClientDisconnect:
                return Response(status_code=499)  # nobody reads it
            except Exception as error:  # the edge to any model
                return api_error(error).response()

        return guarded


async def _read(request: Request) -> bytes:
    """The body, read no further than the limit."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY_BYTES:
            raise ApiError(f"A request may have {MAX_BODY_BYTES >> 20} MiB.", code=ErrorCode.TOO_LONG)
    return bytes(data)


def _session_of(request: Request, body: ChatRequest) -> str | None:
    """An empty header is a session that there is not, rather than none: what was to be remembered would be lost."""
    named = request.headers.get(SESSION_HEADER, (body.metadata or {}).get("session"))
    return named if body.extension.session is None else body.extension.session


def _key_of(request: Request) -> str | None:
    """What makes a repeated request the same one; as the document says, or it would be two keys to somebody."""
    key = request.headers.get(KEY_HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise ApiError(f"{KEY_HEADER} has to be 1 to 255 visible ASCII characters.", param=KEY_HEADER)
    return key


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "visavis"}
