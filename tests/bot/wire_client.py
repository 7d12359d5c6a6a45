"""A client written from docs/protocol.md alone, with no line of the product; it checks every rule on what it sees."""

import asyncio
import json
import random
import uuid
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

Frame = dict[str, Any]
FINAL = ("turn.completed", "turn.failed", "turn.cancelled")
RETRIED = ("busy", "store_unavailable", "unknown_turn")
SILENCE_S = 60


class WireClient:
    """One person's tab: talks to any of the servers at `ports`, and takes up where it was when a connection is lost."""

    def __init__(self, ports: Sequence[int], chance: random.Random | None = None) -> None:
        self._ports = ports
        self._chance = chance or random.Random(0)
        self.session: str | None = None
        self.ready: Frame = {}
        self.seen: dict[str, tuple[int, int]] = {}
        self.texts: dict[str, str] = {}
        self.finals: dict[str, Frame] = {}
        self.problems: list[object] = []
        self._socket: ClientConnection | None = None

    async def connect(self, port: int | None = None, **hello: Any) -> Frame:
        """Say hello until somebody is ready."""
        hello = {"type": "hello", "version": 1} | ({"session": self.session} if self.session else {}) | hello
        while True:
            address = f"ws://127.0.0.1:{port or self._chance.choice(self._ports)}/chat"
            try:
                self._socket = await connect(address, compression=None, proxy=None, open_timeout=10, max_size=2**24)
                await self.send(**hello)
                frame = await self.receive()
                if frame["type"] == "ready":
                    self.session, self.ready = frame["session"], frame
                    return frame
                if frame.get("code") not in RETRIED:
                    self.problems.append(frame)
            except (OSError, WebSocketException, TimeoutError):
                pass
            await asyncio.sleep(0.2)

    async def send(self, **fields: Any) -> None:
        assert self._socket is not None
        await self._socket.send(json.dumps(fields))

    async def receive(self) -> Frame:
        assert self._socket is not None
        frame: Frame = json.loads(await asyncio.wait_for(self._socket.recv(), SILENCE_S))
        return frame

    async def until(self, name: str) -> Frame:
        """Frames up to the first of that type."""
        while True:
            frame = await self.receive()
            self.take(frame)
            if frame["type"] == name:
                return frame

    def drop(self) -> None:
        """Lose the connection without a word."""
        assert self._socket is not None
        self._socket.transport.abort()

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def closed(self) -> int:
        """The code with which the server closes the socket, whatever comes before."""
        assert self._socket is not None
        try:
            while True:
                self.take(await self.receive())
        except ConnectionClosed:
            return self._socket.close_code or 0

    async def show(self, picture: bytes) -> str:
        """Send a picture; its id."""
        assert self._socket is not None
        await self.send(type="image", id=str(uuid.uuid4()), bytes=len(picture))
        await self._socket.send(picture)
        return str((await self.until("image.stored"))["image"])

    async def ask(self, text: str, *, drops: float = 0.0, images: Sequence[str] = ()) -> Frame:
        """Send a turn and follow it to its end, over connections that are lost with the chance `drops` a frame."""
        turn, is_sent = str(uuid.uuid4()), False
        while turn not in self.finals:
            try:
                if not is_sent:
                    await self.send(type="turn", id=turn, text=text, images=images)
                    is_sent = True
                frame = await self.receive()
                self.take(frame)
                if frame.get("code") in RETRIED:
                    is_sent = False
                    await asyncio.sleep(0.3)
                if self._chance.random() < drops:
                    self.drop()
            except (ConnectionClosed, OSError):
                is_sent = turn in self.seen
                await self.connect(**self.resume(turn))
        return self.finals[turn]

    def resume(self, turn: str) -> Frame:
        if turn not in self.seen:
            return {}
        attempt, seq = self.seen[turn]
        return {"resume": {"turn": turn, "attempt": attempt, "seq": seq}}

    def take(self, frame: Frame) -> None:
        """Check a frame against the rules and keep what it tells."""
        if frame["type"] == "error" and frame["code"] not in RETRIED:
            self.problems.append(frame)
        if not frame["type"].startswith("turn."):
            return
        turn, place = frame["turn"], (frame["attempt"], frame["seq"])
        attempt, seq = self.seen.get(turn, (0, 0))
        if place <= (attempt, seq):
            return
        if place[1] != (seq + 1 if place[0] == attempt else 1) or turn in self.finals:
            self.problems.append(("lost, doubled or out of order", (attempt, seq), frame))
        self.seen[turn] = place
        self._read(turn, frame)

    def _read(self, turn: str, frame: Frame) -> None:
        if frame["type"] == "turn.restarted":
            self.texts[turn] = ""
        if frame["type"] == "turn.delta":
            self.texts[turn] = self.texts.get(turn, "") + frame["text"]
        if frame["type"] in FINAL:
            self.finals[turn] = frame
            if frame["type"] != "turn.failed" and frame["text"] != self.texts.get(turn, ""):
                self.problems.append(("the deltas are not the text", self.texts.get(turn), frame))

    def compare(self, turns: Sequence[Frame]) -> None:
        """What was seen against what the history says."""
        told = {turn["id"]: (turn["status"], turn["text"]) for turn in turns if turn["role"] == "assistant"}
        seen = {id: (end["type"].removeprefix("turn."), end.get("text", "")) for id, end in self.finals.items()}
        if told != seen:
            self.problems.append(("history", told, "seen", seen))
