"""What a conversation needs of a websocket, and how one is ended; any framework's fits behind the protocol."""

import asyncio
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


async def close_quietly(socket: Socket, code: CloseCode, reason: str) -> None:
    """Close, whether or not the other side still listens."""
    with suppress(SocketClosed, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await socket.close(code, reason)
