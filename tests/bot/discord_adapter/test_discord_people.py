"""Whose conversation it is on Discord: joined channels, what is forgotten, what a server's people choose."""

from __future__ import annotations

import re

import pytest
from discord_bot import Bot, Speaker, answers, labels, running_bot, texts
from discord_standin import shapes
from discord_standin.platform import Interaction
from discord_standin.rules import Json
from discord_standin.running import Discord

from visavis.bot.discord import preferences
from visavis.bot.settings import Settings
from visavis.dialogue.manager import DialogueManager


async def said(standin: Discord, asked: Interaction) -> str:
    """What a command is answered with, which only who gave it sees."""
    await standin.people.until(lambda: asked.acked and standin.people.answer(asked)["content"])
    answer = standin.people.answer(asked)
    assert answer["flags"] & shapes.EPHEMERAL
    return str(answer["content"])


def manager_of(bot: Bot) -> DialogueManager:
    return bot.conversations.manager


async def test_a_code_joins_the_person_with_the_one_on_the_web_and_one_forget_clears_both(
    standin: Discord, place: Json, bot: Bot
) -> None:
    people, manager = standin.people, manager_of(bot)
    await manager.new_session("web:visitor")
    people.command(people.anna, place, "ask", prompt="What is this?")
    await answers(standin, place)
    code = re.search(r"link ([\w-]+)", await said(standin, people.command(people.anna, place, "link")))
    assert code is not None
    names = await manager.persons.accept_link("web:visitor", code[1])
    assert names == [f"discord:{people.anna['id']}", "web:visitor"]
    assert [one.title for one in await manager.persons.sessions("web:visitor")] == ["What is this?"]
    assert "Deleted: 2 conversation" in await said(
        standin, people.command(people.anna, place, "forget", everything=True)
    )
    assert await manager.persons.sessions("web:visitor") == []


async def test_a_code_from_the_web_is_taken_and_a_wrong_one_is_told(standin: Discord, place: Json, bot: Bot) -> None:
    people = standin.people
    code = await manager_of(bot).persons.offer_link("web:visitor")
    assert "Joined: discord, web" in await said(standin, people.command(people.anna, place, "link", code=code))
    again = await said(standin, people.command(people.bert, place, "link", code=code))
    assert "not known" in again
    refused = people.command(people.bert, place, "link", code="x'; what is this?")
    assert "no code" in await said(standin, refused)


async def test_forget_and_new_are_about_this_place_alone(
    standin: Discord, place: Json, bot: Bot, model: Speaker
) -> None:
    people, other = standin.people, standin.platform.add_channel(guild=standin.platform.guilds[place["guild_id"]])
    for channel in (place, other):
        people.say(people.anna, channel, "@bot hello")
        await answers(standin, channel)
    assert "Deleted: 1 conversation" in await said(standin, people.command(people.anna, place, "forget"))
    assert "no conversation here" in await said(standin, people.command(people.anna, place, "forget"))
    assert len(await manager_of(bot).persons.sessions(f"discord:{people.anna['id']}")) == 1
    assert "new conversation" in await said(standin, people.command(people.anna, other, "new"))
    people.say(people.anna, other, "@bot who am I?")
    await answers(standin, other, 2)
    assert [message.type for message in model.asked[-1]].count("human") == 1


async def test_buttons_of_what_is_forgotten_say_so(standin: Discord, place: Json, bot: Bot, photo: bytes) -> None:
    people = standin.people
    people.say(people.anna, place, "@bot what is this?", [people.upload(photo)])
    [shown] = await answers(standin, place)
    await said(standin, people.command(people.anna, place, "forget"))
    why = people.press(people.anna, shown, "Show why")
    await people.until(lambda: why.acked and "still known" in people.answer(why)["content"])
    people.press(people.anna, shown, "Regenerate")
    await people.until(lambda: [one for one in standin.platform.messages.values() if one["flags"] & shapes.EPHEMERAL])
    assert len(people.shown(place)) == 2


async def test_a_server_chooses_who_reads_answers_to_commands(
    standin: Discord, place: Json, bot: Bot, photo: bytes
) -> None:
    people = standin.people
    chosen = people.command(people.bert, place, "settings", private=True)
    assert "shown to who has asked" in await said(standin, chosen)
    asked = people.command(people.anna, place, "ask", prompt="What is this?", image=people.upload(photo))
    await people.until(lambda: asked.acked and "Regenerate" in labels(people.answer(asked)))
    assert people.answer(asked)["flags"] & shapes.EPHEMERAL
    why = people.press(people.anna, people.answer(asked), "Show why")
    await people.until(lambda: why.acked and people.answer(why)["attachments"])
    assert people.answer(why)["flags"] & shapes.EPHEMERAL
    assert people.shown(place) == []
    elsewhere = standin.platform.add_channel(guild=standin.platform.add_guild())
    people.command(people.anna, elsewhere, "ask", prompt="What is this?")
    await answers(standin, elsewhere)


async def test_a_server_chooses_where_answers_are_given(
    standin: Discord, place: Json, bot_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when another process was told."""
    monkeypatch.setattr(preferences, "_REMEMBERED_S", 0)
    people, other = standin.people, standin.platform.add_channel(guild=standin.platform.guilds[place["guild_id"]])
    model = Speaker()
    async with running_bot(standin, bot_settings, Speaker()):
        said_so = await said(standin, people.command(people.bert, place, "settings", channel=place))
        assert f"<#{place['id']}>" in said_so
    async with running_bot(standin, bot_settings, model):
        people.say(people.anna, other, "@bot here?")
        assert "do not answer" in await said(standin, people.command(people.anna, other, "ask", prompt="here?"))
        thread = standin.platform.add_channel(shapes.THREAD, parent=place)
        standin.platform.tell("THREAD_CREATE", thread, place)
        for channel in (place, thread):
            people.say(people.anna, channel, "@bot here?")
            await answers(standin, channel)
        assert len(model.asked) == 2
        everywhere = people.command(people.bert, place, "settings", channel=place, answers=False)
        assert "all channels" in await said(standin, everywhere)
        people.say(people.anna, other, "@bot and now?")
        await answers(standin, other)


async def test_words_are_commands_in_direct_messages_as_well(standin: Discord, place: Json, bot: Bot) -> None:
    people, dm = standin.people, standin.platform.add_channel(shapes.DM)
    people.say(people.anna, dm, "help")
    [shown] = await people.until(lambda: people.shown(dm))
    assert "`forget everything`" in shown["content"]
    people.say(people.anna, place, "@bot link")
    [refused] = await people.until(lambda: people.shown(place))
    assert "direct message" in refused["content"]
    people.say(people.anna, place, "@bot")
    await people.until(lambda: "`forget everything`" in texts(people.shown(place))[-1])
