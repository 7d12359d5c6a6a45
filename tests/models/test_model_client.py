"""The client of a model server against one that does as it is told: connections, pieces, and servers that fail."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from visavis.models import http_client
from visavis.models.completion_wire import DONE, write_chunk
from visavis.models.errors import ModelError, ServerLost
from visavis.models.generation import Completion, FinishReason, GenerationChunk, GenerationRequest
from visavis.models.model_client import ModelClient

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SAID = [GenerationChunk("", position=1), GenerationChunk("a réd "), GenerationChunk("dog")]
LAST = GenerationChunk("", Completion("a réd dog", FinishReason.STOP))
QUESTION = GenerationRequest("what is it?", (), None)


def events(*chunks: GenerationChunk) -> list[bytes]:
    return [write_chunk(chunk, "id", "model") for chunk in chunks]


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


WHOLE = HEAD + chunked(*events(*SAID, LAST), DONE, b"")


class Server:
    """Gives each request the bytes of `answer`, in pieces of `at_once`; `then_closes`: and closes."""

    def __init__(self) -> None:
        self.answer, self.at_once, self.then_closes = WHOLE, len(WHOLE), False
        self.connections, self.was_left = 0, asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
                for start in range(0, len(self.answer), self.at_once):
                    writer.write(self.answer[start : start + self.at_once])
                    await asyncio.sleep(0)
                if self.then_closes:
                    break
        except asyncio.IncompleteReadError:
            self.was_left.set()
        writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server()
    async with await asyncio.start_unix_server(server.talk, tmp_path / "model.sock"):
        yield server


@pytest.fixture
async def client(tmp_path: Path, server: Server) -> AsyncIterator[ModelClient]:
    client = ModelClient(f"unix://{tmp_path / 'model.sock'}", keep=True)
    yield client
    await client.aclose()


async def ask(client: ModelClient) -> list[GenerationChunk]:
    return [chunk async for chunk in client.stream(QUESTION)]


async def test_turns_share_a_connection(client: ModelClient, server: Server) -> None:
    for _ in range(3):
        assert await ask(client) == [*SAID, LAST]
    assert server.connections == 1
    await asyncio.gather(*(ask(client) for _ in range(4)))
    assert server.connections == 4


@pytest.mark.parametrize("at_once", [1, 2, 7, 100])
async def test_however_the_bytes_come_they_are_the_same_pieces(
    client: ModelClient, server: Server, at_once: int
) -> None:
    server.at_once = at_once
    assert await ask(client) == [*SAID, LAST]


async def test_events_that_come_in_one_piece_or_in_parts(client: ModelClient, server: Server) -> None:
    joined = b"".join(events(*SAID, LAST)) + DONE
    for pieces in ([joined], [joined[:40], joined[40:41], joined[41:]], [joined.replace(b"\n", b"\r\n")]):
        server.answer = HEAD + chunked(*pieces, b"")
        assert await ask(client) == [*SAID, LAST]


async def test_leaving_early_closes_the_connection(client: ModelClient, server: Server) -> None:
    server.answer = HEAD + chunked(*events(*SAID))
    stream = client.stream(QUESTION)
    await anext(stream)
    await stream.aclose()
    await asyncio.wait_for(server.was_left.wait(), 5)


async def test_a_connection_that_the_server_has_closed_is_made_again(client: ModelClient, server: Server) -> None:
    await ask(client)
    server.writers[0].close()
    await server.writers[0].wait_closed()
    await asyncio.sleep(0.01)
    assert await ask(client) == [*SAID, LAST]
    assert server.connections == 2


async def test_an_answer_that_is_all_there_counts_whatever_follows(
    client: ModelClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "FINISH_TIMEOUT_S", 0.01)
    server.answer = HEAD + chunked(*events(*SAID, LAST))
    for server.then_closes in (False, True):
        assert await ask(client) == [*SAID, LAST]
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-x\r\n\r\n", HEAD, HEAD + chunked(*events(*SAID)), HEAD + chunked(*events(*SAID), b"")],
    ids=["nothing", "not HTTP", "a head", "half an answer", "an answer without its end"],
)
async def test_an_answer_that_breaks_off(client: ModelClient, server: Server, answer: bytes) -> None:
    server.answer, server.then_closes = answer, True
    with pytest.raises(ServerLost) as lost:
        await ask(client)
    assert lost.value.broke_off


async def test_refusals_and_nonsense_are_model_errors(client: ModelClient, server: Server) -> None:
    refusal = b'{"error": {"message": "no", "code": "too_long"}}'
    for status, body, code in ((b"400 Bad", refusal, "too_long"), (b"502 Bad", b"<html>", "model_error")):
        server.answer = b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)
        with pytest.raises(ModelError) as refused:
            await ask(client)
        assert refused.value.code == code
    server.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{"
    with pytest.raises(ModelError, match="status 200"):
        await client.likeness("dog", ["a" * 64])
    assert server.connections == 1


async def test_a_server_that_says_nothing_is_not_waited_for_without_end(
    client: ModelClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "READ_TIMEOUT_S", 0.01)
    server.answer = b""
    with pytest.raises(ModelError, match="in time"):
        await ask(client)


async def test_nobody_there(tmp_path: Path) -> None:
    for address in (f"unix://{tmp_path}/nobody.sock", "http://127.0.0.1:9/v1"):
        with pytest.raises(ServerLost) as lost:
            await ask(ModelClient(address))
        assert not lost.value.broke_off


async def test_a_body_that_ends_with_the_connection(client: ModelClient, server: Server) -> None:
    """As old proxies send it; one cut off in its head is no answer."""
    server.answer, server.then_closes = b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(events(*SAID, LAST)) + DONE, True
    assert await ask(client) == [*SAID, LAST]
    assert await ask(client) == [*SAID, LAST]
    assert server.connections == 2


async def test_the_answer_is_what_comes_after_interim_ones(client: ModelClient, server: Server) -> None:
    server.answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + WHOLE
    for at_once in (len(server.answer), 3):
        server.at_once = at_once
        assert await ask(client) == [*SAID, LAST]
    assert server.connections == 1


@pytest.mark.parametrize("more", [WHOLE, b"x", b"HTTP/1.1 200 OK\r\n"])
async def test_a_connection_on_which_more_was_said_than_asked_for_is_left(
    client: ModelClient, server: Server, more: bytes
) -> None:
    """What is left over must never be taken for the answer to somebody else's question."""
    server.answer = WHOLE + more
    server.at_once = len(server.answer)
    assert await ask(client) == [*SAID, LAST]
    assert await ask(client) == [*SAID, LAST]
    assert server.connections == 2


@pytest.mark.parametrize("target", ["/a\r\nx: y", "/a b", "/\u00e4", "/a\x00"])
def test_nothing_in_a_request_can_end_its_line(target: str) -> None:
    with pytest.raises(ValueError, match="head"):
        http_client.request_head("GET", target, {})
    with pytest.raises(ValueError, match="head"):
        http_client.request_head("GET", "/", {"X": target.replace(" ", "\n")})
