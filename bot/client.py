"""Async client of the wire, with resume: what `visavis chat --url` and other Python programs talk to a server with.

    async with ChatClient("http://127.0.0.1:8080") as client:
        image = await client.add_image(data)
        async for event in client.ask("What is this?", [image]): ...

A lost connection is made again and the running answer goes on where it stopped. Knows no terminal.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from visavis.bot.settings import is_loopback
from visavis.dialogue.commands import CommandName
from visavis.dialogue.errors import DialogueError, ErrorCode
from visavis.dialogue.events import Event
from visavis.dialogue.wire import FrameName, parse_event
from visavis.dialogue.wire_fields import VERSION

LARGEST_FRAME = 16 * 2**20
FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0
HELLO_TIMEOUT_S = 20.0
Frame = dict[str, Any]


class ServerRefused(DialogueError):
    """The server answered with an error; `code` is one of the protocol's."""

    def __init__(self, code: str, message: str, *, id: str | None = None) -> None:
        super().__init__(message, id=id)
        self.code = ErrorCode(code) if code in set(ErrorCode) else ErrorCode.INTERNAL_ERROR


class ServerUnreachable(ConnectionError):
    """Nobody answers at the address, or not as a visavis server would; the message is one sentence."""


@dataclass(frozen=True)
class Seen:
    """The last event of a turn that arrived."""

    attempt: int = 0
    seq: int = 0


class ChatClient:
    """One conversation with one server. Use it from one task at a time, except for `cancel`."""

    def __init__(self, url: str, *, session: str | None = None, patience_s: float = 30.0) -> None:
        self.url = _socket_url(url)
        self.session = session
        self.model = ""
        self.turns: list[Frame] = []
        self._patience_s = patience_s
        self._largest_image = 0
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        """Connect and say hello.

        Raises:
            ServerUnreachable, ServerRefused (an unknown session, another version).
        """
        await self._connect(None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open_socket.close()

    async def add_image(self, data: bytes, mime: str = "application/octet-stream") -> str:
        """Upload a picture; gives the sha256 by which turns name it.

        Raises:
            ServerRefused: not a picture, too large, ...
        """
        request = str(uuid.uuid4())
        command = {"type": CommandName.IMAGE, "id": request, "mime": mime, "bytes": len(data)}
        stored = await self._request(command, FrameName.IMAGE_STORED, data)
        return str(stored["image"])

    async def ask(
        self, text: str, images: Sequence[str] = (), *, turn: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """Send a turn and yield its events until the last one, over lost connections too.

        Every event comes once and in order. Leaving early does not stop the turn: `cancel` does.

        Raises:
            ServerRefused: the turn was not accepted. ServerUnreachable: the server did not come back in time.
        """
        turn = turn or str(uuid.uuid4())
        command = {"type": CommandName.TURN, "id": turn, "text": text, "images": list(images)}
        seen, is_sent, was_sent_again = Seen(), False, False
        while True:
            try:
                if not is_sent:
                    await self._send(command)
                    is_sent = True
                event = _event(await self._receive(), turn)
            except ConnectionClosed:
                is_sent = seen != Seen()
                await self._reconnect({"turn": turn, "attempt": seen.attempt, "seq": seen.seq} if is_sent else None)
                continue
            except ServerRefused as refusal:
                if refusal.code == ErrorCode.REPLAY_EXPIRED:
                    continue  # the end of the turn follows
                if refusal.code != ErrorCode.UNKNOWN_TURN or was_sent_again:
                    raise
                is_sent, was_sent_again = False, True
                continue
            if event is None or (event.attempt, event.seq) <= (seen.attempt, seen.seq):
                continue
            seen = Seen(event.attempt, event.seq)
            yield event
            if event.is_final:
                return

    async def cancel(self, turn: str) -> None:
        """Ask the server to stop a turn; `ask` then yields `TurnCancelled`."""
        await self._send({"type": CommandName.CANCEL, "turn": turn})

    async def forget(self) -> Frame:
        """Delete the conversation; gives the receipt."""
        return dict((await self._request({"type": CommandName.FORGET}, FrameName.FORGOTTEN))["receipt"])

    @property
    def _open_socket(self) -> ClientConnection:
        assert self._socket is not None, "use `async with ChatClient(...)`"
        return self._socket

    async def _request(self, command: Frame, answer: FrameName, data: bytes = b"") -> Frame:
        """Send a command and await its answer; once more when the connection was lost meanwhile."""
        try:
            return await self._exchange(command, answer, data)
        except ConnectionClosed:
            await self._reconnect()
        try:
            return await self._exchange(command, answer, data)
        except ConnectionClosed as error:
            raise ServerUnreachable(f"The connection to {self.url} was lost twice.") from error

    async def _exchange(self, command: Frame, answer: FrameName, data: bytes) -> Frame:
        await self._send(command)
        if 0 < len(data) <= self._largest_image:  # one that is too large is only announced, and refused
            await self._open_socket.send(data)
        while True:
            frame = await self._receive()
            if frame["type"] == answer and frame.get("id") == command.get("id"):
                return frame
            _raise_if_error(frame, command.get("id"))

    async def _connect(self, resume: Frame | None) -> None:
        hello = {"type": CommandName.HELLO, "version": VERSION, "session": self.session, "resume": resume}
        try:
            proxy: Literal[True] | None = None if is_loopback(urlsplit(self.url).hostname or "") else True
            self._socket = await connect(self.url, compression=None, max_size=LARGEST_FRAME, proxy=proxy)
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await self._send({name: value for name, value in hello.items() if value is not None})
                frame = await self._receive()
            _raise_if_error(frame, None)
            self.session, self.model, self.turns = frame["session"], frame["model"], frame["turns"]
            self._largest_image = frame["limits"]["image_bytes"]
        except (OSError, WebSocketException, ValueError, OverflowError, KeyError, TypeError) as error:
            raise ServerUnreachable(f"No visavis server answers at {self.url} ({error}).") from error

    async def _reconnect(self, resume: Frame | None = None) -> None:
        delay = FIRST_DELAY_S
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return await self._connect(resume)
            except ServerUnreachable as error:
                if time.monotonic() + delay > deadline:
                    raise ServerUnreachable(f"The connection to {self.url} was lost and did not come back.") from error
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_S)

    async def _send(self, frame: Frame) -> None:
        await self._open_socket.send(json.dumps(frame))

    async def _receive(self) -> Frame:
        frame: Frame = json.loads(await self._open_socket.recv())
        return frame


def _event(frame: Frame, turn: str) -> Event | None:
    """The event of that turn in a frame; None for frames of something else."""
    if frame["type"] in set(FrameName):
        _raise_if_error(frame, turn)
        return None
    event = parse_event(json.dumps(frame))
    return event if event.turn == turn else None


def _raise_if_error(frame: Frame, request: str | None) -> None:
    if frame["type"] == FrameName.ERROR and frame.get("id") in (None, request):
        raise ServerRefused(frame["code"], frame["message"], id=frame.get("id"))


def _socket_url(url: str) -> str:
    """`host:port`, `http(s)://host[:port][/path]` or `ws(s)://...` as the address of the chat socket."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError:
        return url  # connecting says what is wrong with it
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/")
    return urlunsplit((scheme, parts.netloc, path if path.endswith("/chat") else f"{path}/chat", "", ""))
