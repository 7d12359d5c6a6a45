"""HTTP/1.1 with one server, parsed by httptools over asyncio's streams for answers that come in many small pieces: each
costs a fraction of what a general client needs for it. Connections are kept, for each event loop its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httptools

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 300.0  # a question may have to wait for others
FINISH_TIMEOUT_S = 1.0
KEEPALIVE_S = 30.0  # shorter than the server's, so that it is never the server that closes first
MOST_IDLE = 32
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_AT_ONCE = 64 * 1024
_UNIX = "unix://"


class Unreachable(ConnectionError):
    """Nobody takes a connection at the address."""


class BrokenAnswer(ConnectionError):
    """The connection broke off, or what came is not HTTP."""


class _Answer:
    """What the parser has read of an answer; its methods are the parser's callbacks."""

    def __init__(self) -> None:
        self.status = 0
        self.pieces: list[bytes] = []
        self.over = False
        self.may_go_on = False
        self._is_framed = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Raises BrokenAnswer, also at the end of the connection (no data) if the answer's end is to come before."""
        try:
            if data:
                self._parser.feed_data(data)
                return
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.may_go_on = False
            if self.over:  # it is all there, whatever follows
                return
            raise BrokenAnswer(str(error)) from error
        if self._is_framed or not self.status:
            raise BrokenAnswer("the connection ended before the answer")
        self.over = True

    def on_message_begin(self) -> None:
        self.may_go_on = False  # twice, if the server says more than it was asked

    def on_header(self, name: bytes, value: bytes) -> None:
        self._is_framed |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self.status = status if status >= 200 else 0  # the real one comes after it

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        if self.status:
            self.may_go_on = not self.over and self._parser.should_keep_alive()
            self.over = True


class Exchange:
    """A connection, and the answer that comes on it: its `status`, then pieces of its body by iteration."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = _Answer()
        self._idle_since = 0.0
        self._asked_at = math.inf
        self._watch: asyncio.TimerHandle | None = None

    @property
    def status(self) -> int:
        """Of the answer, as HTTP has it."""
        return self._answer.status

    async def ask(self, head: bytes, body: bytes) -> None:
        """Send a request and wait for the status of the answer."""
        self._look()
        self._answer = _Answer()
        self._writer.write(head + body)
        if self._writer.transport.get_write_buffer_size():  # a question has gone at once, a picture has not
            with contextlib.suppress(OSError):  # a server that has refused the rest has said why
                async with asyncio.timeout(READ_TIMEOUT_S):
                    await self._writer.drain()
        while not self.status:
            await self._receive()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._answer.pieces:
            if self._answer.over:
                raise StopAsyncIteration
            await self._receive()
        come, self._answer.pieces = self._answer.pieces, []
        return b"".join(come)

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self])

    async def finish(self) -> None:
        """Take the end of an answer of which nothing more is wanted: only then can the connection be used again."""
        if self._answer.over and not self._answer.pieces:
            return  # as nearly always: a timer would cost more than the rest
        with contextlib.suppress(OSError):  # so are a timeout and a broken answer
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                await self.read()

    def renew(self) -> bool:
        """Be ready for another request; False when the connection cannot be."""
        self._look_no_more()
        self._idle_since = time.monotonic()
        return self._answer.may_go_on and not self._answer.pieces

    @property
    def is_fresh(self) -> bool:
        """Whether the server is still there, as far as is known."""
        is_open = not (self._reader.at_eof() or self._writer.is_closing())
        return is_open and time.monotonic() - self._idle_since < KEEPALIVE_S

    def close(self) -> None:
        """Leave; the server stops its work."""
        self._look_no_more()
        self._writer.transport.abort()

    async def aclose(self) -> None:
        """The same; returns when it is done."""
        self.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _receive(self) -> None:
        self._asked_at = time.monotonic()
        data = await self._reader.read(_AT_ONCE)
        self._asked_at = math.inf
        self._answer.feed(data)

    def _look(self) -> None:
        """See now and then how long a piece is waited for: a timer for each would cost as much as reading it."""
        waited_s = max(0.0, time.monotonic() - self._asked_at)
        if waited_s >= READ_TIMEOUT_S:
            self._reader.set_exception(TimeoutError())
        else:
            self._watch = asyncio.get_running_loop().call_later(READ_TIMEOUT_S - waited_s, self._look)

    def _look_no_more(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The request line and the headers (RFC 9112).

    Raises:
        ValueError: something in them would end a line.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if not all(line.isascii() and line.isprintable() for line in lines) or " " in target:
        raise ValueError("a request's head has only printable ASCII characters, and its target no space")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class HttpClient:
    """Speaks to the server at `http(s)://host:port/path` or, below the path `/v1`, at `unix:///path/to.sock`.

    With `keep` connections are used again, and somebody has to call `aclose` before the event loop ends.

    Raises:
        Unreachable. TimeoutError: nothing came for as long as `READ_TIMEOUT_S`. BrokenAnswer, or another OSError: the
        connection broke off, or the server does not speak HTTP.
    """

    def __init__(self, base_url: str, *, keep: bool = False) -> None:
        self._keep = keep
        self._socket = base_url.removeprefix(_UNIX) if base_url.startswith(_UNIX) else None
        parts = urlsplit(base_url if self._socket is None else "http://localhost/v1")
        self._path = parts.path.rstrip("/")
        self._authority = parts.netloc.rpartition("@")[2]
        self._place = (parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80))
        self._secure = parts.scheme == "https"
        self._idle: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Exchange]] = WeakKeyDictionary()

    @contextlib.asynccontextmanager
    async def ask(
        self,
        method: str,
        path: str,
        body: bytes,
        kind: str = "application/json",
        *,
        more: Mapping[str, str] = NO_HEADERS,
    ) -> AsyncIterator[Exchange]:
        """A request, with `more` headers, and its answer; leaving before its end closes the connection."""
        idle = self._idle.setdefault(asyncio.get_running_loop(), [])
        exchange = await self._connection(idle)
        try:
            headers = {"Host": self._authority, "Content-Type": kind, "Content-Length": str(len(body)), **more}
            await exchange.ask(request_head(method, f"{self._path}/{path}", headers), body)
            yield exchange
        finally:
            if self._keep and len(idle) < MOST_IDLE and exchange.renew():
                idle.append(exchange)
            else:
                exchange.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        for exchange in self._idle.pop(asyncio.get_running_loop(), []):
            await exchange.aclose()

    async def _connection(self, idle: list[Exchange]) -> Exchange:
        while idle:
            if (exchange := idle.pop()).is_fresh:
                return exchange
            exchange.close()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return Exchange(*await self._open())
        except OSError as error:
            raise Unreachable(str(error)) from error

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._socket is not None:
            return await asyncio.open_unix_connection(self._socket)
        context = ssl.create_default_context() if self._secure else None
        return await asyncio.open_connection(*self._place, ssl=context)
