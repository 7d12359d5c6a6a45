"""Fetching posted files from a server that does what it should not."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest
import uvicorn
from running_gateway import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from visavis.bot.adapters import files
from visavis.bot.adapters.files import WebPage, fetch_file
from visavis.bot.gateway import GatewayServer
from visavis.dialogue.errors import BadImage, ImageTooLarge, UnsupportedImage
from visavis.dialogue.limits import ImageLimits

LIMITS = ImageLimits(max_bytes=1_000)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
TOKEN = {"Authorization": "Bearer xoxb-secret"}


async def endless(chunk: bytes) -> AsyncIterator[bytes]:
    for _ in itertools.repeat(None):
        await asyncio.sleep(0.001)
        yield chunk


@contextlib.asynccontextmanager
async def file_server(seen: list[Request]) -> AsyncIterator[str]:
    async def answer(request: Request) -> Response:
        seen.append(request)
        match request.path_params["name"]:
            case "photo":
                return Response(PNG, media_type="image/png")
            case "untyped":
                return Response(PNG)
            case "sign-in":
                return Response(b"<!DOCTYPE html><html>Sign in</html>", media_type="text/html; charset=utf-8")
            case "disguised":
                return Response(b"\n <HTML>Sign in", media_type="image/png")
            case "moved":
                return RedirectResponse("http://127.0.0.1:1/elsewhere")
            case "text":
                return Response(b"{}", media_type="application/json")
            case "announced":
                return StreamingResponse(endless(b"x"), media_type="image/png", headers={"Content-Length": "99999"})
            case "endless":
                return StreamingResponse(endless(b"x" * 100), media_type="image/png")
        return Response(status_code=404)

    app = Starlette(routes=[Route("/{name}", answer)])
    async with listening(GatewayServer(uvicorn.Config(app, log_config=None, lifespan="off"))) as url:
        yield url


@pytest.mark.parametrize("name", ["photo", "untyped"])
async def test_a_picture_comes_with_the_token(name: str) -> None:
    seen: list[Request] = []
    async with file_server(seen) as url:
        assert await fetch_file(f"{url}/{name}", LIMITS, hosts=[url], headers=TOKEN) == PNG
    assert seen[0].headers["authorization"] == TOKEN["Authorization"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("sign-in", WebPage),
        ("disguised", WebPage),
        ("moved", BadImage),
        ("text", UnsupportedImage),
        ("announced", ImageTooLarge),
        ("endless", ImageTooLarge),
        ("gone", BadImage),
    ],
)
async def test_anything_else_is_refused(name: str, error: type[Exception]) -> None:
    async with file_server([]) as url:
        with pytest.raises(error):
            await fetch_file(f"{url}/{name}", LIMITS, hosts=[url], headers=TOKEN)


@pytest.mark.parametrize(
    "url",
    [
        "http://files.slack.com/a",
        "https://files.slack.com.evil.example/a",
        "https://evil-slack.com/a",
        "https://files.slack.com@evil.example/a",
        "https://evil.example\\@files.slack.com/a",
        "https://user:pass@files.slack.com/a",
        "https://files.slack.com:8443/a",
        "https://slack.com./a",
        "file:///etc/passwd",
        "//files.slack.com/a",
        "https://[::1/a",
        "",
    ],
)
async def test_the_token_goes_to_no_other_host(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.httpx, "AsyncClient", None)  # nobody is even asked
    with pytest.raises(BadImage, match="host"):
        await fetch_file(url, LIMITS, hosts=["https://slack.com", "https://*.slack.com"], headers=TOKEN)


async def test_a_server_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "TIMEOUT_S", 0.2)
    async with file_server([]) as url:
        small = ImageLimits(max_bytes=10**12)
        with pytest.raises(BadImage):
            await fetch_file(f"{url}/endless", small, hosts=[url])
