"""Answers on Discord: where they stand, who sees them, and how they are stopped, asked again and explained."""

from __future__ import annotations

import asyncio

import pytest
from discord_bot import Bot, Speaker, answers, labels, running_bot, texts
from discord_standin import shapes
from discord_standin.rules import Json
from discord_standin.running import Discord

from visavis.bot.settings import Settings
from visavis.dialogue.limits import Limits
from visavis.dialogue.rate_limits import RateLimits

ANSWER = "a red square on white"


def asked_words(model: Speaker) -> list[str]:
    """What people said in the conversation that the model was asked in last."""
    messages = [message for message in model.asked[-1] if message.type == "human"]
    return [message.text for message in messages]


def seen_pictures(model: Speaker) -> int:
    """How many pictures the last question came with."""
    content = model.asked[-1][-1].content
    return sum(isinstance(block, dict) and block["type"] == "image" for block in content)


async def test_ask_with_a_picture_is_answered_in_its_place(
    standin: Discord, place: Json, bot: Bot, model: Speaker, photo: bytes
) -> None:
    people = standin.people
    asked = people.command(people.anna, place, "ask", prompt="What is this?", image=people.upload(photo))
    [shown] = await answers(standin, place)
    assert shown is people.answer(asked)
    assert (shown["content"], labels(shown)) == (ANSWER, ["Regenerate", "Show why"])
    assert seen_pictures(model) == 1


async def test_the_menu_of_a_message_describes_its_picture(
    standin: Discord, place: Json, bot: Bot, model: Speaker, photo: bytes
) -> None:
    people = standin.people
    theirs = people.say(people.bert, place, "my holiday", [people.upload(photo)])
    people.menu(people.anna, place, "Describe picture", theirs)
    await answers(standin, place)
    assert (seen_pictures(model), asked_words(model)) == (1, ["Describe this picture."])
    without = people.menu(people.anna, place, "Describe picture", people.say(people.bert, place, "no picture"))
    await people.until(lambda: without.acked)
    assert "no picture" in people.answer(without)["content"]


async def test_mentions_and_direct_messages_are_answered_and_others_are_not(
    standin: Discord, place: Json, bot: Bot, model: Speaker, photo: bytes
) -> None:
    people, dm = standin.people, standin.platform.add_channel(shapes.DM)
    people.say(people.anna, place, "nothing for the bot")
    asked = people.say(people.anna, place, "@bot what is this?", [people.upload(photo)])
    [shown] = await answers(standin, place)
    assert shown["message_reference"]["message_id"] == asked["id"]
    assert asked_words(model) == ["what is this?"]
    people.say(people.anna, dm, "and in private?")
    await answers(standin, dm)
    assert asked_words(model) == ["and in private?"]
    assert len(model.asked) == 2


async def test_an_answer_to_somebodys_picture_shows_that_picture(
    standin: Discord, place: Json, bot: Bot, model: Speaker, photo: bytes
) -> None:
    people = standin.people
    theirs = people.say(people.bert, place, "look", [people.upload(photo)])
    people.say(people.anna, place, "@bot what is that?", reply_to=theirs)
    await answers(standin, place)
    assert seen_pictures(model) == 1


async def test_a_thread_is_one_conversation_and_a_channel_one_of_each_person(
    standin: Discord, place: Json, bot: Bot, model: Speaker
) -> None:
    people, thread = standin.people, standin.platform.add_channel(shapes.THREAD, parent=place)
    standin.platform.tell("THREAD_CREATE", thread, place)
    for number, (who, channel) in enumerate([(people.anna, place), (people.bert, place)], 1):
        people.say(who, channel, f"@bot {who['username']}?")
        await answers(standin, place, number)
        assert asked_words(model) == [f"{who['username']}?"]
    for number, who in enumerate((people.anna, people.bert), 1):
        people.say(who, thread, f"@bot {who['username']}?")
        await answers(standin, thread, number)
    assert asked_words(model) == ["anna?", "bert?"]


async def test_a_slow_model_is_acknowledged_at_once_and_can_be_stopped(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings, model):
        asked = people.command(people.anna, place, "ask", prompt="Take your time")
        await people.until(lambda: asked.acked)
        await model.begun.wait()
        await people.until(lambda: "Stop" in labels(people.answer(asked)))
        assert "is looking" in people.answer(asked)["content"]
        people.press(people.anna, people.answer(asked), "Stop")
        [shown] = await answers(standin, place)
    assert shown["content"] == "(stopped)"


async def test_a_mention_of_a_slow_model_can_be_stopped_by_who_has_asked_alone(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings, model):
        people.say(people.anna, place, "@bot take your time")
        [draft] = await people.until(lambda: people.shown(place))
        foreign = people.press(people.bert, draft, "Stop")
        await people.until(lambda: foreign.acked)
        assert people.answer(foreign)["flags"] & shapes.EPHEMERAL
        assert "Stop" in labels(draft)
        people.press(people.anna, draft, "Stop")
        assert texts(await answers(standin, place)) == ["(stopped)"]


async def test_regenerate_asks_again_below_and_may_be_pressed_again(
    standin: Discord, place: Json, bot: Bot, model: Speaker, photo: bytes
) -> None:
    people = standin.people
    people.say(people.anna, place, "@bot what is this?", [people.upload(photo)])
    [first] = await answers(standin, place)
    model.answer = "a blue square"
    people.press(people.anna, first, "Regenerate")
    [second] = await people.until(lambda: [one for one in people.shown(place) if one["content"] == "a blue square"])
    await people.until(lambda: "Regenerate" in labels(second))
    assert labels(first) == ["Regenerate", "Show why"]
    assert asked_words(model) == ["what is this?"]


async def test_show_why_hangs_a_heat_map_at_a_message(standin: Discord, place: Json, bot: Bot, photo: bytes) -> None:
    people = standin.people
    people.say(people.anna, place, "@bot what is this?", [people.upload(photo)])
    [shown] = await answers(standin, place)
    wanted = people.press(people.anna, shown, "Show why")
    [picture] = await people.until(lambda: wanted.acked and people.answer(wanted)["attachments"])
    assert standin.platform.files[picture["id"]].startswith(b"\x89PNG")


async def test_heat_maps_count_as_requests_of_who_wants_them(
    standin: Discord, place: Json, bot: Bot, photo: bytes
) -> None:
    people = standin.people
    people.say(people.anna, place, "@bot what is this?", [people.upload(photo)])
    [shown] = await answers(standin, place)
    bot.conversations.manager.rates = RateLimits(Limits(requests_per_minute=1))
    for said in ("", "too much"):
        wanted = people.press(people.anna, shown, "Show why")
        await people.until(lambda wanted=wanted: wanted.acked and people.answer(wanted)["content"])
        assert said in people.answer(wanted)["content"]
    assert people.answer(wanted)["attachments"] == []


async def test_an_error_is_whispered(standin: Discord, place: Json, bot: Bot) -> None:
    people = standin.people
    asked = people.command(people.anna, place, "ask", prompt="?", image=people.upload(b"<html>", "@everyone.png"))
    await people.until(lambda: whispers(standin, place))
    assert "page" in whispers(standin, place)[0]
    assert asked.original not in standin.platform.messages


def whispers(standin: Discord, channel: Json) -> list[str]:
    """What the bot said to one person alone."""
    found = [one for one in standin.platform.messages.values() if one["flags"] & shapes.EPHEMERAL]
    return [one["content"] for one in found if one["channel_id"] == channel["id"] and one["content"]]


@pytest.mark.parametrize("text", ["x" * 4_000, "word " * 800, "```python\n" + "print(1)\n" * 500 + "```"])
async def test_long_answers_are_cut_at_discords_limit(
    standin: Discord, place: Json, bot: Bot, model: Speaker, text: str
) -> None:
    model.answer, people = text, standin.people
    people.command(people.anna, place, "ask", prompt="Tell me")
    await answers(standin, place)
    shown = texts(people.shown(place))
    assert len(shown) > 1
    assert "".join("".join(shown).split()).replace("```python", "").replace("```", "") == (
        "".join(text.split()).replace("```python", "").replace("```", "")
    )
    assert all(part.count("```") % 2 == 0 for part in shown)
    assert [labels(one) for one in people.shown(place)[:-1]] == [[]] * (len(shown) - 1)
