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
from visavis.bot.adapters.pace import patiently
from visavis.bot.adapters.platform import Incoming
from visavis.bot.adapters.text_commands import parse_command
from visavis.bot.slack import messages as words
from visavis.bot.slack.asides import Asides
from visavis.bot.slack.calls import SlackRefused, answer
from visavis.bot.slack.platform import SlackPlatform
from visavis.dialogue.errors import DialogueError, UnknownTurn

log = logging.getLogger(__name__)

COMMAND = re.compile(r"/.+")
NOT_HERE = "I am not enabled in this channel."
INVITE = "I cannot write there: please invite me to the channel first (`/invite`)."
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
        if not self._is_allowed(incoming):
            if is_meant and await self._adapter.once(incoming.id):
                self._asides.go(self._asides.whisper(incoming.address, NOT_HERE))
        elif incoming.text.lower().strip(" ?!.") in _WHY and not incoming.files:
            if await self._adapter.once(incoming.id):
                self._asides.go(self._asides.show_why(incoming.address, incoming.person, incoming.place))
        else:
            await self._adapter.accept(incoming)

    def _is_allowed(self, incoming: Incoming) -> bool:
        return incoming.is_private or not self._channels or incoming.channel in self._channels

    async def _reaction(self, event: _Body) -> None:
        score, item = words.reaction_score(str(event.get("reaction"))), event.get("item") or {}
        if score is None or item.get("type") != "message":
            return
        score = score if event["type"] == "reaction_added" else 0
        try:
            await self._adapter.feedback(words.post_name(str(item["channel"]), str(item["ts"])), score)
        except UnknownTurn:
            log.debug("a reaction to something that is no answer")

    async def _thread_started(self, event: _Body) -> None:
        thread = event["assistant_thread"]
        where = {"channel": str(thread["channel_id"]), "thread": str(thread["thread_ts"])}
        self._asides.go(self._asides.greet(where))

    async def _home_opened(self, event: _Body) -> None:
        """The agent's view: prompts without a thread; one that names a thread would fail in silence."""
        if event.get("tab") == "messages":
            self._asides.go(self._asides.suggest(str(event["channel"])))

    async def _command(self, ack: Any, body: _Body) -> None:
        text = str(body.get("text") or "").strip() or "help"
        if parse_command(text) is not None:
            await self._adapter.accept(words.incoming_command(body, text))
        elif self._channels and str(body["channel_id"]) not in self._channels:
            await ack(NOT_HERE)
            return
        else:
            self._asides.go(self._open_thread(body, text))
        await ack()

    async def _open_thread(self, body: _Body, text: str) -> None:
        """The question as a message in the channel, whose thread is the conversation."""
        question = f"<@{body['user_id']}> asks:\n{words.escaped(text[: words.PLAIN_LIMIT])}"
        try:
            channel = str(body["channel_id"])
            root = await patiently(lambda: answer(self._client.chat_postMessage(channel=channel, text=question)))
            id = f"{body['team_id']}:{body['channel_id']}:{root['ts']}"
            await self._adapter.accept(words.incoming_question(body, str(root["ts"]), text, id))
        except SlackRefused:
            await self._platform.reply(words.incoming_command(body, text)).put(0, INVITE, None)

    async def _stop(self, ack: Any, body: _Body) -> None:
        where = _container(body)
        try:
            await self._adapter.stop(words.post_name(where["channel"], where["ts"]))
        except UnknownTurn as error:
            self._asides.go(self._asides.whisper(where, str(error)))
        await ack()

    async def _why(self, ack: Any, body: _Body) -> None:
        team = str(body["user"].get("team_id") or body["team"]["id"])
        person = words.person(team, str(body["user"]["id"]))
        self._asides.go(self._asides.show_why(_container(body), person))
        await ack()

    async def _shortcut(self, ack: Any, body: _Body) -> None:
        """The dialog has to be asked for within three seconds, before anything else."""
        message, channel = body["message"], str(body["channel"]["id"])
        files = [link.id for link in words.file_links(message.get("files") or ()) if link.id][:8]
        thread = str(message.get("thread_ts") or message["ts"])
        where = {"channel": channel, "thread": thread, "user": str(body["user"]["id"])}
        if not files:
            self._asides.go(self._asides.whisper(where, "There is no picture in that message."))
        elif self._channels and channel not in self._channels and not channel.startswith("D"):
            self._asides.go(self._asides.whisper(where, NOT_HERE))
        else:
            dialog = words.question_dialog(json.dumps({"channel": channel, "thread": thread, "files": files}))
            self._asides.go(self._asides.call(self._client.views_open(trigger_id=body["trigger_id"], view=dialog)))
        await ack()

    async def _asked(self, ack: Any, body: _Body, view: _Body) -> None:
        where = json.loads(view["private_metadata"])
        asked = {"team_id": body["team"]["id"], "user_id": body["user"]["id"], "channel_id": where["channel"]}
        question, id = words.dialog_question(view), f"view:{view['id']}"
        await self._adapter.accept(words.incoming_question(asked, where["thread"], question, id, files=where["files"]))
        await ack()


def _container(body: _Body) -> dict[str, str]:
    """Where a button stands, and who has pressed it."""
    container = body["container"]
    ts = str(container["message_ts"])
    thread = str(container.get("thread_ts") or (body.get("message") or {}).get("thread_ts") or ts)
    return {"channel": str(container["channel_id"]), "ts": ts, "thread": thread, "user": str(body["user"]["id"])}
