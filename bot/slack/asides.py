"""What goes on in Slack beside answers, in tasks of its own: heat maps, greetings, prompts, a word to one person."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.pace import patiently
from visavis.bot.adapters.platform import PlatformError
from visavis.bot.slack import messages as words
from visavis.bot.slack.calls import SlackRefused, answer
from visavis.bot.slack.prompts import suggest
from visavis.dialogue.errors import DialogueError

log = logging.getLogger(__name__)

GREETING = "Show me a picture and ask about it. `help` tells what else I understand."
PROMPTS = [
    {"title": "What is in this picture?", "message": "What is in this picture?"},
    {"title": "What color is it?", "message": "What color is it?"},
    {"title": "What can you do?", "message": "help"},
]


class Asides:
    """`where` is a place in Slack: `channel`, `thread`, and `user` where it matters, `ts` of a message."""

    def __init__(self, adapter: Adapter, client: AsyncWebClient) -> None:
        self._adapter = adapter
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        """End them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def show_why(self, where: dict[str, str], person: str, place: str = "") -> None:
        """The heat maps as a picture in the thread; a request of whoever wants them."""
        try:
            picture = (
                await self._adapter.explain_latest(place, person)
                if place
                else await self._adapter.explain(words.post_name(where["channel"], where["ts"]), person)
            )
        except DialogueError as error:
            return await self.whisper(where, str(error))
        try:
            await patiently(lambda: answer(self._upload(where, picture)))
        except SlackRefused as error:
            await self.whisper(where, f"I cannot post pictures here. {error}.")

    async def _upload(self, where: dict[str, str], picture: bytes) -> AsyncSlackResponse:
        return await self._client.files_upload_v2(
            file=picture,
            filename="where-the-words-came-from.png",
            title="Where the words came from",
            alt_txt="The picture, bright where the model looked: for the whole answer and for each word",
            channel=where["channel"],
            thread_ts=where["thread"],
        )

    async def greet(self, where: dict[str, str]) -> None:
        """What stands at the beginning of a thread in the assistant's view."""
        greeting = self._adapter.persona.greeting or GREETING
        await self.call(
            self._client.chat_postMessage(channel=where["channel"], thread_ts=where["thread"], text=greeting)
        )
        await self.suggest(where["channel"], where["thread"])

    async def suggest(self, channel: str, thread: str | None = None) -> None:
        """What could be asked; in the agent's view without a thread."""
        await suggest(self._client, channel, PROMPTS, thread)

    async def whisper(self, where: dict[str, str], text: str) -> None:
        """Shown to the person alone."""
        thread = where.get("thread")
        await self.call(
            self._client.chat_postEphemeral(
                channel=where["channel"], user=where["user"], thread_ts=thread, text=words.escaped(text)
            )
        )

    async def call(self, call: Any) -> None:
        """One that may fail."""
        try:
            await answer(call)
        except PlatformError as error:
            log.warning("%s", error)

    def go(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin with one of these, and come back at once."""
        task = asyncio.create_task(self._edge(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _edge(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (PlatformError, DialogueError) as error:
            log.warning("%s", error)
        except Exception:
            log.exception("something asked for in Slack failed")
