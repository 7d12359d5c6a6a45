"""The real adapter with the real discord.py, in the event loop of a test, against the pretended Discord."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from discord_standin.rules import Json
from discord_standin.running import Discord
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import ConfigDict, Field
from scripted_chat_model import ScriptedChatModel

from visavis.bot.adapters.process import run_service
from visavis.bot.conversations import Conversations
from visavis.bot.discord.service import DiscordService
from visavis.bot.settings import Settings


def discord_settings(settings: Settings, discord: Discord, **more: object) -> Settings:
    """Those of a bot on the pretended Discord."""
    platform = discord.platform
    own = {"discord_token": platform.token, "discord_api_url": discord.api, "discord_file_hosts": (platform.url,)}
    return settings.model_copy(update=own | more)


_PIECE = 40


class Bot:
    """One process of the adapter, as far as a test can have that."""

    def __init__(self, settings: Settings, model: BaseChatModel) -> None:
        self.conversations = Conversations(settings, model)
        self.service = DiscordService(settings, self.conversations)
        self._settings = settings
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(
            run_service(self.service, self.conversations, self._stop, self._settings.drain_s)
        )

    async def ended(self) -> None:
        """Raises what the process would have ended with."""
        assert self._task is not None
        await self._task

    async def stop(self) -> None:
        """As SIGTERM does."""
        self._stop.set()
        await self.ended()


@contextlib.asynccontextmanager
async def running_bot(
    discord: Discord, settings: Settings, model: BaseChatModel, *, listening: int = 1
) -> AsyncIterator[Bot]:
    """A bot that has said hello; `listening`: how many there are then."""
    bot = Bot(settings, model)
    bot.start()
    waiting = asyncio.create_task(discord.gateway.until_listening(listening))
    try:
        await asyncio.wait([waiting, bot._task], return_when=asyncio.FIRST_COMPLETED)
        if bot._task and bot._task.done():
            await bot.ended()
        yield bot
    finally:
        waiting.cancel()
        await bot.stop()


def labels(message: Json) -> list[str]:
    """The buttons below a message."""
    return [button["label"] for row in message["components"] for button in row["components"]]


async def answers(discord: Discord, channel: Json, number: int = 1) -> list[Json]:
    """The last messages of so many answers in a channel, as soon as they have ended."""

    def ended() -> list[Json] | None:
        found = [one for one in discord.people.shown(channel) if "Regenerate" in labels(one)]
        return found if len(found) == number else None

    found: list[Json] = await discord.people.until(ended)
    return found


def texts(messages: list[Json]) -> list[str]:
    """What they read."""
    return [message["content"] for message in messages]


class Speaker(ScriptedChatModel):
    """Says its answer in pieces as they are; with a `gate` it waits for that first. `begun`: it has been asked."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    looks: bool = True
    gate: asyncio.Event | None = None
    begun: asyncio.Event = Field(default_factory=asyncio.Event)

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        self.asked.append(messages)
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        for start in range(0, len(self.answer), _PIECE):
            await asyncio.sleep(self.pause_s)
            yield ChatGenerationChunk(message=AIMessageChunk(self.answer[start : start + _PIECE]))
        async for chunk in ScriptedChatModel(answer="", looks=self.looks)._astream(messages):
            yield chunk
