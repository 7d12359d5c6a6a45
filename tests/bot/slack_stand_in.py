"""Slack on this machine: Web API, Socket Mode and file servers, as strict as the real ones where they are known to be.

It checks tokens, scopes, arguments and limits, keeps what was posted, brings events again that are not acknowledged,
and misbehaves as a test tells it to. `slack_rules` holds what is allowed.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from running_gateway import listening
from slack_rules import METHODS, ApiFault, Method, check_arguments, check_blocks
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from visavis.bot.gateway import GatewayServer
from visavis.bot.slack.check import SCOPES

TEAM, BOT, BOT_ID, ANN, BOB = "T0TEAM", "U0BOT", "B0BOT", "U0ANN", "U0BOB"
ROOM, SECRET_ROOM, DM = "C0ROOM", "C0SECRET", "D0ANN"
BOT_TOKEN, APP_TOKEN, SIGNING_SECRET = "xoxb-stand-in", "xapp-stand-in", "0123456789abcdef"
SIGN_IN = "<!DOCTYPE html><html><body>Sign in to Slack</body></html>"


@dataclass
class Message:
    channel: str
    ts: str
    user: str
    text: str = ""
    blocks: list[Any] = field(default_factory=list)
    thread_ts: str | None = None
    streaming: bool = False
    appended: int = 0
    files: list[Any] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """What a person reads, buttons in brackets."""
        parts = [block["text"] if block["type"] == "markdown" else _buttons(block) for block in self.blocks]
        return "\n".join(parts) if parts and self.blocks[0]["type"] == "markdown" else "\n".join([self.text, *parts])

    def as_json(self) -> dict[str, Any]:
        known = {"type": "message", "ts": self.ts, "user": self.user, "text": self.text, "files": self.files}
        bot = {"bot_id": BOT_ID} if self.user == BOT else {}
        return known | bot | ({"thread_ts": self.thread_ts} if self.thread_ts else {})


def _buttons(block: dict[str, Any]) -> str:
    return " ".join(f"[{element['text']['text']}]" for element in block.get("elements", []))


@dataclass
class Delivery:
    """An event on its way: acknowledged or not, and with what."""

    envelope: dict[str, Any]
    acked: asyncio.Event = field(default_factory=asyncio.Event)
    payload: Any = None
    attempts: int = 0


class SlackStandIn:
    def __init__(self) -> None:
        self.url = ""
        self.scopes = set(SCOPES)
        self.members = {ROOM, SECRET_ROOM, DM}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.messages: dict[tuple[str, str], Message] = {}
        self.whispers: list[dict[str, Any]] = []
        self.responses: list[dict[str, Any]] = []
        self.uploads: dict[str, bytes] = {}
        self.shared: list[dict[str, Any]] = []
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.redirected: list[dict[str, str]] = []
        self.faults: dict[str, list[ApiFault]] = defaultdict(list)
        self.late_faults: dict[str, list[ApiFault]] = defaultdict(list)  # of calls that are carried out all the same
        self.too_early: list[str] = []  # calls before the end of a Retry-After
        self._cold: dict[str, float] = {}
        self.stream_lives = 1_000  # appends until a stream expires
        self.retry_s = 0.5
        self.triggers: dict[str, float] = {}
        self.sockets: list[WebSocket] = []
        self.deliveries: dict[str, Delivery] = {}
        self.file_tokens: list[str | None] = []
        self.file_faults: list[int] = []  # seconds to wait
        self.hook_faults: list[str] = []  # what is said of the seconds to wait
        self._next = 0
        self._changed = asyncio.Event()
        self._turn = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["SlackStandIn"]:
        app = Starlette(
            routes=[
                Route("/api/{method}", self._api, methods=["POST", "GET"]),
                WebSocketRoute("/link", self._link),
                Route("/files/{id}", self._file),
                Route("/elsewhere/{id}", self._elsewhere),
                Route("/upload/{id}", self._upload, methods=["POST"]),
                Route("/hook/{id}", self._hook, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(
            app, log_config=None, lifespan="off", ws="websockets-sansio", timeout_graceful_shutdown=1
        )
        async with listening(GatewayServer(config)) as url:
            self.url = url
            yield self

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    def ts(self) -> str:
        self._next += 1
        return f"1800000000.{self._next:06d}"

    def say(
        self, text: str, *, user: str = ANN, channel: str = ROOM, thread: str | None = None, files: Any = ()
    ) -> Message:
        """A person posts a message; Slack tells nobody of it yet."""
        message = Message(channel, self.ts(), user, text, thread_ts=thread, files=list(files))
        self.messages[channel, message.ts] = message
        return message

    def add_file(
        self, data: bytes, name: str = "photo.png", mimetype: str = "image/png", **more: Any
    ) -> dict[str, Any]:
        """A file object as events show it."""
        id = f"F{len(self.files):05d}"
        url = f"{self.url}/files/{id}"
        file = {"id": id, "name": name, "mimetype": mimetype, "size": len(data), "url_private_download": url, **more}
        self.files[id] = (file, data)
        return file

    def event(self, message: Message, type: str = "", **more: Any) -> dict[str, Any]:
        """The event that tells of a message."""
        kind = "im" if message.channel.startswith("D") else "channel"
        event = {"type": type or "message", "channel": message.channel, "channel_type": kind, **message.as_json()}
        event["type"] = type or ("app_mention" if f"<@{BOT}>" in message.text else "message")
        if message.files:
            event |= {"subtype": "file_share"} if event["type"] == "message" else {}
            if event["type"] == "app_mention":  # may come without them, and before the event that has them
                event.pop("files", None)
        return event | more

    async def tell(self, event: dict[str, Any], event_id: str = "", **more: Any) -> Delivery:
        """Deliver an event as Slack does: to one of the sockets, again and again until it is acknowledged."""
        self._next += 1
        body = {"type": "event_callback", "team_id": TEAM, "api_app_id": "A1", "event": event}
        body |= {"event_id": event_id or f"Ev{self._next}", "event_time": int(time.time())}
        return await self.send("events_api", body, **more)

    async def send(self, type: str, payload: dict[str, Any], retries: int = 3) -> Delivery:
        """Send an envelope; returns when it is acknowledged or given up."""
        self._next += 1
        accepts = type in ("slash_commands", "interactive")
        id = f"env-{self._next}"
        envelope = {"envelope_id": id, "type": type, "payload": payload, "accepts_response_payload": accepts}
        delivery = self.deliveries[id] = Delivery(envelope)
        for attempt in range(1 if accepts else retries + 1):
            if type == "events_api":
                retry = {"retry_attempt": attempt, "retry_reason": "timeout" if attempt else ""}
                envelope |= retry
            delivery.attempts += 1
            await self._push(envelope)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3.0 if accepts else self.retry_s):
                    await delivery.acked.wait()
                return delivery
        return delivery

    async def _push(self, envelope: dict[str, Any]) -> None:
        await self.until(lambda: bool(self.sockets))
        self._turn += 1
        await self.sockets[self._turn % len(self.sockets)].send_text(json.dumps(envelope))

    async def command(self, text: str, channel: str = ROOM, *, trigger: str = "", user: str = ANN) -> Delivery:
        """Somebody types our slash command."""
        body = {"command": "/visavis", "text": text, "team_id": TEAM, "channel_id": channel, "user_id": user}
        body |= {"trigger_id": trigger or self.trigger(), "response_url": f"{self.url}/hook/1"}
        return await self.send("slash_commands", body)

    async def press(self, action: str, ts: str, thread: str, user: str = ANN, *, trigger: str = "") -> Delivery:
        """Somebody presses a button below a message."""
        container = {"type": "message", "message_ts": ts, "channel_id": ROOM, "thread_ts": thread}
        payload = {"type": "block_actions", "team": {"id": TEAM}, "user": {"id": user}, "container": container}
        payload |= {"channel": {"id": ROOM}, "trigger_id": trigger or self.trigger()}
        payload |= {"actions": [{"type": "button", "action_id": action, "block_id": "b"}]}
        return await self.send("interactive", payload)

    async def react(self, reaction: str, ts: str, user: str = ANN, *, added: bool = True) -> Delivery:
        """Somebody adds a reaction to a message of the bot's, or takes it away."""
        item = {"type": "message", "channel": ROOM, "ts": ts}
        event = {"type": "reaction_added" if added else "reaction_removed", "user": user, "reaction": reaction}
        return await self.tell(event | {"item": item, "item_user": BOT})

    def trigger(self) -> str:
        self._next += 1
        self.triggers[f"trigger.{self._next}"] = time.monotonic()
        return f"trigger.{self._next}"

    def signed(self, body: bytes, at: float | None = None, secret: str = SIGNING_SECRET) -> dict[str, str]:
        """The headers of a request by HTTP."""
        stamp = str(int(time.time() if at is None else at))
        digest = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        return {
            "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": f"v0={digest}",
            "Content-Type": "application/json",
        }

    async def until(self, condition: Any, timeout_s: float = 60) -> None:
        """Wait until something is so; looked at after each call."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.1)

    def of_bot(self, thread: str | None = None, channel: str = ROOM) -> list[Message]:
        """What the bot has in a thread."""
        found = [one for one in self.messages.values() if one.user == BOT and one.channel == channel]
        return [one for one in found if thread is None or one.thread_ts == thread]

    async def answered(self, thread: str, channel: str = ROOM, count: int = 1) -> list[Message]:
        """The bot's messages in a thread, when none of them is being written any more."""

        def is_done() -> bool:
            found = self.of_bot(thread, channel)
            return len(found) >= count and not any(one.streaming or "[Stop]" in one.shown for one in found)

        await self.until(is_done)
        return self.of_bot(thread, channel)

    def called(self, method: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.calls if name == method]

    # the Web API

    async def _api(self, request: Request) -> Response:
        name = request.path_params["method"]
        arguments = await _arguments(request)
        in_body = arguments.pop("token", "")
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or in_body
        self.calls.append((name, arguments))
        headers = {"x-oauth-scopes": ",".join(sorted(self.scopes))}
        try:
            method = METHODS.get(name)
            if method is None:
                raise ApiFault("unknown_method")
            self._authorise(method, token)
            if time.monotonic() < self._cold.get(name, 0.0):
                self.too_early.append(name)
            if self.faults[name] and (fault := self.faults[name].pop(0)) is not None:
                raise fault
            check_arguments(method, arguments)
            handle = getattr(self, "_" + name.replace(".", "_"), None)
            answer = {"ok": True, **((handle(arguments) or {}) if handle else {})}
            if self.late_faults[name] and (fault := self.late_faults[name].pop(0)) is not None:
                raise fault
            return JSONResponse(answer, headers=headers)
        except ApiFault as fault:
            if fault.status == 429:
                self._cold[name] = time.monotonic() + float(fault.headers["Retry-After"]) - 0.01
            if fault.html:
                return Response(SIGN_IN, media_type="text/html")
            body = {"ok": False, "error": fault.code, **fault.more}
            return JSONResponse(body, status_code=fault.status, headers=headers | fault.headers)
        finally:
            self._changed.set()

    def _authorise(self, method: Method, token: str) -> None:
        if not token:
            raise ApiFault("not_authed")
        if token != (APP_TOKEN if method.app_level else BOT_TOKEN):
            raise ApiFault("not_allowed_token_type" if token in (APP_TOKEN, BOT_TOKEN) else "invalid_auth")
        if method.scopes and not self.scopes & set(method.scopes):
            raise ApiFault("missing_scope", needed=",".join(method.scopes), provided=",".join(sorted(self.scopes)))

    def _auth_test(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            "team_id": TEAM,
            "team": "Stand-in",
            "user": "visavis",
            "user_id": BOT,
            "bot_id": BOT_ID,
            "url": self.url,
        }

    def _apps_connections_open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if len(self.sockets) >= 10:
            raise ApiFault("too_many_websockets")
        return {"url": self.url.replace("http", "ws") + "/link?ticket=1"}

    def _post(self, arguments: dict[str, Any], **more: Any) -> Message:
        channel, thread = arguments["channel"], arguments.get("thread_ts")
        if channel not in self.members:
            raise ApiFault("not_in_channel" if channel.startswith("C") else "channel_not_found")
        if thread and (channel, thread) not in self.messages:
            raise ApiFault("thread_not_found")
        message = Message(channel, self.ts(), BOT, thread_ts=thread, **more)
        self.messages[channel, message.ts] = message
        return message

    def _own(self, arguments: dict[str, Any]) -> Message:
        message = self.messages.get((arguments["channel"], arguments["ts"]))
        if message is None:
            raise ApiFault("message_not_found")
        return message

    def _chat_postMessage(self, arguments: dict[str, Any]) -> dict[str, Any]:
        blocks = check_blocks(arguments.get("blocks"))
        message = self._post(arguments, text=arguments.get("text", ""), blocks=blocks)
        return {"channel": message.channel, "ts": message.ts, "message": message.as_json()}

    def _chat_update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        message = self._own(arguments)
        if message.user != BOT:
            raise ApiFault("cant_update_message")
        if message.streaming:
            raise ApiFault("streaming_state_conflict")
        message.text, message.blocks = arguments.get("text", message.text), check_blocks(arguments.get("blocks"))
        return {"channel": message.channel, "ts": message.ts, "text": message.text}

    def _chat_delete(self, arguments: dict[str, Any]) -> None:
        message = self._own(arguments)
        if message.user != BOT:
            raise ApiFault("cant_delete_message")
        del self.messages[message.channel, message.ts]

    def _chat_postEphemeral(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["channel"] not in self.members:
            raise ApiFault("not_in_channel")
        check_blocks(arguments.get("blocks"))
        self.whispers.append(arguments)
        return {"message_ts": self.ts()}

    def _chat_startStream(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not arguments["channel"].startswith("D") and not {"recipient_user_id", "recipient_team_id"} <= set(
            arguments
        ):
            raise ApiFault("missing_recipient_user_id")
        message = self._post(arguments, text=arguments.get("markdown_text", ""), streaming=True)
        return {"channel": message.channel, "ts": message.ts}

    def _streamed(self, arguments: dict[str, Any]) -> Message:
        message = self._own(arguments)
        if message.user != BOT:
            raise ApiFault("message_not_owned_by_app")
        if message.appended >= self.stream_lives:
            message.streaming = False
        if not message.streaming:
            raise ApiFault("message_not_in_streaming_state")
        message.text += arguments.get("markdown_text", "")
        message.appended += 1
        return message

    def _chat_appendStream(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"channel": arguments["channel"], "ts": self._streamed(arguments).ts}

    def _chat_stopStream(self, arguments: dict[str, Any]) -> dict[str, Any]:
        blocks = check_blocks(arguments.get("blocks"))
        message = self._streamed(arguments)
        message.streaming, message.blocks = False, blocks
        return {"channel": message.channel, "ts": message.ts, "message": message.as_json()}

    def _conversations_replies(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel, root = arguments["channel"], arguments["ts"]
        if channel not in self.members:
            raise ApiFault("not_in_channel")
        found = [one for one in self.messages.values() if one.channel == channel and root in (one.ts, one.thread_ts)]
        if not found:
            raise ApiFault("thread_not_found")
        oldest, latest = arguments.get("oldest", "0"), arguments.get("latest", "9")  # their lengths are all the same
        found = [one for one in found if one.ts == root or oldest <= one.ts <= latest]  # the root is always there
        start = int(arguments.get("cursor") or 0)
        limit = min(int(arguments.get("limit", 100)), 2)  # Slack may always give fewer than asked for
        more = start + limit < len(found)
        page = [one.as_json() for one in sorted(found, key=lambda one: one.ts)[start : start + limit]]
        return {
            "messages": page,
            "has_more": more,
            "response_metadata": {"next_cursor": str(start + limit) if more else ""},
        }

    def _files_info(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["file"] not in self.files:
            raise ApiFault("file_not_found")
        return {"file": {key: value for key, value in self.files[arguments["file"]][0].items() if key != "file_access"}}

    def _files_getUploadURLExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:
        id = f"F9{self.ts()[-4:]}"
        return {"upload_url": f"{self.url}/upload/{id}", "file_id": id}

    def _files_completeUploadExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:
        files = json.loads(arguments["files"])
        if any(file["id"] not in self.uploads for file in files):
            raise ApiFault("file_not_found")
        self.shared.append(arguments)
        return {"files": files}

    def _views_open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        begun = self.triggers.pop(arguments["trigger_id"], None)
        if begun is None:
            raise ApiFault("invalid_trigger_id")
        if time.monotonic() - begun > 3:
            raise ApiFault("expired_trigger_id")
        view = arguments["view"] if isinstance(arguments["view"], dict) else json.loads(arguments["view"])
        if len(view["private_metadata"]) > 3_000 or len(view["title"]["text"]) > 24:
            raise ApiFault("invalid_arguments")
        return {"view": view | {"id": "V1"}}

    # files and hooks

    async def _file(self, request: Request) -> Response:
        self.file_tokens.append(request.headers.get("authorization"))
        if self.file_faults:
            return PlainTextResponse("", 429, {"Retry-After": str(self.file_faults.pop())})
        file, data = self.files.get(request.path_params["id"], ({}, b""))
        if not file:
            return PlainTextResponse("not found", 404)
        if file.get("redirects"):
            return RedirectResponse(f"{self.url}/elsewhere/{file['id']}")
        if request.headers.get("authorization") != f"Bearer {BOT_TOKEN}" or "files:read" not in self.scopes:
            return Response(SIGN_IN, media_type="text/html; charset=utf-8")
        return Response(data, media_type=file["mimetype"] or "application/octet-stream")

    async def _elsewhere(self, request: Request) -> Response:
        self.redirected.append(dict(request.headers))
        return PlainTextResponse("")

    async def _upload(self, request: Request) -> Response:
        self.uploads[request.path_params["id"]] = await request.body()
        return PlainTextResponse("OK - 1")

    async def _hook(self, request: Request) -> Response:
        if self.hook_faults:
            return PlainTextResponse("", 429, {"Retry-After": self.hook_faults.pop()})
        self.responses.append(await request.json())
        self._changed.set()
        return PlainTextResponse("ok")

    # Socket Mode

    async def _link(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(json.dumps({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}}))
        self.sockets.append(socket)
        self._changed.set()
        try:
            while True:
                frame = json.loads(await socket.receive_text())
                delivery = self.deliveries[frame["envelope_id"]]
                delivery.payload = frame.get("payload")
                delivery.acked.set()
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self.sockets.remove(socket)

    async def refresh(self) -> None:
        """Slack asks each connection to be made anew."""
        for socket in list(self.sockets):
            await socket.send_text(json.dumps({"type": "disconnect", "reason": "refresh_requested"}))


async def _arguments(request: Request) -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        found: dict[str, Any] = json.loads(body)
    else:
        found = dict(request.query_params) | dict(parse_qsl(body.decode(), keep_blank_values=True))
    for name in ("blocks", "prompts", "view", "chunks"):
        if isinstance(found.get(name), str):
            found[name] = json.loads(found[name])
    found.pop("team_id", None)  # any method takes it, for tokens of several workspaces
    if chunks := found.pop("chunks", None):  # what is streamed may come in pieces
        found["markdown_text"] = "".join(chunk["text"] for chunk in chunks if chunk["type"] == "markdown_text")
    return found
