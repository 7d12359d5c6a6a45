"""What Discord's people may rely on: no button without use, no answer where none is wanted, no call that never ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import discord as library
import pytest
from discord_bot import Bot, Speaker, answers, discord_settings, labels, running_bot, texts
from discord_standin import shapes
from discord_standin.rules import Json
from discord_standin.running import Discord

from visavis.bot.adapters.platform import Limited
from visavis.bot.adapters.process import SetupError
from visavis.bot.discord import preferences, service
from visavis.bot.discord.check import check_setup
from visavis.bot.discord.replies import platform_errors
from visavis.bot.settings import Settings

ANSWER = "a red square on white"


def whispered(standin: Discord) -> list[str]:
    """What the bot said to one person alone."""
    found = [one for one in standin.platform.messages.values() if one["flags"] & shapes.EPHEMERAL]
    return [one["content"] for one in found if one["content"]]


async def test_what_cannot_be_asked_again_leaves_nothing_and_the_button_stays(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    people = standin.people
    async with running_bot(standin, bot_settings.model_copy(update={"turns_per_minute": 1}), Speaker()):
        people.say(people.anna, place, "@bot what is this?")
        [shown] = await answers(standin, place)
        people.press(people.anna, shown, "Regenerate")
        await people.until(lambda: whispered(standin))
        await people.until(lambda: people.shown(place) == [shown])
    assert "please wait" in whispered(standin)[0]
    assert labels(shown) == ["Regenerate"]


async def test_a_request_that_discord_never_answers_is_given_up_and_made_again(
    standin: Discord, place: Json, bot_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line to the gateway outlives what a request may take."""
    monkeypatch.setattr(service, "CALL_S", 0.5)
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings, model):
        people.say(people.anna, place, "@bot are you there?")
        await people.until(lambda: people.shown(place))
        standin.rest.hangs = True
        assert model.gate is not None
        model.gate.set()
        seen = len(standin.platform.requests)
        await people.until(lambda: len(standin.platform.requests) > seen + 1)
        standin.rest.hangs = False
        assert texts(await answers(standin, place)) == [ANSWER]
    assert standin.gateway.identified == 1


async def test_a_discord_that_hangs_does_not_keep_the_process_from_ending(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    people, bot = standin.people, Bot(bot_settings.model_copy(update={"drain_s": 0}), Speaker(gate=asyncio.Event()))
    bot.start()
    await standin.gateway.until_listening()
    standin.rest.hangs = True
    people.say(people.anna, place, "@bot are you there?")
    await people.until(lambda: [path for method, path in standin.platform.requests if path.endswith("/messages")])
    async with asyncio.timeout(60):
        await bot.stop()


async def test_where_a_server_may_have_chosen_silence_a_store_that_is_away_means_silence(
    standin: Discord, place: Json, bot: Bot, model: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, dm = standin.people, standin.platform.add_channel(shapes.DM)
    await people.until(lambda: standin.gateway.sessions)

    async def away(*_: object) -> None:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(bot.conversations.store._redis, "hgetall", away)
        people.say(people.anna, place, "@bot ?")
        people.command(people.anna, place, "ask", prompt="?")
        await people.until(lambda: whispered(standin))
        people.say(people.anna, dm, "?")
        await answers(standin, dm)
    assert "store does not answer" in whispered(standin)[0]
    assert people.shown(place) == []
    assert len(model.asked) == 1


async def test_buttons_are_silent_where_the_server_wants_silence(
    standin: Discord, place: Json, bot_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preferences, "_REMEMBERED_S", 0)
    people, other = standin.people, standin.platform.add_channel(guild=standin.platform.guilds[place["guild_id"]])
    async with running_bot(standin, bot_settings, model := Speaker()):
        people.say(people.anna, place, "@bot ?")
        [shown] = await answers(standin, place)
        chosen = people.command(people.bert, place, "settings", permissions=shapes.MANAGE_GUILD, channel=other)
        await people.until(lambda: chosen.acked and people.answer(chosen)["content"])
        people.press(people.anna, shown, "Regenerate")
        await people.until(lambda: any("do not answer" in said for said in whispered(standin)))
    assert len(model.asked) == 1


async def test_what_takes_no_more_text_shows_no_button_either(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings, model):
        asked = people.command(people.anna, place, "ask", prompt="Take your time")
        await people.until(lambda: asked.acked and "Stop" in labels(people.answer(asked)))
        standin.platform.times.token_s = 0
        assert model.gate is not None
        model.gate.set()
        await answers(standin, place)
        await people.until(lambda: labels(people.answer(asked)) == [])


@pytest.mark.parametrize("url", ["http://discord.example/api/v10", "ftp://x", "http://[", "nonsense"])
async def test_the_token_goes_nowhere_in_the_clear(standin: Discord, settings: Settings, url: str) -> None:
    own = discord_settings(settings, standin, discord_api_url=url)
    with pytest.raises(SetupError, match="https"):
        async with running_bot(standin, own, Speaker()):
            pass
    assert [good for good, _ in await check_setup(own)] == [False]
    assert standin.platform.requests == []


async def test_a_gateway_elsewhere_in_the_clear_is_not_connected_to(
    standin: Discord, bot_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standin.rest, "_gateway_url", lambda: "ws://evil.example/")
    with pytest.raises(SetupError, match="https"):
        async with running_bot(standin, bot_settings, Speaker()):
            pass


def test_a_limit_that_is_told_in_words_is_a_limit() -> None:
    response: Any = SimpleNamespace(status=429, reason="", headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    with pytest.raises(Limited) as limited, platform_errors():
        raise library.HTTPException(response, "too many")
    assert limited.value.retry_after_s == 5


async def test_a_promise_that_discord_took_without_a_word_is_kept(
    standin: Discord, place: Json, bot_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CALL_S", 0.5)
    people, standin.rest.forgets = standin.people, True
    async with running_bot(standin, bot_settings, Speaker()):
        asked = people.command(people.anna, place, "ask", prompt="What is this?")
        assert texts(await answers(standin, place)) == [ANSWER]
    assert people.answer(asked)["content"] == ANSWER
