"""What Slack's events, buttons, commands and dialogs mean: each becomes a call of the adapter.

Bolt sends its acknowledgement when a listener returns: so a listener does no more than put a message into the store
(and fails when it cannot, so that Slack brings it again); all else goes on in a task.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from slack_bolt.async_app import AsyncApp, AsyncBoltRequest
from slack_bolt.response import BoltResponse
from slack_sdk.web.async_client import AsyncWebClient

from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.platform import Incoming
from visavis.bot.adapters.text_commands import parse_command
from visavis.bot.slack import messages as words
from visavis.bot.slack.asides import Asides
from visavis.bot.slack.platform import SlackPlatform
from visavis.dialogue.errors import DialogueError, RateLimited, UnknownSession, UnknownTurn

log = logging.getLogger(__name__)

COMMAND = re.compile(r"/.+")
NOT_YOURS = "Only who takes part in this conversation may stop its answers."
NOT_HERE = "I am not enabled in this channel."
_WHY = ("show why", "show me why")
_Body = dict[str, Any]


class Listeners:
    """Registers itself with an app. `channels`: where questions are answered besides direct messages; empty: all."""

    def __init__(
        self,
        app: AsyncApp,
        adapter: Adapter,
        platform: SlackPlatform,
        client: AsyncWebClient,
        channels: tuple[str, ...],
    ) -> None:
        self._adapter = adapter
        self._platform = platform
        self._client = client
        self._channels = channels
        self._asides = Asides(adapter, client)
        app.error(self._failed)
        for name in ("app_mention", "message"):
            app.event(name)(self._message)
        for name in ("reaction_added", "reaction_removed"):
            app.event(name)(self._reaction)
        app.event("assistant_thread_started")(self._thread_started)
        app.event("app_home_opened")(self._home_opened)
        app.event(re.compile(".*"))(self._unheard)
        app.command(COMMAND)(self._command)
        app.action(words.STOP)(self._stop)
        app.action(words.WHY)(self._why)
        app.message_shortcut(words.ASK)(self._shortcut)
        app.view(words.ASK)(self._asked)

    async def aclose(self) -> None:
        """End what goes on beside the adapter."""
        await self._asides.aclose()

    async def _failed(self, error: Exception, request: AsyncBoltRequest) -> BoltResponse:
        """Not acknowledged: Slack brings it again, to us or to another process."""
        if isinstance(error, DialogueError):
            log.warning("an event was not taken: %s", error)
        else:
            log.error("an event could not be handled", exc_info=error)
        return BoltResponse(status=503, body="")

    async def _unheard(self) -> None:
        """Acknowledged, or Slack would bring it again."""

    async def _message(self, event: _Body, body: _Body) -> None:
        if not words.is_heard(event, self._platform.bot_user):
            return
        incoming = words.incoming_message(event, body, self._platform.bot_user)
        is_meant = incoming.is_private or words.is_mention(event, self._platform.bot_user)
        if not is_meant and ("thread_ts" not in event or words.mentions_others(event)):
            return
        if not is_meant and not await self._adapter.has_place(incoming.place):
            return
        if not self._is_allowed(incoming.channel):
            if is_meant and await self._adapter.once(incoming.id):
                self._asides.go(self._asides.whisper(incoming.address, NOT_HERE))
        elif incoming.text.lower().strip(" ?!.") in _WHY and not incoming.files:
            if await self._adapter.once(incoming.id):
                self._asides.go(self._asides.show_why(incoming.address, incoming.person, incoming.place))
        else:
            await self._accept(incoming)

    async def _accept(self, incoming: Incoming) -> None:
        """Too many messages in one place are no failure of ours: Slack need not bring them again."""
        try:
            await self._adapter.accept(incoming)
        except RateLimited as error:
            self._asides.go(self._asides.whisper(incoming.address, str(error)))

    def _is_allowed(self, channel: str) -> bool:
        return not self._channels or channel in self._channels or channel.startswith("D")

    async def _reaction(self, event: _Body, body: _Body) -> None:
        score, item = words.reaction_score(str(event.get("reaction"))), event.get("item") or {}
        if score is None or item.get("type") != "message" or not self._is_allowed(str(item["channel"])):
            return
        post = words.post_name(str(item["channel"]), str(item["ts"]))
        person = words.person(str(body.get("team_id") or ""), str(event["user"]))
        try:
            await self._adapter.feedback(post, person, score, withdrawn=event["type"] == "reaction_removed")
        except (UnknownTurn, UnknownSession, RateLimited) as error:
            log.debug("a reaction is not kept: %s", error)

    async def _thread_started(self, event: _Body, body: _Body) -> None:
        if not await self._adapter.once(str(body["event_id"])):
            return
        thread = event["assistant_thread"]
        where = {"channel": str(thread["channel_id"]), "thread": str(thread["thread_ts"])}
        self._asides.go(self._asides.greet(where))

    async def _home_opened(self, event: _Body) -> None:
        """The agent's view: prompts without a thread; one that names a thread would fail in silence."""
        if event.get("tab") == "messages":
            self._asides.go(self._asides.suggest(str(event["channel"])))

    async def _command(self, ack: Any, body: _Body) -> None:
        """In the store before it is acknowledged; Slack does not bring a command again, so a failure is said."""
        text = str(body.get("text") or "").strip() or "help"
        asks = parse_command(text) is None
        if asks and not self._is_allowed(str(body["channel_id"])):
            await ack(NOT_HERE)
            return
        try:
            await self._adapter.accept(words.incoming_command(body, text, asks=asks))
            await ack()
        except DialogueError as error:
            await ack(str(error))

    async def _stop(self, ack: Any, body: _Body) -> None:
        where = _container(body)
        try:
            if self._is_allowed_or_told(where):
                await self._adapter.stop(words.post_name(where["channel"], where["ts"]), _presser(body))
        except UnknownSession:
            self._asides.go(self._asides.whisper(where, NOT_YOURS))
        except (UnknownTurn, RateLimited) as error:
            self._asides.go(self._asides.whisper(where, str(error)))
        await ack()

    async def _why(self, ack: Any, body: _Body) -> None:
        where = _container(body)
        if self._is_allowed_or_told(where) and await self._adapter.once(f"press:{body['trigger_id']}"):
            self._asides.go(self._asides.show_why(where, _presser(body)))
        await ack()

    def _is_allowed_or_told(self, where: dict[str, str]) -> bool:
        if not self._is_allowed(where["channel"]):
            self._asides.go(self._asides.whisper(where, NOT_HERE))
        return self._is_allowed(where["channel"])

    async def _shortcut(self, ack: Any, body: _Body) -> None:
        """The dialog has to be asked for within three seconds, before anything else."""
        message, channel = body["message"], str(body["channel"]["id"])
        files = [link.id for link in words.file_links(message.get("files") or ()) if link.id][:8]
        thread = str(message.get("thread_ts") or message["ts"])
        where = {"channel": channel, "thread": thread, "user": str(body["user"]["id"])}
        if not files:
            self._asides.go(self._asides.whisper(where, "There is no picture in that message."))
        elif self._is_allowed_or_told(where):
            about = {"channel": channel, "thread": thread, "files": files}
            dialog = words.question_dialog(json.dumps(about | {"response_url": str(body.get("response_url") or "")}))
            self._asides.go(self._asides.call(self._client.views_open(trigger_id=body["trigger_id"], view=dialog)))
        await ack()

    async def _asked(self, ack: Any, body: _Body, view: _Body) -> None:
        where = json.loads(view["private_metadata"])
        asked = {"team_id": body["team"]["id"], "user_id": body["user"]["id"], "channel_id": where["channel"]}
        asked["response_url"] = where.get("response_url")
        question, id = words.dialog_question(view), f"view:{view['id']}"
        await self._accept(words.incoming_question(asked, where["thread"], question, id, files=where["files"]))
        await ack()


def _presser(body: _Body) -> str:
    return words.person(str(body["user"].get("team_id") or body["team"]["id"]), str(body["user"]["id"]))


def _container(body: _Body) -> dict[str, str]:
    """Where a button stands, and who has pressed it."""
    container = body["container"]
    ts = str(container["message_ts"])
    thread = str(container.get("thread_ts") or (body.get("message") or {}).get("thread_ts") or ts)
    return {"channel": str(container["channel_id"]), "ts": ts, "thread": thread, "user": str(body["user"]["id"])}
