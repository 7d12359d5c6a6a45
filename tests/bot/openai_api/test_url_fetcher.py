"""Fetching pictures from the network: which hosts, which addresses, how much and how long; on a server of our own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from visavis.bot.openai_api.errors import ApiError
from visavis.bot.openai_api.url_fetcher import UrlFetcher, is_public
from visavis.dialogue.errors import ImageTooLarge
from visavis.dialogue.limits import ImageLimits

LIMITS = ImageLimits(max_bytes=1_000)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@contextlib.asynccontextmanager
async def host(answer: bytes, *, endless: bytes = b"") -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that sends `answer` to whatever is asked, then `endless` again and again; its port, and what it read."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            while endless:
                writer.write(endless)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


def fetcher(port: int, *, may_connect: Callable[[str], bool] = lambda _: True, timeout_s: float = 20) -> UrlFetcher:
    async def resolve(name: str, _: int) -> Sequence[str]:
        assert name == "pictures.example"
        return ["127.0.0.1"]

    hosts = [f"pictures.example:{port}"]
    return UrlFetcher(hosts, resolve=resolve, may_connect=may_connect, timeout_s=timeout_s)


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


async def test_the_resolved_address_is_asked_in_the_name_of_the_host() -> None:
    async with host(response(b"picture")) as (port, asked):
        data = await fetcher(port).fetch(f"http://pictures.example:{port}/a%20b.png?size=2#part", LIMITS)
    assert data == b"picture"
    assert asked[0].startswith(b"GET /a%20b.png?size=2 HTTP/1.1\r\n")
    assert f"host: pictures.example:{port}\r\n".encode() in asked[0].lower()


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/a.png",
        "http://pictures.example.evil.example/a.png",
        "http://pictures.example:1/a.png",
        "http://somebody:secret@pictures.example/a.png",
        "ftp://pictures.example/a.png",
        "http:///a.png",
        "http://[::1/a.png",
        "http://pictures.example:99999/a.png",
    ],
)
async def test_only_allowed_hosts_are_asked(url: str) -> None:
    with pytest.raises(ApiError) as refused:
        await UrlFetcher(["pictures.example"]).fetch(url, LIMITS)
    assert (refused.value.status, refused.value.code) == (400, "bad_image")


async def test_nothing_is_fetched_by_default() -> None:
    with pytest.raises(ApiError, match="VISAVIS_IMAGE_HOSTS"):
        await UrlFetcher().fetch("https://pictures.example/a.png", LIMITS)


async def test_a_star_stands_for_what_is_below_a_name() -> None:
    async def nowhere(name: str, _: int) -> Sequence[str]:
        return ["10.0.0.1"]

    fetcher = UrlFetcher(["*.example.org"], resolve=nowhere)
    with pytest.raises(ApiError, match="no public address"):
        await fetcher.fetch("https://a.example.org/x.png", LIMITS)
    with pytest.raises(ApiError, match="not fetched from"):
        await fetcher.fetch("https://example.org/x.png", LIMITS)
    with pytest.raises(ApiError, match="not fetched from"):
        await fetcher.fetch("https://evilexample.org/x.png", LIMITS)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::127.0.0.1",
    ],
)  # fmt: skip
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


async def test_a_name_with_one_private_address_is_refused_before_anybody_is_asked() -> None:
    async def resolve(name: str, _: int) -> Sequence[str]:
        return ["93.184.215.14", "127.0.0.1"]

    async with host(response(b"picture")) as (port, asked):
        with pytest.raises(ApiError, match="no public address"):
            await UrlFetcher([f"pictures.example:{port}"], resolve=resolve).fetch(
                f"http://pictures.example:{port}/", LIMITS
            )
    assert asked == []


@pytest.mark.parametrize(
    "answer",
    [
        response(b"", "Location: http://127.0.0.1/", status="302 Found"),
        response(b"no", status="404 Not Found"),
        response(b"\x1f\x8b", "Content-Encoding: gzip"),
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_redirects_errors_and_compression_are_refused(answer: bytes) -> None:
    async with host(answer) as (port, asked):
        with pytest.raises(ApiError) as refused:
            await fetcher(port).fetch(f"http://pictures.example:{port}/", LIMITS)
    assert refused.value.code == "bad_image"
    assert len(asked) == 1


async def test_an_endless_body_is_cut_at_the_limit() -> None:
    async with host(b"HTTP/1.1 200 OK\r\n\r\n", endless=b"x" * 100) as (port, _):
        with pytest.raises(ImageTooLarge):
            await fetcher(port).fetch(f"http://pictures.example:{port}/", LIMITS)


async def test_a_host_that_says_nothing_is_left() -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ApiError, match="did not send"):
            await fetcher(port, timeout_s=0.2).fetch(f"http://pictures.example:{port}/", LIMITS)
        release.set()
