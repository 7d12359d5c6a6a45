"""Discord's gateway: hello, heartbeats, identify, resume with replay, op 7 and 9, intents, shards, compression."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import WSCloseCode, WSMsgType, web

from discord_standin import platform as stage
from discord_standin import shapes
from discord_standin.platform import Platform
from discord_standin.rules import Json

DISPATCH, HEARTBEAT, IDENTIFY, PRESENCE, RESUME, RECONNECT, INVALID, HELLO, ACK = 0, 1, 2, 3, 6, 7, 9, 10, 11
SENDABLE = {HEARTBEAT, IDENTIFY, PRESENCE, 4, RESUME, 8, 31}
MOST_A_MINUTE = 120
PATIENCE_S = 40


class Closed(Exception):
    """The gateway ends a connection with this code."""


@dataclass
class Session:
    """What one identified client has been sent; it outlives its connection."""

    id: str
    intents: int
    shard: tuple[int, int]
    sent: list[Json] = field(default_factory=list)
    connection: Connection | None = None

    def dispatch(self, event: str, data: Json) -> None:
        """Number an event and send it, now or after the next resume."""
        frame = {"op": DISPATCH, "s": len(self.sent) + 1, "t": event, "d": data}
        self.sent.append(frame)
        if self.connection is not None:
            self.connection.send(frame)


class Gateway:
    """All sessions of one platform. `refuse_resume`: sessions are forgotten, as after a long outage."""

    def __init__(self, platform: Platform) -> None:
        self.sessions: dict[str, Session] = {}
        self.identified = 0
        self.resumed = 0
        self.connections: set[Connection] = set()
        self.is_down = False
        self._platform = platform
        platform.listeners.append(self._tell)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.is_down:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse(max_msg_size=4096, autoping=True)
        await socket.prepare(request)
        if request.query.get("v") != "10" or request.query.get("encoding") != "json":
            await socket.close(code=4012)
            return socket
        connection = Connection(self, self._platform, socket, compressor(request.query.get("compress")))
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
        return socket

    async def until_listening(self, count: int = 1) -> None:
        """Wait until so many sessions are connected and ready."""
        async with asyncio.timeout(PATIENCE_S):
            while sum(one.connection is not None for one in self.sessions.values()) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def reconnect_all(self) -> None:
        """Op 7: clients are to come back and resume."""
        for connection in list(self.connections):
            connection.send({"op": RECONNECT, "d": None})

    async def invalidate_all(self, *, resumable: bool = False) -> None:
        """Op 9: sessions have ended."""
        for connection in list(self.connections):
            if not resumable and connection.session is not None:
                self.sessions.pop(connection.session.id, None)
            connection.send({"op": INVALID, "d": resumable})

    async def drop_all(self, code: int = 1001) -> None:
        for connection in list(self.connections):
            await connection.close(code)

    def _tell(self, event: str, data: Json, channel: Json) -> None:
        guild = data.get("guild_id") or channel.get("guild_id")
        for session in list(self.sessions.values()):
            number, count = session.shard
            owner = (int(guild) >> 22) % count if guild else 0
            if owner != number:
                continue
            seen = _seen(event, data, guild, session.intents, self._platform.bot["id"])
            if seen is not None:
                session.dispatch(event, seen)


def _seen(event: str, data: Json, guild: str | None, intents: int, bot: str) -> Json | None:
    """An event as a session with these intents gets it."""
    if not event.startswith("MESSAGE_"):
        return data
    if not intents & (stage.GUILD_MESSAGES if guild else stage.DIRECT_MESSAGES):
        return None
    named = data["author"]["id"] == bot or any(one["id"] == bot for one in data["mentions"])
    if guild and not named and not intents & stage.MESSAGE_CONTENT:
        data = data | {"content": "", "attachments": [], "embeds": [], "components": []}
    return data | ({"guild_id": guild, "member": shapes.member()} if guild else {})


@dataclass(eq=False)
class Connection:
    """One socket of a client."""

    gateway: Gateway
    platform: Platform
    socket: web.WebSocketResponse
    compress: Callable[[bytes], bytes] | None
    session: Session | None = None
    closing: int | None = None
    _outbox: asyncio.Queue[Json] = field(default_factory=asyncio.Queue)
    _frames: list[float] = field(default_factory=list)
    _heard: float = field(default_factory=time.monotonic)

    def send(self, frame: Json) -> None:
        self._outbox.put_nowait({"t": None, "s": None, "d": None} | frame)

    async def close(self, code: int) -> None:
        self.closing = code
        await self.socket.close(code=code)

    async def run(self) -> None:
        """Until the client or a rule ends it."""
        self.send({"op": HELLO, "d": {"heartbeat_interval": round(self.platform.times.heartbeat_s * 1000)}})
        tasks = [asyncio.create_task(one) for one in (self._write(), self._watch())]
        try:
            async for message in self.socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    self._receive(message.data)
        except Closed as end:
            await self.socket.close(code=end.args[0])
        finally:
            for task in tasks:
                task.cancel()
            self._leave()

    def _leave(self) -> None:
        """A client that closed with 1000 or 1001 has ended its session."""
        session = self.session
        if session is None or session.connection is not self:
            return
        session.connection = None
        if self.closing is None and self.socket.close_code in (WSCloseCode.OK, WSCloseCode.GOING_AWAY):
            self.gateway.sessions.pop(session.id, None)

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            while True:
                frame = await self._outbox.get()
                text = json.dumps(frame)
                if self.compress is None:
                    await self.socket.send_str(text)
                else:
                    await self.socket.send_bytes(self.compress(text.encode()))

    async def _watch(self) -> None:
        """Who sends no heartbeat is gone."""
        while time.monotonic() < self._heard + 2 * self.platform.times.heartbeat_s:  # noqa: ASYNC110
            await asyncio.sleep(self.platform.times.heartbeat_s / 4)
        self.platform.complain("a client sent no heartbeat")
        await self.close(4009)

    def _receive(self, text: str | bytes) -> None:
        now = time.monotonic()
        self._frames = [at for at in self._frames if now - at < 60] + [now]
        if len(self._frames) > MOST_A_MINUTE:
            raise Closed(4008)
        try:
            frame = json.loads(text)
            op, data = frame["op"], frame["d"]
        except (ValueError, KeyError, TypeError):
            raise Closed(4002) from None
        if op not in SENDABLE:
            raise Closed(4001)
        if op == HEARTBEAT:
            self._heard = now
            return self.send({"op": ACK})
        if op == IDENTIFY:
            return self._identify(data)
        if op == RESUME:
            return self._resume(data)
        if self.session is None:
            raise Closed(4003)

    def _identify(self, data: Json) -> None:
        if self.session is not None:
            raise Closed(4005)
        if data.get("token") != self.platform.token:
            raise Closed(4004)
        intents, shard = data.get("intents"), data.get("shard") or [0, 1]
        if not isinstance(intents, int) or intents & ~stage.ALL_INTENTS:
            raise Closed(4013)
        if intents & stage.PRIVILEGED & ~self.platform.portal_intents:
            raise Closed(4014)
        if not 0 <= shard[0] < shard[1]:
            raise Closed(4010)
        self.gateway.identified += 1
        self.session = session = Session(secrets.token_hex(8), intents, (shard[0], shard[1]))
        self.gateway.sessions[session.id] = session
        session.connection = self
        guilds = [one for one in self.platform.guilds.values() if (int(one["id"]) >> 22) % shard[1] == shard[0]]
        session.dispatch("READY", self._ready(session, guilds))
        for guild in guilds if intents & stage.GUILDS else ():
            session.dispatch("GUILD_CREATE", guild)

    def _ready(self, session: Session, guilds: list[Json]) -> Json:
        about: Json = {"v": 10, "user": self.platform.me, "session_id": session.id, "shard": list(session.shard)}
        about["guilds"] = [{"id": guild["id"], "unavailable": True} for guild in guilds]
        about["resume_gateway_url"] = self.platform.url.replace("http", "ws") + "/gateway/"
        about["application"] = {"id": self.platform.application["id"], "flags": 0}
        return about | {"private_channels": [], "user_settings": {}, "relationships": [], "presences": []}

    def _resume(self, data: Json) -> None:
        if data.get("token") != self.platform.token:
            raise Closed(4004)
        session = self.gateway.sessions.get(str(data.get("session_id")))
        if session is None:
            return self.send({"op": INVALID, "d": False})
        if not 0 <= data["seq"] <= len(session.sent):
            raise Closed(4007)
        self.gateway.resumed += 1
        self.session, session.connection = session, self
        for frame in session.sent[data["seq"] :]:
            self.send(frame)
        session.dispatch("RESUMED", {})


def compressor(kind: str | None) -> Callable[[bytes], bytes] | None:
    """A stream over all frames of a connection."""
    if kind == "zlib-stream":
        deflate = zlib.compressobj()
        return lambda data: deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
    if kind == "zstd-stream":
        import zstandard  # only a client that has it asks for it

        stream = zstandard.ZstdCompressor().compressobj()
        return lambda data: stream.compress(data) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return None
