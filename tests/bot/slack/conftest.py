"""Slack's stand-in and our process's parts against it, in one event loop."""

import functools
from collections.abc import AsyncIterator

import pytest
from slack_running import Answering, answering_slack
from slack_stand_in import SlackStandIn

from visavis.bot.settings import Settings
from visavis.bot.slack.platform import SlackPlatform
from visavis.dialogue.store_client import connect


@pytest.fixture(autouse=True)
async def empty_store(store_url: str) -> None:
    """A turn that another test left behind would be taken up by the next one."""
    redis = connect(store_url)
    await redis.flushall()
    await redis.aclose()


@pytest.fixture
async def slack() -> AsyncIterator[SlackStandIn]:
    async with SlackStandIn().running() as stand_in:
        yield stand_in


@pytest.fixture
def answering(slack: SlackStandIn, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Answering:
    """`async with answering(model, drain_s=..., slack_channels=...) as service`: one process's parts, connected."""
    monkeypatch.setattr(SlackPlatform, "edit_interval_s", 0.05)
    return functools.partial(answering_slack, slack, settings)
