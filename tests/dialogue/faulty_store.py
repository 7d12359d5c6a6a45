"""A proxy in front of a real store, which a test lets answer with errors, stall, or be gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import hiredis


class FaultyStore:
    """`error`: what every command is answered with, instead of being done. `stalls`: nothing comes back any more."""

    def __init__(self, upstream: str, path: Path) -> None:
        self.url = f"unix://{path}"
        self.error: str | None = None
        self.refused = 0
        self._upstream = upstream
        self._path = path
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def stall(self) -> None:
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def drop(self) -> None:
        """Lose every connection."""
        for writer in self._writers:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["FaultyStore"]:
        server = await asyncio.start_unix_server(self._connect, self._path)
        try:
            yield self
        finally:
            server.close()
            self.drop()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        below, down = await asyncio.open_unix_connection(self._upstream.removeprefix("unix://"))
        self._writers |= {writer, down}
        requests = hiredis.Reader()
        answers = asyncio.create_task(self._pass_back(below, writer))
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                requests.feed(data)
                if self.error is None:
                    down.write(data)
                while requests.gets() is not False:
                    if self.error is not None:
                        self.refused += 1
                        writer.write(f"-{self.error}\r\n".encode())
        answers.cancel()
        for one in (writer, down):
            self._writers.discard(one)
            one.transport.abort()

    async def _pass_back(self, below: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await below.read(2**16):
                await self._flows.wait()
                writer.write(data)
