"""One Slack process's parts in the event loop of a test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from scripted_chat_model import ScriptedChatModel
from slack_stand_in import APP_TOKEN, BOT, BOT_TOKEN, SlackStandIn

from visavis.bot.adapters.process import run_service
from visavis.bot.conversations import Conversations
from visavis.bot.settings import Settings
from visavis.bot.slack.service import SlackService

ASK = f"<@{BOT}> what is this?"
Answering = Callable[..., AbstractAsyncContextManager[SlackService]]


@contextlib.asynccontextmanager
async def answering_slack(
    slack: SlackStandIn, settings: Settings, model: ScriptedChatModel | None = None, **changes: Any
) -> AsyncIterator[SlackService]:
    """Connected, as long as the context lasts; `changes` are settings."""
    tokens = {"slack_bot_token": BOT_TOKEN, "slack_app_token": APP_TOKEN, "slack_api_url": slack.api_url}
    own = settings.model_copy(update=tokens | changes)
    conversations = Conversations(own, model or ScriptedChatModel())
    service, stop = SlackService(own, conversations), asyncio.Event()
    before = len(slack.sockets)
    running = asyncio.create_task(run_service(service, conversations, stop, own.drain_s))
    try:
        if own.slack_app_token:
            await slack.until(lambda: len(slack.sockets) > before or running.done())
        yield service
    finally:
        stop.set()
        await running


def pictures(model: ScriptedChatModel, call: int = -1) -> int:
    return sum(
        isinstance(block, dict) and block["type"] == "image" for one in model.asked[call] for block in one.content
    )


def question(model: ScriptedChatModel, call: int = -1) -> str:
    content = model.asked[call][-1].content
    return content if isinstance(content, str) else " ".join(str(block) for block in content)


async def settled(service: SlackService) -> None:
    async with asyncio.timeout(60):
        while service.adapter._tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
