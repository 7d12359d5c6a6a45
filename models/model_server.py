"""The model server: one engine behind HTTP, on a unix socket or a port. Run: `python -m visavis.models.model_server`.

It is for gateways, not for people: no authentication, no sessions, no HTML. Closing a connection cancels its question.
SIGTERM lets running answers end first. torch is imported by `main` only, after the wait policy of its threads is set.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from visavis.models.completion_wire import (
    DONE,
    STATUS,
    event,
    read_request,
    write_chunk,
    write_completion,
    write_error,
    write_explanation,
)
from visavis.models.errors import BadImage, BadRequest, ImageTooLarge, ModelError
from visavis.models.generation import GenerationChunk

if TYPE_CHECKING:
    from visavis.models.engine import InferenceEngine

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 << 20
KEEP_ALIVE_S = 75
T = TypeVar("T")


class EngineMetrics(Collector):
    """The engine's counters and gauges, read when they are scraped."""

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """All families, in a stable order."""
        for name, value in vars(self._engine.counters).items():
            yield CounterMetricFamily(f"visavis_engine_{name}", name.replace("_", " "), value=value)
        yield GaugeMetricFamily("visavis_engine_waiting", "questions in the queue", value=self._engine.waiting)
        yield GaugeMetricFamily("visavis_engine_running", "questions being answered", value=self._engine.running)
        cached = self._engine.images.cached_bytes
        yield GaugeMetricFamily("visavis_engine_cached_bytes", "kept of what was computed from pictures", value=cached)


class ModelEndpoints:
    """The HTTP face of one engine."""

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine
        self._registry = CollectorRegistry()
        self._registry.register(EngineMetrics(engine))
        self._first_token_s = Histogram(
            "visavis_engine_first_token_seconds", "from request to first words", registry=self._registry
        )

    async def healthz(self, request: Request) -> Response:
        """200: the weights are loaded before the socket is opened."""
        return JSONResponse({"status": "ok", "model": self._engine.model_name})

    async def models(self, request: Request) -> Response:
        """The one model, in OpenAI's form."""
        model = {"id": self._engine.model_name, "object": "model", "created": 0, "owned_by": "visavis"}
        return JSONResponse({"object": "list", "data": [model]})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4")

    async def put_image(self, request: Request) -> Response:
        """Take the bytes of a picture under their sha256."""
        data = await _body(request, self._engine.images.limits.max_image_bytes, ImageTooLarge)
        sha256 = await asyncio.to_thread(self._engine.add_image, data)
        if sha256 != request.path_params["sha256"]:
            raise BadImage(f"the bytes have the sha256 {sha256}")
        return JSONResponse({"id": sha256}, status_code=201)

    async def complete(self, request: Request) -> Response:
        """Answer a question, whole or streamed. What can go wrong before the first word has its own status."""
        started = time.monotonic()
        body = read_request(await _body(request, MAX_BODY_BYTES, BadRequest))
        conversation = body.conversation()
        question = body.generation_request(conversation)
        for data in conversation.inline.values():
            await asyncio.to_thread(self._engine.add_image, data)
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        if not body.stream:
            completion = await _unless_disconnected(request, self._engine.generate(question))
            return JSONResponse(write_completion(completion, answer_id, self._engine.model_name))
        chunks = self._engine.stream(question)
        first = await _unless_disconnected(request, anext(chunks))
        self._first_token_s.observe(time.monotonic() - started)
        events = self._events(first, chunks, answer_id)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def explain(self, request: Request) -> Response:
        """Where in the picture the words of an answer (`visavis.answer`) come from."""
        body = read_request(await _body(request, MAX_BODY_BYTES, BadRequest))
        conversation = body.conversation()
        for data in conversation.inline.values():
            await asyncio.to_thread(self._engine.add_image, data)
        work = self._engine.explain(body.generation_request(conversation), body.answer())
        return JSONResponse(write_explanation(await _unless_disconnected(request, work)))

    async def _events(
        self, first: GenerationChunk, rest: AsyncGenerator[GenerationChunk, None], answer_id: str
    ) -> AsyncIterator[bytes]:
        """Server-sent events; an error after the first word is the last of them."""
        async with contextlib.aclosing(rest):
            try:
                yield write_chunk(first, answer_id, self._engine.model_name)
                async for chunk in rest:
                    yield write_chunk(chunk, answer_id, self._engine.model_name)
                yield DONE
            except ModelError as error:
                yield event(write_error(error))


def create_app(engine: InferenceEngine) -> Starlette:
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


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, but cancel it when the client goes away. Raises ClientDisconnect then."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for running in (task, gone):
            running.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


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


def main(arguments: list[str] | None = None) -> int:
    """Take the address, load the weights, serve until SIGTERM or SIGINT. 0 after a clean stop, 1 with one sentence."""
    options = _parse(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would starve the gateway
    try:
        with _bind(options) as listener, _load_engine(options) as engine:
            _serve(create_app(engine), listener, options)
    except ModelError as error:
        print(f"visavis model server: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m visavis.models.model_server", description="Serve a visavis model.")
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--uds", type=Path, help="unix socket to listen on")
    place.add_argument("--port", type=int, help="port to listen on")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--name", default="visavis-embedded", help="what people call the model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a computation")
    parser.add_argument("--cache-bytes", type=int, default=256 << 20, help="kept of what was computed from pictures")
    parser.add_argument("--max-queue", type=int, default=64, help="questions that may wait")
    parser.add_argument("--max-new-tokens", type=int, default=48, help="longest answer")
    parser.add_argument("--drain-s", type=int, default=30, help="how long running answers may take after SIGTERM")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error", "critical"])
    return parser.parse_args(arguments)


def _load_engine(options: argparse.Namespace) -> InferenceEngine:
    import torch

    from visavis.models.engine import InferenceEngine
    from visavis.models.loading import load_model

    torch.set_num_threads(max(1, options.threads))
    model, processor = load_model(options.model, options.device)
    return InferenceEngine(
        model,
        processor,
        model_name=options.name,
        cache_bytes=options.cache_bytes,
        max_queue=options.max_queue,
        max_new_tokens=options.max_new_tokens,
    )


@contextlib.contextmanager
def _bind(options: argparse.Namespace) -> Iterator[socket.socket]:
    """A socket that does not listen yet. A unix one is ours alone, replaces a dead server's, and goes at the end."""
    place = options.uds or f"{options.host}:{options.port}"
    with (
        socket.socket(socket.AF_UNIX if options.uds else socket.AF_INET) as listener,
        contextlib.ExitStack() as clean_up,
    ):
        try:
            if options.uds:
                options.uds.unlink(missing_ok=True)
                listener.bind(str(options.uds))
                clean_up.callback(options.uds.unlink, missing_ok=True)
                options.uds.chmod(0o600)  # nobody can connect before: it does not listen
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((options.host, options.port))
        except OSError as error:
            raise ModelError(f"cannot listen on {place}: {error.strerror}") from error
        yield listener


def _serve(app: Starlette, listener: socket.socket, options: argparse.Namespace) -> None:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=options.drain_s,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises its signal again after the drain: then we are done
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
