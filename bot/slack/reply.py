"""One answer in a thread: streamed natively while Slack allows it, else posted and edited.

A stream lives for a few minutes and can only grow. When it has expired, or the text has become another one, the same
message is edited with `chat.update`. Another process that goes on edits as well: it does not know what was streamed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from visavis.bot.adapters.platform import Ending, Incoming, Outcome, PlatformError
from visavis.bot.slack.calls import SlackRefused, Unclear, answer, find_own
from visavis.bot.slack.hooks import respond
from visavis.bot.slack.messages import END, blocks, buttons, fallback, place_of, post_name, root_text
from visavis.bot.slack.prompts import prompts, suggest
from visavis.dialogue.errors import BadRequest

log = logging.getLogger(__name__)

INVITE = "I cannot write there: please invite me to the channel first (`/invite`)."
_NOT_IN = ("not_in_channel", "channel_not_found")
_ROOT = "root"  # the message with a question that came by slash command
_ANSWERING = "Answering …"
_CONTROL = "control"  # the message with the Stop button beside a stream, which can bear none
_TOO_MUCH = (
    "invalid_blocks",
    "invalid_blocks_format",
    "msg_blocks_too_long",
    "msg_too_long",
)  # then the text goes without blocks
_QUIET = {"unfurl_links": False, "unfurl_media": False}


class SlackReply:
    """As `platform.Reply` says."""

    def __init__(self, client: AsyncWebClient, incoming: Incoming) -> None:
        self.state = dict(incoming.state)
        self._client = client
        self._address = dict(incoming.address)
        self._is_private = incoming.is_private
        self._question = incoming.text
        self._streams: dict[str, str] = {}  # part -> what was streamed into it
        self._inherited = set(self.state)  # shown by another process: perhaps still streams
        self._unclear: dict[str, str] = {}  # part -> what it said when nobody knew whether it was posted
        self._may_stream = True
        self._status = ""

    @property
    def posts(self) -> Sequence[str]:
        return [post_name(self._address["channel"], ts) for ts in self.state.values() if "channel" in self._address]

    async def status(self, text: str) -> None:
        """Beside the thread; only some workspaces show it. Said again, it takes a while: then it can be stopped."""
        if not self._thread or text == self._status == "":
            return
        if text and text == self._status:
            await self._show_control()
        self._status = text
        try:
            await self._call("assistant_threads_setStatus", channel_id=self._address["channel"], status=text)
        except SlackRefused as error:
            log.debug("no status is shown: %s", error)

    async def open(self) -> str:
        """The question of a slash command as a message in the channel; its thread is the place."""
        if "asks" not in self._address:
            return ""
        if _ROOT not in self.state:
            await self._post_root()
        return place_of(self._address["team"], self._address["channel"], self._thread)

    async def _post_root(self) -> None:
        where = {"channel": self._address["channel"], "text": root_text(self._address["user"], self._question)}
        post: Any = self._client.chat_postMessage
        try:
            root = await answer(post(**where, **_QUIET))
        except SlackRefused as error:
            raise BadRequest(INVITE if error.code in _NOT_IN else f"I cannot write there. {error}.") from error
        self.state[_ROOT] = str(root["ts"])

    @property
    def _thread(self) -> str:
        return self._address.get("thread") or self.state.get(_ROOT, "")

    async def put(self, part: int, text: str, outcome: Outcome | None) -> None:
        try:
            await self._put(str(part), text, outcome)
        except SlackRefused as error:
            if error.code in _NOT_IN and self._thread and (hook := self._address.pop("response_url", "")):
                await respond(hook, INVITE)  # the only way to whoever has asked from a channel where we are not
            raise

    async def _put(self, key: str, text: str, outcome: Outcome | None) -> None:
        if not self._thread:
            return await respond(self._address["response_url"], text)
        if outcome is not None and outcome.private and not self._is_private and key not in self.state:
            return await self._end_privately(text)
        if key in self._inherited:
            await self._stop_stream(key)
            self._inherited.discard(key)
        if key in self._streams:
            await self._stream_on(key, text, outcome)
        elif key in self.state:
            await self._update(key, text, outcome)
        else:
            await self._open(key, text, outcome)
        if outcome is not None and outcome.ending is not Ending.MORE:
            await self._clear()
            if self._is_private and outcome.suggestions:  # in the agent's view; without a thread, as there
                await suggest(self._client, self._address["channel"], prompts(outcome.suggestions))

    async def _end_privately(self, text: str) -> None:
        """Said once: what is cleared away afterwards may fail."""
        await self._whisper(text)
        try:
            await self.status("")
            await self._clear()
        except PlatformError as error:
            log.info("what was shown meanwhile stays: %s", error)

    async def _open(self, key: str, text: str, outcome: Outcome | None) -> None:
        """The first words of a part. The part before has its end."""
        for earlier in list(self._streams):
            await self._stop_stream(earlier)
        if await self._found(key):
            await self._stop_stream(key)
            return await self._update(key, text, outcome)
        try:
            if outcome is None and self._may_stream and await self._start_stream(key, text):
                return
            self.state[key] = await self._post(text, outcome)
        except Unclear:
            self._unclear[key] = text
            raise

    async def _found(self, key: str) -> bool:
        """Whether a message that Slack was said to have failed to post is there all the same; then it is kept."""
        if key not in self._unclear:
            return False
        where = {"channel": self._address["channel"], "ts": self._thread, "oldest": self._address.get("ts")}
        texts = {self._unclear[key].strip(), fallback(self._unclear[key]).strip()}
        found = await find_own(self._client, where, texts, set(self.state.values()))
        self.state |= {key: found} if found else {}
        del self._unclear[key]
        return bool(found)

    async def _start_stream(self, key: str, text: str) -> bool:
        reader = {"recipient_team_id": self._address["team"], "recipient_user_id": self._address["user"]}
        try:
            begun = await self._call("chat_startStream", markdown_text=text, **reader)
        except SlackRefused as error:
            log.info("answers are not streamed here: %s", error)
            self._may_stream = False
            return False
        self.state[key] = str(begun["ts"])
        self._streams[key] = text
        return True

    async def _stream_on(self, key: str, text: str, outcome: Outcome | None) -> None:
        """Append what is new, and stop at the end; whatever cannot be streamed is edited."""
        streamed = self._streams[key]
        if not text.startswith(streamed):
            await self._stop_stream(key)
            return await self._update(key, text, outcome)
        try:
            if outcome is not None:
                below = {"blocks": buttons(outcome)} if buttons(outcome) else {}
                await self._streaming("chat_stopStream", key, text.removeprefix(streamed), **below)
                del self._streams[key]
            elif text != streamed:
                await self._streaming("chat_appendStream", key, text.removeprefix(streamed))
                self._streams[key] = text
                await self._show_control()
        except Unclear:
            self._streams[key] = "\0"  # nobody knows what stands there: it is edited as soon as it can be
            raise
        except SlackRefused as error:
            log.info("a stream has ended early: %s", error)
            await self._stop_stream(key)  # one that is refused for another reason takes no edits while it lasts
            self._may_stream = False
            await self._update(key, text, outcome)

    async def _streaming(self, method: str, key: str, text: str, **more: Any) -> None:
        new = {"markdown_text": text} if text else {}
        call = getattr(self._client, method)
        await answer(call(channel=self._address["channel"], ts=self.state[key], **new, **more))

    async def _stop_stream(self, key: str) -> None:
        """A stream that has ended by itself is as good as a stopped one."""
        try:
            await self._streaming("chat_stopStream", key, "")
        except SlackRefused as error:
            log.debug("a stream was stopped already: %s", error)
        self._streams.pop(key, None)

    async def _update(self, key: str, text: str, outcome: Outcome | None) -> None:
        where: Any = {"channel": self._address["channel"], "ts": self.state[key]}
        try:
            await answer(self._client.chat_update(**where, text=fallback(text), blocks=blocks(text, outcome)))
        except SlackRefused as error:
            if error.code in _TOO_MUCH:
                await answer(self._client.chat_update(**where, text=fallback(text), blocks=[]))
            elif error.code in ("message_not_found", "cant_update_message", "edit_window_closed"):
                self.state[key] = await self._post(text, outcome)
            else:
                raise

    async def _post(self, text: str, outcome: Outcome | None) -> str:
        try:
            posted = await self._call("chat_postMessage", text=fallback(text), blocks=blocks(text, outcome), **_QUIET)
        except SlackRefused as error:
            if error.code not in _TOO_MUCH:
                raise
            posted = await self._call("chat_postMessage", text=fallback(text), **_QUIET)
        return str(posted["ts"])

    async def _whisper(self, text: str) -> None:
        await self._call(
            "chat_postEphemeral", user=self._address["user"], text=fallback(text), blocks=blocks(text, END)
        )

    async def _show_control(self) -> None:
        """A Stop button beside a stream; only for answers that take a while."""
        if _CONTROL not in self.state and not await self._found(_CONTROL):
            self._unclear[_CONTROL] = _ANSWERING
            posted = await self._call("chat_postMessage", text=_ANSWERING, blocks=buttons(None), **_QUIET)
            self.state[_CONTROL] = str(posted["ts"])
            del self._unclear[_CONTROL]

    async def _clear(self) -> None:
        """Take away what was there while the answer was written."""
        if _CONTROL in self.state or await self._found(_CONTROL):
            channel, ts = self._address["channel"], self.state[_CONTROL]
            try:
                await answer(self._client.chat_delete(channel=channel, ts=ts))
            except SlackRefused as error:
                log.info("a Stop button stays: %s", error)
            del self.state[_CONTROL]

    async def _call(self, method: str, **arguments: Any) -> Any:
        """A call about the thread."""
        where = {"thread_ts": self._thread}
        if "channel_id" not in arguments:
            where["channel"] = self._address["channel"]
        return await answer(getattr(self._client, method)(**where, **arguments))
