"""The state of a pretended Discord: who is there, what was said, what is open, and what it would complain of.

Knows no sockets: the gateway hears of events through `listeners`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from discord_standin import rules, shapes
from discord_standin.buckets import Buckets
from discord_standin.rules import Json, Refusal

GUILDS, GUILD_MEMBERS, PRESENCES = 1 << 0, 1 << 1, 1 << 8
GUILD_MESSAGES, DIRECT_MESSAGES, MESSAGE_CONTENT = 1 << 9, 1 << 12, 1 << 15
PRIVILEGED = GUILD_MEMBERS | PRESENCES | MESSAGE_CONTENT
ALL_INTENTS = (1 << 17) - 1 | (1 << 20) | (1 << 21) | (1 << 24) | (1 << 25)


@dataclass
class Times:
    """Discord's deadlines, which a test may shorten."""

    ack_s: float = 3.0
    token_s: float = 900.0
    link_s: float = 86_400.0
    heartbeat_s: float = 41.25


@dataclass
class Interaction:
    """Something a person did that wants an answer within `ack_s`."""

    id: str
    token: str
    channel: Json
    kind: int
    made: float
    acked: float | None = None
    original: str | None = None
    ephemeral: bool = False
    event: Json = field(default_factory=dict)


@dataclass
class Platform:
    times: Times = field(default_factory=Times)
    portal_intents: int = 0
    url: str = ""
    token: str = field(default_factory=lambda: f"MTA.{secrets.token_hex(6)}.{secrets.token_hex(12)}")
    buckets: Buckets = field(default_factory=Buckets)
    complaints: list[str] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)
    invalid_requests: int = 0
    tells_responses: bool = True
    old: set[str] = field(default_factory=set)
    requests: list[tuple[str, str]] = field(default_factory=list)
    commands: list[Json] = field(default_factory=list)
    channels: dict[str, Json] = field(default_factory=dict)
    guilds: dict[str, Json] = field(default_factory=dict)
    messages: dict[str, Json] = field(default_factory=dict)
    interactions: dict[str, Interaction] = field(default_factory=dict)
    webhook_messages: dict[str, str] = field(default_factory=dict)
    edits: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    denied: dict[str, int] = field(default_factory=dict)
    listeners: list[Callable[[str, Json, Json], None]] = field(default_factory=list)
    nonces: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bot = shapes.user("visavis", bot=True)
        self.me = self.bot | {"mfa_enabled": True, "verified": True, "locale": "en-US", "email": None, "bio": ""}
        self.owner = shapes.user("olga")
        self.application = shapes.application(shapes.snowflake(), self.bot, self.owner)
        self.secret = secrets.token_hex(8)

    def add_guild(self, name: str = "guild") -> Json:
        guild = shapes.guild(name, self.owner, self.bot)
        self.guilds[guild["id"]] = guild
        return guild

    def add_channel(self, kind: int = shapes.TEXT, guild: Json | None = None, parent: Json | None = None) -> Json:
        """A channel of a guild, a thread of a channel, or (`DM`) one with a person."""
        guild_id = guild["id"] if guild else parent["guild_id"] if parent else None
        channel = shapes.channel(kind, f"place-{len(self.channels)}", guild_id, parent["id"] if parent else None)
        self.channels[channel["id"]] = channel
        if guild_id is not None:
            self.guilds[guild_id]["threads" if kind == shapes.THREAD else "channels"].append(channel)
        return channel

    def find_channel(self, id: str, needs: int = shapes.VIEW) -> Json:
        """Raises `Refusal` unless the bot may do there what it wants to."""
        if id not in self.channels:
            raise Refusal(404, 10003, "Unknown Channel")
        if self.denied.get(id, 0) & shapes.VIEW:
            raise Refusal(403, 50001, "Missing Access")
        if self.denied.get(id, 0) & needs:
            raise Refusal(403, 50013, "Missing Permissions")
        return self.channels[id]

    def find_message(self, channel_id: str, id: str) -> Json:
        found = self.messages.get(id)
        if found is None or found["channel_id"] != channel_id:
            raise Refusal(404, 10008, "Unknown Message")
        return found

    def post(self, channel: Json, body: Json, files: list[tuple[str, bytes]], *, interaction: bool = False) -> Json:
        """A message of the bot; rings whoever it names and nobody forbade. The same nonce twice is the same message."""
        rules.check_message(body, [data for _, data in files])
        rules.check_not_empty(body, files and [files[0][1]])
        nonce = (channel["id"], str(body.get("nonce")))
        if body.get("enforce_nonce") and nonce in self.nonces:
            return self.messages[self.nonces[nonce]]
        message = shapes.message(channel, self.bot, (body.get("content") or "").strip())
        message |= {"application_id": self.application["id"], "nonce": body.get("nonce")}
        message |= {"components": shapes.numbered(body.get("components") or []), "flags": body.get("flags", 0)}
        message["attachments"] = [self.attach(channel, name, data) for name, data in files]
        self._refer(message, body, interaction)
        self.messages[message["id"]] = message
        self.nonces[nonce] = message["id"]
        self.edits[message["id"]] = [message["content"]]
        if not message["flags"] & shapes.EPHEMERAL:
            self.tell("MESSAGE_CREATE", message, channel)
        return message

    def _refer(self, message: Json, body: Json, interaction: bool) -> None:
        reference = body.get("message_reference") or {}
        asked = self.messages.get(str(reference.get("message_id")))
        if reference and asked is None and reference.get("fail_if_not_exists", True):
            raise Refusal(400, 50035, "Invalid Form Body: message_reference: Unknown message")
        if asked is not None:
            message |= {"type": 19, "referenced_message": asked}
            message["message_reference"] = {"message_id": asked["id"], "channel_id": asked["channel_id"], "type": 0}
        replied_to = asked["author"]["id"] if asked is not None and not interaction else None
        self.pings += rules.pings(body, replied_to)

    def edit(self, message: Json, body: Json, files: list[tuple[str, bytes]]) -> Json:
        """Change a message; what the body does not name stays."""
        rules.check_message(body, [data for _, data in files], message["attachments"])
        edits = self.edits.setdefault(message["id"], [])
        if message["id"] in self.old:
            complaint = "Maximum number of edits to messages older than 1 hour reached. Try again later"
            raise Refusal(429, 30046, complaint, retry_after=0.1)
        after = {key: body[key] for key in ("content", "components") if body.get(key) is not None}
        after |= {"content": after["content"].strip()} if "content" in after else {}
        after |= {"components": shapes.numbered(after["components"])} if "components" in after else {}
        if "attachments" in body or files:
            kept = {str(one["id"]) for one in body.get("attachments") or ()}
            shown = [one for one in message["attachments"] if one["id"] in kept]
            after["attachments"] = shown + [self.attach(message, name, data) for name, data in files]
        rules.check_not_empty(message | after, [b"" for _ in (message | after)["attachments"]])
        message |= {**after, "edited_timestamp": shapes.now(), "flags": message["flags"] & ~shapes.LOADING}
        edits.append(message["content"])
        self.tell("MESSAGE_UPDATE", message, self.channels[message["channel_id"]])
        return message

    def attach(self, place: Json, name: str, data: bytes, content_type: str | None = None) -> Json:
        """A file and its signed link, which ends."""
        id = shapes.snowflake()
        self.files[id] = data
        about: Json = {"id": id, "filename": name, "size": len(data), "url": self.link(id, name)}
        about |= {"proxy_url": about["url"]} | ({"content_type": content_type} if content_type else {})
        return about

    def link(self, id: str, name: str) -> str:
        until = time.time() + self.times.link_s
        name = re.sub(r"[^\w.-]+", "_", name)
        return f"{self.url}/attachments/{id}/{name}?ex={until:.3f}&hm={self.secret}"

    def open_interaction(self, token: str, *, for_answer: bool = False) -> Interaction:
        """The interaction of a token, unless it has ended. Raises `Refusal`."""
        found = self.interactions.get(token)
        if found is None or time.monotonic() > found.made + self.times.token_s:
            raise Refusal(401, 50027, "Invalid Webhook Token") if not for_answer else unknown_interaction()
        return found

    def tell(self, event: str, data: Json, channel: Json | None) -> None:
        """Let the gateway's sessions know."""
        for listener in self.listeners:
            listener(event, data, channel or {})

    def complain(self, sentence: str) -> None:
        self.complaints.append(sentence)


def unknown_interaction() -> Refusal:
    return Refusal(404, 10062, "Unknown interaction")
