"""Discord at its worst: repeats, limits, lost lines, ended tokens, outages."""

from __future__ import annotations

import asyncio
import time

import pytest
from discord_bot import Bot, Speaker, answers, labels, running_bot, texts
from discord_standin import shapes
from discord_standin.platform import Interaction
from discord_standin.rules import Json
from discord_standin.running import Discord

from visavis.bot.settings import Settings

ANSWER = "a red square on white"


async def test_repeats_are_answered_once(standin: Discord, place: Json, bot: Bot, model: Speaker) -> None:
    people = standin.people
    asked = people.say(people.anna, place, "@bot once?")
    for _ in range(5):
        people.repeat(asked)
    command = people.command(people.anna, place, "ask", prompt="once?")
    for _ in range(5):
        people.again(command)
    await answers(standin, place, 2)
    people.repeat(asked)
    people.say(people.anna, place, "@bot and next?")
    await answers(standin, place, 3)
    assert len(model.asked) == 3


async def test_two_copies_answer_everything_once(standin: Discord, place: Json, bot_settings: Settings) -> None:
    people, models = standin.people, [Speaker(), Speaker()]
    async with (
        running_bot(standin, bot_settings, models[0]),
        running_bot(standin, bot_settings, models[1], listening=2),
    ):
        for number in range(3):
            people.say(people.anna, place, f"@bot {number}")
            people.command(people.bert, place, "ask", prompt=f"{number}")
        shown = await answers(standin, place, 6)
        people.press(people.anna, next(one for one in shown if one["type"] == 19), "Regenerate")
        await answers(standin, place, 7)
        await people.until(lambda: sum(len(model.asked) for model in models) == 7)
    assert len(people.shown(place)) == 7


@pytest.mark.parametrize("scope", ["user", "shared", "global"])
async def test_a_storm_of_429_is_waited_out_and_the_whole_answer_comes(
    standin: Discord, place: Json, bot: Bot, model: Speaker, scope: str
) -> None:
    model.answer, model.pause_s = "word " * 100, 0.05
    people, buckets = standin.people, standin.platform.buckets
    for route in ("create", "edit"):
        buckets.storm(route, 3, 0.4, scope)
    buckets.storm("webhook", 3, 0.4)
    people.say(people.anna, place, "@bot tell me")
    people.command(people.bert, place, "ask", prompt="tell me")
    assert texts(await answers(standin, place, 2)) == [model.answer.strip()] * 2
    assert buckets.refused == 9


async def test_a_longer_storm_than_the_library_waits_for(
    standin: Discord, place: Json, bot: Bot, model: Speaker
) -> None:
    people, buckets = standin.people, standin.platform.buckets
    buckets.storm("edit", 7, 0.1)
    people.say(people.anna, place, "@bot tell me")
    await answers(standin, place)
    assert buckets.refused == 7


async def test_edits_are_few_and_the_last_one_comes(standin: Discord, place: Json, bot: Bot, model: Speaker) -> None:
    """A hundred pieces to each of three people: the channel's budget is one call in 1.2 s and a burst of three."""
    model.answer, model.pause_s = "0123456789 " * 120, 0.02
    people, begun = standin.people, time.monotonic()
    for _ in range(3):
        people.say(people.anna, place, "@bot tell me")
    shown = await answers(standin, place, 3)
    calls = [path for method, path in standin.platform.requests if "/messages" in path]
    assert len(calls) <= 4 + (time.monotonic() - begun) / 1.2
    assert standin.platform.buckets.refused == 0
    assert texts(shown) == [model.answer.strip()] * 3


async def test_lost_lines_lose_nothing(standin: Discord, place: Json, bot_settings: Settings) -> None:
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings, model):
        people.say(people.anna, place, "@bot first")
        await model.begun.wait()
        await standin.gateway.reconnect_all()
        people.say(people.bert, place, "@bot second, during op 7")
        await people.until(lambda: standin.gateway.resumed == 1)
        await standin.gateway.drop_all(4000)
        command = people.command(people.bert, place, "ask", prompt="third, on a dead line")
        await people.until(lambda: standin.gateway.resumed == 2)
        assert model.gate is not None
        model.gate.set()
        await answers(standin, place, 3)
        assert command.acked
        await standin.gateway.invalidate_all()
        await people.until(lambda: standin.gateway.identified == 2)
        people.say(people.anna, place, "@bot fourth, in a new session")
        await answers(standin, place, 4)
    assert len(model.asked) == 4


async def ask_and_let_the_token_end(standin: Discord, place: Json, settings: Settings) -> tuple[Speaker, Interaction]:
    """A long answer, of which the first half came in time."""
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, settings, model):
        asked = people.command(people.anna, place, "ask", prompt="Take your time")
        await people.until(lambda: asked.acked and "Stop" in labels(people.answer(asked)))
        standin.platform.times.token_s = 0
        assert model.gate is not None
        model.gate.set()
        await people.until(lambda: [one for one in standin.platform.messages.values() if one["content"] == ANSWER])
    return model, asked


async def test_after_the_token_has_ended_the_answer_comes_as_a_message(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    _, asked = await ask_and_let_the_token_end(standin, place, bot_settings)
    shown = standin.people.shown(place)[-1]
    assert (shown["content"], labels(shown)) == (ANSWER, ["Regenerate"])
    assert shown["message_reference"]["message_id"] == asked.original


async def test_a_private_answer_stays_private_after_the_token_has_ended(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    people = standin.people
    async with running_bot(standin, bot_settings, Speaker()):
        chosen = people.command(people.bert, place, "settings", permissions=shapes.MANAGE_GUILD, private=True)
        await people.until(lambda: chosen.acked and "who has asked" in people.answer(chosen)["content"])
    await ask_and_let_the_token_end(standin, place, bot_settings)
    assert ANSWER not in texts(people.shown(place))
    [dm] = [channel for channel in standin.platform.channels.values() if channel["type"] == shapes.DM]
    assert texts(people.shown(dm)) == [ANSWER]


async def test_an_outage_delays_the_end_and_loses_nothing(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings, model):
        people.say(people.anna, place, "@bot are you there?")
        await people.until(lambda: people.shown(place))
        standin.rest.is_down = True
        assert model.gate is not None
        model.gate.set()
        seen = len(standin.platform.requests)
        await people.until(lambda: len(standin.platform.requests) > seen)
        standin.rest.is_down = False
        assert texts(await answers(standin, place)) == [ANSWER]


async def test_where_a_message_takes_no_more_edits_another_one_follows(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings, model):
        people.say(people.anna, place, "@bot take an hour")
        [draft] = await people.until(lambda: people.shown(place))
        standin.platform.old.add(draft["id"])
        assert model.gate is not None
        model.gate.set()
        assert texts(await answers(standin, place)) == [ANSWER]
    assert len(people.shown(place)) == 2


@pytest.mark.parametrize("denied", [shapes.SEND, shapes.VIEW])
async def test_where_the_bot_may_not_speak_it_gives_up_and_answers_elsewhere(
    standin: Discord, place: Json, bot: Bot, model: Speaker, denied: int
) -> None:
    """Discord bans who goes on asking for what it has refused."""
    model.answer, model.pause_s = "word " * 100, 0.3
    people, other = standin.people, standin.platform.add_channel(guild=standin.platform.guilds[place["guild_id"]])
    standin.platform.denied[place["id"]] = denied
    people.say(people.anna, place, "@bot say something")
    people.say(people.anna, other, "@bot say something")
    await answers(standin, other)
    assert people.shown(place) == []
    assert standin.platform.invalid_requests <= 2


async def test_an_answer_that_somebody_deletes_stays_away(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings, model):
        people.say(people.anna, place, "@bot take your time")
        [draft] = await people.until(lambda: people.shown(place))
        del standin.platform.messages[draft["id"]]
        assert model.gate is not None
        model.gate.set()
        people.say(people.anna, place, "@bot and now?")
        assert texts(await answers(standin, place)) == [ANSWER]


async def test_the_store_away_is_said_to_who_asks(
    standin: Discord, place: Json, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = standin.people
    await people.until(lambda: standin.gateway.sessions)
    redis = bot.conversations.store._redis

    async def away(*_: object, **__: object) -> None:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(redis, "eval", away)
        asked = people.command(people.anna, place, "ask", prompt="?")
        await people.until(lambda: asked.acked and "store does not answer" in people.answer(asked)["content"])
        people.say(people.anna, place, "@bot ?")
        await people.until(lambda: [one for one in people.shown(place) if one["type"] == 19])
    people.say(people.anna, place, "@bot and now?")
    assert texts(await answers(standin, place)) == [ANSWER]


async def test_a_server_that_is_not_there_yet_has_the_same_conversation(
    standin: Discord, place: Json, bot: Bot, model: Speaker
) -> None:
    """After a start, messages come before Discord has described all servers."""
    people, late = standin.people, standin.platform.add_guild()
    channel = standin.platform.add_channel(guild=late)
    people.say(people.anna, channel, "@bot before")
    await answers(standin, channel)
    standin.platform.tell("GUILD_CREATE", late, channel)
    people.say(people.anna, channel, "@bot after")
    await answers(standin, channel, 2)
    assert [message.text for message in model.asked[-1] if message.type == "human"] == ["before", "after"]


async def test_what_discord_does_not_tell_of_its_messages_is_found_out(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    standin.platform.tells_responses = False
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings, model):
        asked = people.command(people.anna, place, "ask", prompt="Take your time")
        await people.until(lambda: asked.acked and "Stop" in labels(people.answer(asked)))
        people.press(people.anna, people.answer(asked), "Stop")
        assert texts(await answers(standin, place)) == ["(stopped)"]
