"""A websocket by hand: sends whatever bytes a test wants, and reads frames as they come."""

import asyncio
import base64
import json
import os
import struct
from types import TracebackType
from typing import Any

TEXT, BINARY, CONTINUED, CLOSE, PING = 1, 2, 0, 8, 9
FIN, COMPRESSED = 0x80, 0x40
PATIENCE_S = 60


def frame(payload: bytes, opcode: int = TEXT, flags: int = FIN) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + struct.pack("!H", size) if size < 2**16 else b"\xff" + struct.pack("!Q", size)
    return bytes([flags | opcode]) + length + bytes(4) + payload


class RawSocket:
    """`async with RawSocket(url, offers=header)`: a connection after its handshake; `answer` is the server's head."""

    def __init__(self, url: str, *headers: str) -> None:
        self._address = url.removeprefix("http://").split(":")
        self._headers = headers
        self.answer = ""

    async def __aenter__(self) -> "RawSocket":
        host, port = self._address
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        key = base64.b64encode(os.urandom(16)).decode()
        head = ["GET /chat HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade", "Upgrade: websocket"]
        head += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *self._headers]
        self.writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        self.answer = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def say(self, **fields: Any) -> None:
        await self.send(frame(json.dumps(fields).encode()))

    async def receive(self) -> dict[str, Any] | int:
        """The next text frame's object, or the code with which the server closes."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                opcode, size = struct.unpack("!BB", await self.reader.readexactly(2))
                if size >= 126:
                    (size,) = struct.unpack(
                        "!H" if size == 126 else "!Q", await self.reader.readexactly(size * 6 - 754)
                    )
                payload = await self.reader.readexactly(size)
                if opcode & 15 == CLOSE:
                    return int(struct.unpack("!H", payload[:2])[0])
                if opcode & 15 == TEXT:
                    found: dict[str, Any] = json.loads(payload)
                    return found
