"""The client of a model server: questions to it, streams of words from it, pictures to it once.

It knows HTTP and no messages. One httpx client is kept open for each event loop that uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from weakref import WeakKeyDictionary

import httpx

from visavis.models.completion_wire import (
    read_embedding,
    read_error,
    read_events,
    read_explanation,
    read_likeness,
    write_request,
)
from visavis.models.errors import ModelError, ServerLost
from visavis.models.generation import Embedding, GenerationChunk, GenerationRequest, WordHeat
from visavis.models.images import image_id

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 300.0  # a question may have to wait for others
KEEPALIVE_S = 30.0  # shorter than the server's, so that it is never the server that closes first
_UNIX = "unix://"


class ModelClient:
    """Speaks to a model server at `http://host:port/v1` or `unix:///path/to.sock`."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """Pieces of the answer, as the engine's own `stream`. Closing it closes the request, which frees the row.

        Raises:
            ModelError: of the code that the server gave. ServerLost: it cannot be reached or died meanwhile.
        """
        with _plain_errors():
            async with self._client().stream("POST", "chat/completions", json=write_request(request)) as response:
                await _check(response)
                async with contextlib.aclosing(read_events(response.aiter_lines())) as chunks:
                    async for chunk in chunks:
                        yield chunk

    async def explain(self, request: GenerationRequest, answer: str) -> tuple[WordHeat, ...]:
        """Where in the picture the words of an answer come from; raises as `stream`."""
        body = write_request(request, stream=False)
        body["visavis"]["answer"] = answer
        with _plain_errors():
            response = await self._client().post("explanations", json=body)
            await _check(response)
        return read_explanation(response.json())

    async def likeness(self, text: str, images: Sequence[str]) -> tuple[float, ...]:
        """As the engine's own; raises as `stream`."""
        with _plain_errors():
            response = await self._client().post("likeness", json={"text": text, "images": list(images)})
            await _check(response)
        return read_likeness(response.json())

    async def embed(self, text: str = "", *, image: str | None = None) -> Embedding:
        """A text, or a picture that the server holds, in the space that they share; raises as `stream`."""
        with _plain_errors():
            response = await self._client().post("embeddings", json={"text": text, "image": image})
            await _check(response)
        return read_embedding(response.json())

    async def add_image(self, data: bytes) -> str:
        """Send the bytes of a picture and return their sha256; raises what the server finds wrong with it."""
        sha256 = image_id(data)
        with _plain_errors():
            response = await self._client().put(f"images/{sha256}", content=data)
            await _check(response)
        return sha256

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = _connect(self.base_url)
        return self._clients[loop]


def _connect(base_url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=KEEPALIVE_S)
    path = base_url.removeprefix(_UNIX) if base_url.startswith(_UNIX) else None
    return httpx.AsyncClient(
        base_url="http://localhost/v1" if path is not None else base_url,
        transport=httpx.AsyncHTTPTransport(uds=path, limits=limits, trust_env=False),
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        trust_env=False,
    )


async def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    await response.aread()
    try:
        raise read_error(response.json())
    except ValueError:
        raise ModelError(f"the model server answered with status {response.status_code}") from None


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ServerLost(broke_off=False) from error
    except httpx.TimeoutException as error:
        raise ModelError("the model server did not answer in time") from error
    except httpx.HTTPError as error:
        raise ServerLost(broke_off=True) from error
