"""Small questions asked of a neighbour process over a socket: does it answer?

Holds the two probes that the supervisor needs (a Redis PING, an HTTP GET) on bare asyncio, so that watching costs no
client library. Knows nothing of what is asked about.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

Address = Path | tuple[str, int]


async def ping(address: Address, *, timeout_s: float = 2.0) -> str | None:
    """What a Redis or Valkey answers to PING (`PONG`, `LOADING ...`, empty when too busy); None when nobody listens."""
    answer = await _exchange(address, b"PING\r\n", until=b"\r\n", timeout_s=timeout_s)
    return None if answer is None else answer[1:].decode("utf-8", "replace").strip()


async def http_get(address: Address, path: str, *, timeout_s: float = 5.0) -> tuple[int, bytes] | None:
    """Status and body of a small HTTP resource, None when nobody answers."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    answer = await _exchange(address, request, until=None, timeout_s=timeout_s)
    if not answer or not answer.startswith(b"HTTP/1."):
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head[9:12]), body


async def _exchange(address: Address, request: bytes, *, until: bytes | None, timeout_s: float) -> bytes | None:
    """None when nobody listens, empty when the answer does not come whole in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _open(address)
    except (OSError, TimeoutError):
        return None
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(request)
            return await (reader.readuntil(until) if until else reader.read(-1))
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


async def _open(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, Path):
        return await asyncio.open_unix_connection(address)
    return await asyncio.open_connection(*address)


def address_of(url: str) -> Address:
    """Where a `unix:///path.sock` or `http://host:port/...` address listens."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return Path(parts.path)
    return (parts.hostname or "127.0.0.1", parts.port or 80)
