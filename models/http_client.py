"""HTTP/1.1 with one server, by h11 over asyncio's streams, for answers that come in many small pieces: each costs a
fraction of what a general client spends on it. Connections are kept, for each event loop its own. Knows no messages.
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

import h11

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


class Exchange:
    """A connection, and the answer that comes on it: its `status`, then pieces of its body by iteration."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.status = 0
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self._idle_since = 0.0
        self._asked_at = math.inf
        self._watch: asyncio.TimerHandle | None = None

    async def ask(self, head: h11.Request, body: bytes) -> None:
        """Send a request and wait for the status of the answer."""
        self._look()
        parts = [self._http.send(event) or b"" for event in (head, h11.Data(data=body), h11.EndOfMessage())]
        self._writer.write(b"".join(parts))
        with contextlib.suppress(OSError):  # a server that has refused the rest has said why
            async with asyncio.timeout(READ_TIMEOUT_S):
                await self._writer.drain()
        while not isinstance(event := await self._next_event(), h11.Response):
            pass
        self.status = event.status_code

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if isinstance(event := await self._next_event(), h11.Data):
            return bytes(event.data)
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self])

    async def finish(self) -> None:
        """Take the end of an answer of which nothing more is wanted: only then can the connection be used again."""
        with contextlib.suppress(OSError, h11.RemoteProtocolError):  # a timeout is an OSError
            async with asyncio.timeout(FINISH_TIMEOUT_S):
                await self.read()

    def renew(self) -> bool:
        """Be ready for another request; False when the connection cannot be."""
        self._look_no_more()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._idle_since = time.monotonic()
        return True

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

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._asked_at = time.monotonic()
            self._http.receive_data(await self._reader.read(_AT_ONCE))
            self._asked_at = math.inf
        return event

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


class HttpClient:
    """Speaks to the server at `http(s)://host:port/path` or, below the path `/v1`, at `unix:///path/to.sock`.

    With `keep` connections are used again, and somebody has to call `aclose` before the event loop ends.

    Raises:
        Unreachable. TimeoutError: nothing came for as long as `READ_TIMEOUT_S`. OSError, h11.RemoteProtocolError: the
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
            headers = [
                ("Host", self._authority),
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                *more.items(),
            ]
            await exchange.ask(h11.Request(method=method, target=f"{self._path}/{path}", headers=headers), body)
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
