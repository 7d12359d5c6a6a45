"""What a conversation needs of a websocket, and how one is ended; any framework's fits behind the protocol."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Protocol

_CLOSE_TIMEOUT_S = 2.0


class SocketClosed(Exception):
    """The other side has left."""


class Socket(Protocol):
    """What a connection needs of a websocket; each method raises `SocketClosed` when the other side has left."""

    @property
    def address(self) -> str:
        """Whom to count this connection for; empty for nobody."""
        ...

    async def receive(self) -> str | bytes: ...

    async def send(self, text: str) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class CloseCode(IntEnum):
    """Why this side closes a socket."""

    POLICY = 1008
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013


class Closing(Exception):
    """This side ends the connection."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Patience:
    """Calls `give_up` when a frame has been on its way for `limit_s`: one timer for all of a socket, since one for
    each would cost as much as sending it."""

    def __init__(self, limit_s: float, give_up: Callable[[], object]) -> None:
        self._limit_s = limit_s
        self._give_up = give_up
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._since = time.monotonic()
        if self._timer is None:
            self._look_in(self._limit_s)

    def __exit__(self, *error: object) -> None:
        self._since = None

    def end(self) -> None:
        """Look no more, unless another frame comes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return
        left_s = self._since + self._limit_s - time.monotonic()
        if left_s <= 0:
            self._give_up()
        else:
            self._look_in(left_s)


async def close_quietly(socket: Socket, code: CloseCode, reason: str) -> None:
    """Close, whether or not the other side still listens."""
    with suppress(SocketClosed, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await socket.close(code, reason)
