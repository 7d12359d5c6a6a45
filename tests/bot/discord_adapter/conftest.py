"""The pretended Discord with a server and a channel, and a bot that says what a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator

import discord
import pytest
from discord_bot import Bot, Speaker, discord_settings, running_bot
from discord_standin.platform import Platform, Times
from discord_standin.rules import Json
from discord_standin.running import Discord, running_discord

from visavis.bot.settings import Settings
from visavis.dialogue.store_client import connect


@pytest.fixture
async def standin(monkeypatch: pytest.MonkeyPatch, store_url: str) -> AsyncIterator[Discord]:
    """Afterwards it has nothing to complain of, and nobody was rung."""
    redis = connect(store_url)
    await redis.flushall()
    await redis.aclose()
    monkeypatch.setattr(discord.http.Route, "BASE", discord.http.Route.BASE)
    monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", None)
    async with running_discord(Platform(Times(heartbeat_s=5))) as running:
        yield running
    assert running.platform.complaints == []
    assert running.platform.pings == []
    assert running.platform.buckets.impatient == 0


@pytest.fixture
def place(standin: Discord) -> Json:
    return standin.platform.add_channel(guild=standin.platform.add_guild())


@pytest.fixture
def model() -> Speaker:
    return Speaker()


@pytest.fixture
def bot_settings(settings: Settings, standin: Discord, place: Json) -> Settings:
    return discord_settings(settings, standin)


@pytest.fixture
async def bot(standin: Discord, bot_settings: Settings, model: Speaker) -> AsyncIterator[Bot]:
    async with running_bot(standin, bot_settings, model) as running:
        yield running
