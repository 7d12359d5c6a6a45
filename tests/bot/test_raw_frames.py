"""Frames that no library would send, at a real gateway: a coded refusal or a close code, and the next one is served."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from raw_socket import BINARY, COMPRESSED, CONTINUED, FIN, TEXT, RawSocket, frame
from running_gateway import RunGateway

from visavis.bot import server_protocols
from visavis.bot.settings import Settings

HELLO = json.dumps({"type": "hello", "version": 1}).encode()
NEW = json.dumps({"type": "new"}).encode()


@pytest.fixture
async def url(run_gateway: RunGateway) -> AsyncIterator[str]:
    async with run_gateway() as url:
        yield url


async def refusal(socket: RawSocket, *frames: bytes) -> str:
    """What frames are answered with, after which the socket must still be good."""
    await socket.send(b"".join(frames))
    error = await socket.receive()
    assert isinstance(error, dict) and error["type"] == "error"
    await socket.send(frame(NEW))
    ready = await socket.receive()
    assert isinstance(ready, dict) and ready["type"] == "ready"
    return str(error["code"])


async def test_refused_frames_cost_nothing_else(url: str) -> None:
    async with RawSocket(url) as socket:
        await socket.send(frame(HELLO))
        await socket.receive()
        assert await refusal(socket, frame(b"\x00" * 100, BINARY)) == "bad_request"
        assert await refusal(socket, frame(b"x" * 2**21)) == "too_long"
        assert await refusal(socket, frame(b"[" * 10_000)) == "bad_request"
        assert await refusal(socket, frame(b'{"type":"turn","id":1e999,"text":NaN}')) == "bad_request"
        emoji = json.dumps({"type": "turn", "id": "7f9c24e5-7a0c-4b55-9d2e-0d6b6f1c2a33", "text": "😀" * 10_000})
        assert await refusal(socket, frame(emoji.encode("ascii")[:60_000])) == "bad_request"
        assert await refusal(socket, frame(json.dumps(json.loads(emoji), ensure_ascii=False).encode())) == "too_long"
        half = rb'{"type":"turn","id":"7f9c24e5-7a0c-4b55-9d2e-0d6b6f1c2a33","text":"\ud83d"}'
        assert await refusal(socket, frame(half)) == "bad_request"


async def test_a_frame_in_pieces_of_one_byte_is_one_frame(url: str) -> None:
    async with RawSocket(url) as socket:
        for number, byte in enumerate(HELLO):
            kind, last = (TEXT if number == 0 else CONTINUED), number == len(HELLO) - 1
            await socket.send(frame(bytes([byte]), kind, FIN if last else 0))
        ready = await socket.receive()
        assert isinstance(ready, dict) and ready["type"] == "ready"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(b"\xff\xfe{}"), 1007),
        (frame(b"\x00" * 50, flags=FIN | COMPRESSED), 1002),
        (frame(b"", 3), 1002),
        (frame(b"x", CONTINUED), 1002),
        (frame(b"", TEXT)[:1] + b"\xff" + (2**40).to_bytes(8, "big") + bytes(4), 1009),
        (frame(b"{", TEXT, 0) + frame(b" ", CONTINUED, 0) * 20_000, 1009),
    ],
    ids=["invalid utf-8", "a compressed bomb", "an unknown opcode", "a stray piece", "a terabyte", "endless pieces"],
)
async def test_what_breaks_the_protocol_ends_the_socket_with_a_code(url: str, frames: bytes, code: int) -> None:
    async with RawSocket(url, "Sec-WebSocket-Extensions: permessage-deflate") as socket:
        assert "permessage-deflate" not in socket.answer.lower()
        await socket.send(frame(HELLO))
        await socket.receive()
        await socket.send(frames)
        assert await socket.receive() == code
    async with RawSocket(url) as other:
        await other.send(frame(HELLO))
        assert isinstance(await other.receive(), dict)


@pytest.mark.parametrize("begun", [b"", b"GET /chat HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /chat HT"])
async def test_a_handshake_that_never_ends_is_cut_off(
    url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(server_protocols, "REQUEST_TIMEOUT_S", 0.1)
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(begun)
    async with asyncio.timeout(20):
        while await reader.read(1000):
            writer.write(b"T")
    writer.close()


async def test_unannounced_bytes_count_as_frames(settings: Settings, run_gateway: RunGateway) -> None:
    async with run_gateway() as url, RawSocket(url) as socket:
        await socket.send(frame(HELLO))
        await socket.receive()
        await socket.send(frame(b"x", BINARY) * 700)
        codes = []
        while "rate_limited" not in codes:
            error = await socket.receive()
            assert isinstance(error, dict)
            codes.append(error["code"])
        assert len(codes) <= 700
