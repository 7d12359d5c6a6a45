"""Discord's HTTP: REST v10 with its checks, limits and error codes, and the links of files."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from discord_standin import rules, shapes
from discord_standin.gateway import Gateway
from discord_standin.platform import Interaction, Platform, unknown_interaction
from discord_standin.rules import Json, Refusal

API = "/api/v10"
DEFER_MESSAGE, DEFER_UPDATE, MESSAGE, UPDATE = 5, 6, 4, 7
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rest:
    """The routes over one platform."""

    def __init__(self, platform: Platform, gateway: Gateway) -> None:
        self._platform = platform
        self._gateway = gateway
        self.is_down = False
        self.hangs = False  # it takes requests, and never answers
        self.forgets = False  # it does what an interaction is answered with, and does not say so

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        platform, webhook = self._platform, API + "/webhooks/{app}/{token}"
        plain: list[tuple[str, str, Any]] = [
            ("GET", "/users/@me", lambda request: platform.me),
            ("GET", "/oauth2/applications/@me", lambda request: platform.application),
            ("GET", "/applications/@me", lambda request: platform.application),
            ("GET", "/gateway/bot", self._gateway_bot),
            ("GET", "/users/@me/guilds", self._guilds),
            ("PUT", "/applications/{app}/commands", self._put_commands),
            ("GET", "/applications/{app}/commands", lambda request: platform.commands),
            ("GET", "/channels/{channel}", lambda request: platform.find_channel(request.match_info["channel"])),
            ("GET", "/channels/{channel}/messages/{message}", self._get_message),
            ("POST", "/channels/{channel}/messages", self._post_message),
            ("PATCH", "/channels/{channel}/messages/{message}", self._patch_message),
            ("POST", "/channels/{channel}/typing", self._type),
            ("POST", "/users/@me/channels", self._open_dm),
        ]
        for method, path, work in plain:
            app.router.add_route(method, API + path, self._guarded(work, needs_token=True))
        open_to_all: list[tuple[str, str, Any]] = [
            ("GET", API + "/gateway", lambda request: {"url": self._gateway_url()}),
            ("POST", API + "/interactions/{id}/{token}/callback", self._answer_interaction),
            ("POST", webhook, self._follow_up),
            ("GET", webhook + "/messages/{message}", self._get_webhook_message),
            ("PATCH", webhook + "/messages/{message}", self._patch_webhook_message),
            ("DELETE", webhook + "/messages/{message}", self._delete_webhook_message),
        ]
        for method, path, work in open_to_all:
            app.router.add_route(method, path, self._guarded(work, needs_token=False))
        app.router.add_get("/attachments/{id}/{name}", self._file)
        app.router.add_get("/gateway/", self._gateway.serve)
        return app

    def _guarded(self, work: Callable[[web.Request], Any], *, needs_token: bool) -> Handler:
        """Token, limits and errors round a route."""

        async def answer(request: web.Request) -> web.StreamResponse:
            self._platform.requests.append((request.method, request.path.removeprefix(API)))
            if self.hangs:
                await asyncio.Event().wait()
            if self.is_down:
                return web.Response(status=503, text="upstream connect error")
            verdict = self._platform.buckets.take(*_bucket(request))
            if verdict.retry_after_s:
                self._platform.invalid_requests += verdict.scope != "shared"
                about = {"message": "You are being rate limited.", "retry_after": verdict.retry_after_s}
                body = about | {"global": verdict.scope == "global"}
                return _json(body, 429, verdict.headers)
            try:
                if needs_token:
                    self._check_caller(request)
                found = work(request)
                body = await found if isinstance(found, Awaitable) else found
            except Refusal as refusal:
                self._platform.invalid_requests += refusal.status in (401, 403, 429)
                return _json(
                    {"message": str(refusal), "code": refusal.code, **refusal.more}, refusal.status, verdict.headers
                )
            return _json(body, 200, verdict.headers) if body is not None else web.Response(status=204)

        return answer

    def _check_caller(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bot {self._platform.token}":
            raise Refusal(401, 0, "401: Unauthorized")
        if not request.headers.get("User-Agent", "").startswith("DiscordBot ("):
            self._platform.complain("no valid User-Agent")

    def _gateway_url(self) -> str:
        return self._platform.url.replace("http", "ws", 1) + "/gateway/"

    def _gateway_bot(self, request: web.Request) -> Json:
        limit = {"total": 1000, "remaining": 999, "reset_after": 14_400_000, "max_concurrency": 1}
        return {"url": self._gateway_url(), "shards": 1, "session_start_limit": limit}

    def _guilds(self, request: web.Request) -> list[Json]:
        return [guild | {"permissions": guild["roles"][0]["permissions"]} for guild in self._platform.guilds.values()]

    async def _put_commands(self, request: web.Request) -> list[Json]:
        commands = await request.json()
        for command in commands:
            rules.check_command(command)
        names = [(command.get("type", 1), command["name"]) for command in commands]
        rules.unless(len(set(names)) == len(names), "names must be unique")
        filled = {
            "application_id": self._platform.application["id"],
            "version": "1",
            "default_member_permissions": None,
        }
        filled |= {"type": 1, "description": "", "nsfw": False}
        self._platform.commands = [filled | {"id": shapes.snowflake()} | command for command in commands]
        return self._platform.commands

    def _get_message(self, request: web.Request) -> Json:
        channel = self._platform.find_channel(request.match_info["channel"], shapes.HISTORY)
        message = self._platform.find_message(channel["id"], request.match_info["message"])
        fresh = [one | {"url": self._platform.link(one["id"], one["filename"])} for one in message["attachments"]]
        return message | {"attachments": fresh}

    async def _post_message(self, request: web.Request) -> Json:
        body, files = await _body(request)
        place = request.match_info["channel"]
        in_thread = self._platform.channels.get(place, {}).get("type") == shapes.THREAD
        needs = (shapes.SEND_IN_THREADS if in_thread else shapes.SEND) | (shapes.ATTACH if files else 0)
        return self._platform.post(self._platform.find_channel(place, needs), body, files)

    async def _patch_message(self, request: web.Request) -> Json:
        body, files = await _body(request)
        channel = self._platform.find_channel(request.match_info["channel"])
        message = self._platform.find_message(channel["id"], request.match_info["message"])
        if message["author"]["id"] != self._platform.bot["id"]:
            raise Refusal(403, 50005, "Cannot edit a message authored by another user")
        return self._platform.edit(message, body, files)

    def _type(self, request: web.Request) -> None:
        self._platform.find_channel(request.match_info["channel"], shapes.SEND)

    async def _open_dm(self, request: web.Request) -> Json:
        return self._platform.add_channel(shapes.DM)

    async def _answer_interaction(self, request: web.Request) -> Json | None:
        body, files = await _body(request)
        found = self._platform.open_interaction(request.match_info["token"], for_answer=True)
        if found.acked is not None:
            raise Refusal(400, 40060, "Interaction has already been acknowledged.")
        if time.monotonic() > found.made + self._platform.times.ack_s or found.id != request.match_info["id"]:
            raise unknown_interaction()
        kind, data = body.get("type"), body.get("data") or {}
        rules.unless(kind in (DEFER_MESSAGE, DEFER_UPDATE, MESSAGE, UPDATE), "type: unknown")
        rules.unless(found.kind == 3 or kind not in (DEFER_UPDATE, UPDATE), "type: only for buttons")
        message = self._first_answer(found, int(kind), data, files)
        found.acked = time.monotonic()
        if self.forgets:
            await asyncio.Event().wait()
        if request.query.get("with_response") not in ("1", "true") or not self._platform.tells_responses:
            return None
        about = {"id": found.id, "type": found.kind, "response_message_id": found.original}
        return {"interaction": about, "resource": {"type": kind, "message": message}}

    def _first_answer(self, found: Interaction, kind: int, data: Json, files: list[tuple[str, bytes]]) -> Json | None:
        if kind == DEFER_UPDATE:
            return None
        if kind == UPDATE:
            return self._platform.edit(self._platform.messages[str(found.original)], data, files)
        found.ephemeral = bool(data.get("flags", 0) & shapes.EPHEMERAL)
        if kind == DEFER_MESSAGE:
            message = shapes.message(found.channel, self._platform.bot, "")
            message["flags"] = data.get("flags", 0) | shapes.LOADING
            self._platform.messages[message["id"]] = message
        else:
            message = self._platform.post(found.channel, data, files, interaction=True)
        found.original = message["id"]
        self._platform.webhook_messages[message["id"]] = found.token
        return message

    async def _follow_up(self, request: web.Request) -> Json:
        body, files = await _body(request)
        found = self._acked(request)
        first = self._platform.messages.get(str(found.original))
        if first is not None and first["flags"] & shapes.LOADING:  # takes the place of the promised answer
            return self._platform.edit(first, body, files)
        message = self._platform.post(found.channel, body, files, interaction=True)
        self._platform.webhook_messages[message["id"]] = found.token
        return message

    def _acked(self, request: web.Request) -> Interaction:
        found = self._platform.open_interaction(request.match_info["token"])
        if found.acked is None:
            raise Refusal(404, 10015, "Unknown Webhook")
        return found

    def _webhook_message(self, request: web.Request) -> Json:
        found, name = self._acked(request), request.match_info["message"]
        id = str(found.original) if name == "@original" else name
        if self._platform.webhook_messages.get(id) != found.token and id != found.original:
            raise Refusal(404, 10008, "Unknown Message")
        return self._platform.messages[id]

    def _get_webhook_message(self, request: web.Request) -> Json:
        return self._webhook_message(request)

    async def _patch_webhook_message(self, request: web.Request) -> Json:
        body, files = await _body(request)
        return self._platform.edit(self._webhook_message(request), body, files)

    def _delete_webhook_message(self, request: web.Request) -> None:
        self._platform.messages.pop(self._webhook_message(request)["id"])

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """The bytes behind a signed link; nobody's token has any business here."""
        if "Authorization" in request.headers:
            self._platform.complain("a token was sent to the file host")
        fresh = float(request.query.get("ex", "0")) > time.time() and request.query.get("hm") == self._platform.secret
        data = self._platform.files.get(request.match_info["id"])
        if not fresh or data is None:
            return web.Response(status=404, text="This content is no longer available.")
        return web.Response(body=data, content_type="application/octet-stream")


def _bucket(request: web.Request) -> tuple[str, str]:
    """Discord's buckets: new messages and edits by channel, everything of an interaction by its token."""
    place = request.match_info
    if "token" in place:
        return ("callback" if request.path.endswith("/callback") else "webhook"), place["token"]
    if "channel" not in place:
        return "other", ""
    kind = {"POST": "create", "PATCH": "edit"}.get(request.method, "other")
    return ("typing" if request.path.endswith("/typing") else kind), place["channel"]


def _json(body: object, status: int, headers: dict[str, str]) -> web.Response:
    """Discord stands behind a proxy that says so."""
    headers = headers | {"Via": "1.1 google", "Content-Type": "application/json"}
    return web.Response(body=json.dumps(body).encode(), status=status, headers=headers)


async def _body(request: web.Request) -> tuple[Json, list[tuple[str, bytes]]]:
    """A JSON body, or a form with one and files."""
    if not request.content_type.startswith("multipart/"):
        if request.content_type != "application/json":
            raise Refusal(400, 50109, "The request body contains invalid JSON.")
        return await request.json(), []
    body: Json = {}
    files: list[tuple[str, bytes]] = []
    form = await request.post()
    for name, value in form.items():
        if name == "payload_json":
            body = json.loads(value.file.read() if isinstance(value, web.FileField) else value)
        elif isinstance(value, web.FileField):
            files.append((value.filename, value.file.read()))
    return body, files
