"""The client of a model server: questions to it, streams of words from it, pictures to it once.

It knows what is said and where, but not how it travels (`HttpClient` does).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

from visavis.models.completion_requests import write_request
from visavis.models.completion_wire import read_embedding, read_error, read_events, read_explanation, read_likeness
from visavis.models.errors import Busy, ModelError, ServerLost
from visavis.models.generation import Embedding, GenerationChunk, GenerationRequest, WordHeat
from visavis.models.http_client import NO_HEADERS, Exchange, HttpClient, Unreachable
from visavis.models.images import image_id


class ModelClient:
    """Speaks to a model server at `http://host:port/v1` or `unix:///path/to.sock`. With `keep` connections are used
    again, and somebody has to call `aclose` before the event loop ends."""

    def __init__(self, base_url: str, *, keep: bool = False) -> None:
        self.base_url = base_url
        self._http = HttpClient(base_url, keep=keep)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """Pieces of the answer, as the engine's own `stream`. Closing it closes the request, which frees the row.

        Raises:
            ModelError: of the code that the server gave. ServerLost: it cannot be reached or died meanwhile.
        """
        body = json.dumps(write_request(request)).encode()
        with _plain_errors():
            async with self._http.ask(
                "POST", "chat/completions", body, more=request.trace.headers | _about(request.image)
            ) as answer:
                await _check(answer)
                async with contextlib.aclosing(read_events(answer)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                await answer.finish()

    async def explain(self, request: GenerationRequest, answer: str) -> tuple[WordHeat, ...]:
        """Where in the picture the words of an answer come from; raises as `stream`."""
        body = write_request(request, stream=False)
        body["visavis"]["answer"] = answer
        return read_explanation(await self._post("explanations", body, _about(request.image)))

    async def likeness(self, text: str, images: Sequence[str]) -> tuple[float, ...]:
        """As the engine's own; raises as `stream`."""
        return read_likeness(await self._post("likeness", {"text": text, "images": list(images)}))

    async def embed(self, text: str = "", *, image: str | None = None) -> Embedding:
        """A text, or a picture that the server holds, in the space that they share; raises as `stream`."""
        return read_embedding(await self._post("embeddings", {"text": text, "image": image}, _about(image)))

    async def add_image(self, data: bytes) -> str:
        """Send the bytes of a picture and return their sha256; raises what the server finds wrong with it."""
        sha256 = image_id(data)
        with _plain_errors():
            kind = "application/octet-stream"
            async with self._http.ask("PUT", f"images/{sha256}", data, kind, more=_about(sha256)) as answer:
                await _check(answer)
                await answer.finish()
        return sha256

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._http.aclose()

    async def _post(self, path: str, body: dict[str, Any], more: Mapping[str, str] = NO_HEADERS) -> Any:
        with _plain_errors():
            async with self._http.ask("POST", path, json.dumps(body).encode(), more=more) as answer:
                await _check(answer)
                return _parse(await answer.read(), answer.status)


def _about(image: str | None) -> dict[str, str]:
    """By this header Ray Serve, like any proxy that hashes one, sends all that is about a picture to one place."""
    return {} if image is None else {"X-Session-Id": image}


async def _check(answer: Exchange) -> None:
    if not 200 <= answer.status < 300:
        raise read_error(_parse(await answer.read(), answer.status))


def _parse(body: bytes, status: int) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        if status == 503:  # of a proxy between us and the server
            raise Busy(0) from None
        raise ModelError(f"the model server answered with status {status}") from None


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except Unreachable as error:
        raise ServerLost(broke_off=False) from error
    except TimeoutError as error:
        raise ModelError("the model server did not answer in time") from error
    except OSError as error:
        raise ServerLost(broke_off=True) from error
