"""What could be asked, as Slack's assistant offers it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from visavis.bot.adapters.platform import PlatformError
from visavis.bot.slack.calls import answer

log = logging.getLogger(__name__)

_MOST_PROMPTS = 4


def prompts(questions: Sequence[str]) -> list[dict[str, str]]:
    """Questions as prompts."""
    return [{"title": one, "message": one} for one in questions[:_MOST_PROMPTS]]


async def suggest(
    client: AsyncWebClient, channel: str, offered: Sequence[dict[str, str]], thread: str | None = None
) -> None:
    """Offer prompts; in the agent's view without a thread. Where that cannot be, nothing is lost."""
    where: dict[str, Any] = {"channel_id": channel, "prompts": list(offered)}
    if thread is not None:
        where["thread_ts"] = thread
    try:
        await answer(client.api_call("assistant.threads.setSuggestedPrompts", json=where))
    except PlatformError as error:
        log.info("nothing is suggested: %s", error)
