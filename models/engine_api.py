"""The HTTP face of an engine: questions answered whole or streamed, pictures taken, counters told. It is for gateways,
not for people: no authentication, no sessions, no HTML. Closing a connection cancels its question."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from visavis.models.chat_messages import Conversation
from visavis.models.client_gone import unless_gone
from visavis.models.completion_requests import CompletionRequest, EmbeddingRequest, LikenessRequest, read_request
from visavis.models.completion_wire import (
    DONE,
    STATUS,
    event,
    write_chunk,
    write_completion,
    write_error,
    write_explanation,
)
from visavis.models.engine_metrics import EngineMetrics
from visavis.models.errors import BadImage, BadRequest, ImageTooLarge, ModelError
from visavis.models.generation import Completion, GenerationChunk, GenerationRequest
from visavis.models.request_trace import RequestTrace, Stage
from visavis.models.tracing import TRACING

if TYPE_CHECKING:
    from visavis.models.engine import InferenceEngine
    from visavis.models.transformers_engine import TransformersEngine

MAX_BODY_BYTES = 32 << 20
T = TypeVar("T")


class ModelEndpoints:
    """The HTTP face of one engine."""

    def __init__(self, engine: InferenceEngine | TransformersEngine) -> None:
        self._engine = engine
        self._metrics = EngineMetrics(engine)

    async def healthz(self, request: Request) -> Response:
        """200 while the engine lives; the weights are loaded before the socket is opened."""
        alive = self._engine.alive
        body = {"status": "ok" if alive else "failed", "model": self._engine.model_name}
        return JSONResponse(body, status_code=200 if alive else 503)

    async def models(self, request: Request) -> Response:
        """The one model, in OpenAI's form."""
        model = {"id": self._engine.model_name, "object": "model", "created": 0, "owned_by": "visavis"}
        return JSONResponse({"object": "list", "data": [model]})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._metrics.render(), media_type=self._metrics.content_type)

    async def put_image(self, request: Request) -> Response:
        """Take the bytes of a picture under their sha256."""
        data = await _body(request, self._engine.images.limits.max_image_bytes, ImageTooLarge)
        sha256 = await asyncio.to_thread(self._engine.add_image, data)
        if sha256 != request.path_params["sha256"]:
            raise BadImage(f"the bytes have the sha256 {sha256}")
        return JSONResponse({"id": sha256}, status_code=201)

    async def complete(self, request: Request) -> Response:
        """Answer a question, whole or streamed. What can go wrong before the first word has its own status."""
        trace = RequestTrace(dict(request.headers))
        trace.mark(Stage.RECEIVED)
        body = read_request(await _body(request, MAX_BODY_BYTES, BadRequest), CompletionRequest)
        conversation = body.conversation()
        question = replace(body.generation_request(conversation), trace=trace)
        await self._take_pictures(question, conversation)
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        if not body.stream:
            with self._answering(question) as ended:
                completion = await unless_gone(request, self._engine.generate(question))
                ended(completion)
            return JSONResponse(write_completion(completion, answer_id, self._engine.model_name))
        chunks = self._chunks(question)
        first = await unless_gone(request, anext(chunks))
        events = self._events(first, chunks, answer_id)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def explain(self, request: Request) -> Response:
        """Where in the picture the words of an answer (`visavis.answer`) come from."""
        body = read_request(await _body(request, MAX_BODY_BYTES, BadRequest), CompletionRequest)
        conversation = body.conversation()
        question = body.generation_request(conversation)
        await self._take_pictures(question, conversation)
        work = self._engine.explain(question, body.answer())
        return JSONResponse(write_explanation(await unless_gone(request, work)))

    async def likeness(self, request: Request) -> Response:
        """How well a text fits each of some pictures; an empty list from a model without a shared space."""
        body = read_request(await _body(request, MAX_BODY_BYTES, BadRequest), LikenessRequest)
        likeness = await unless_gone(request, self._engine.likeness(body.text, body.images))
        return JSONResponse({"object": "likeness", "likeness": likeness})

    async def embed(self, request: Request) -> Response:
        """A text or a picture in the space that they share."""
        body = read_request(await _body(request, MAX_BODY_BYTES, BadRequest), EmbeddingRequest)
        made = await unless_gone(request, self._engine.embed(body.text, image=body.image))
        return JSONResponse({"object": "embedding", "vector": made.vector, "tokens": made.tokens})

    async def _take_pictures(self, question: GenerationRequest, conversation: Conversation) -> None:
        """Those that came inside the request and are needed."""
        for sha256 in self._engine.looks_at(question):
            if sha256 in conversation.inline:
                await asyncio.to_thread(self._engine.add_image, conversation.inline[sha256])

    @contextlib.contextmanager
    def _answering(self, question: GenerationRequest) -> Iterator[Callable[[Completion], None]]:
        with TRACING.serving(question, self._engine.model_name) as traced, self._metrics.answering(question) as counted:

            def ended(completion: Completion) -> None:
                counted(completion)
                traced(completion)

            yield ended

    async def _chunks(self, question: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """The engine's, observed."""
        with self._answering(question) as ended:
            async with contextlib.aclosing(self._engine.stream(question)) as chunks:
                async for chunk in chunks:
                    if chunk.completion is not None:
                        ended(chunk.completion)
                    yield chunk

    async def _events(
        self, first: GenerationChunk, rest: AsyncGenerator[GenerationChunk, None], answer_id: str
    ) -> AsyncIterator[bytes]:
        """Server-sent events; an error after the first of them is the last."""
        async with contextlib.aclosing(rest):
            try:
                async for chunk in _again(first, rest):
                    data = write_chunk(chunk, answer_id, self._engine.model_name)
                    yield data if chunk.completion is None else data + DONE
            except ModelError as error:
                yield event(write_error(error))


def create_app(engine: InferenceEngine | TransformersEngine) -> Starlette:
    """The application over an engine, which stays the caller's to close."""
    endpoints = ModelEndpoints(engine)
    return Starlette(
        routes=[
            Route("/healthz", endpoints.healthz),
            Route("/metrics", endpoints.metrics),
            Route("/v1/models", endpoints.models),
            Route("/v1/images/{sha256}", endpoints.put_image, methods=["PUT"]),
            Route("/v1/chat/completions", endpoints.complete, methods=["POST"]),
            Route("/v1/explanations", endpoints.explain, methods=["POST"]),
            Route("/v1/likeness", endpoints.likeness, methods=["POST"]),
            Route("/v1/embeddings", endpoints.embed, methods=["POST"]),
        ],
        exception_handlers={
            ModelError: _model_error,
            HTTPException: _http_error,
            ClientDisconnect: _client_gone,
            Exception: _server_error,
        },
    )


async def _body(request: Request, limit: int, too_large: type[ModelError]) -> bytes:
    """The request's bytes, read no further than the limit."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > limit:
            raise too_large(f"the request may have {limit} bytes")
    return bytes(data)


async def _again(first: GenerationChunk, rest: AsyncGenerator[GenerationChunk, None]) -> AsyncIterator[GenerationChunk]:
    yield first
    async for chunk in rest:
        yield chunk


async def _model_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ModelError)
    headers = {"Retry-After": "1"} if error.code == "busy" else None
    return JSONResponse(write_error(error), status_code=STATUS.get(error.code, 500), headers=headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = write_error(BadRequest(f"{request.method} {request.url.path}: {error.detail}"))
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _server_error(request: Request, error: Exception) -> Response:
    return JSONResponse(write_error(ModelError("the model server failed")), status_code=500)
