"""Getting on to Discord: what is refused is said in a sentence, what is away is tried again."""

from __future__ import annotations

import asyncio

import pytest
from discord_bot import Bot, Speaker, answers, discord_settings, running_bot
from discord_standin import shapes
from discord_standin.platform import MESSAGE_CONTENT
from discord_standin.rules import Json
from discord_standin.running import Discord

from visavis.bot.adapters import process
from visavis.bot.adapters.process import SetupError
from visavis.bot.discord.check import check_setup
from visavis.bot.settings import Settings


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"discord_token": None}, "VISAVIS_DISCORD_TOKEN is not set"),
        ({"discord_token": "wrong"}, "Discord refuses the token"),
        ({"discord_message_content": True}, "switch on Message Content"),
        ({"discord_shard": "4/2"}, "code 4010"),
    ],
)
async def test_what_discord_refuses_ends_the_process_with_a_sentence(
    standin: Discord, settings: Settings, more: dict[str, object], sentence: str
) -> None:
    with pytest.raises(SetupError, match=sentence):
        async with running_bot(standin, discord_settings(settings, standin, **more), Speaker()):
            pass


async def test_no_privileged_intent_is_asked_for_by_default(standin: Discord, place: Json, bot: Bot) -> None:
    [session] = standin.gateway.sessions.values()
    assert session.intents == 1 << 0 | 1 << 9 | 1 << 12


async def test_an_outage_at_the_start_is_waited_for(
    standin: Discord, place: Json, bot_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_FIRST_PAUSE_S", 0.05)
    standin.rest.is_down = standin.gateway.is_down = True
    people, bot = standin.people, Bot(bot_settings, Speaker())
    bot.start()
    await people.until(lambda: len(standin.platform.requests) > 2)
    standin.rest.is_down = False
    await people.until(lambda: standin.platform.commands)
    standin.gateway.is_down = False
    await standin.gateway.until_listening()
    people.say(people.anna, place, "@bot are you there?")
    await answers(standin, place)
    await bot.stop()


async def test_what_an_earlier_process_left_is_finished_as_soon_as_discord_is_back(
    standin: Discord,
    place: Json,
    bot_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(process, "_FIRST_PAUSE_S", 0.05)
    people, model = standin.people, Speaker(gate=asyncio.Event())
    async with running_bot(standin, bot_settings.model_copy(update={"drain_s": 0}), model):
        people.say(people.anna, place, "@bot are you there?")
        await people.until(lambda: people.shown(place))
    standin.rest.is_down, begun = True, Bot(bot_settings, Speaker())
    begun.start()
    seen = len(standin.platform.requests)
    await people.until(lambda: len(standin.platform.requests) > seen + 2)
    standin.rest.is_down = False
    assert [one["content"] for one in await answers(standin, place)] == [Speaker().answer]
    await begun.stop()
    assert "Traceback" not in caplog.text


async def test_threads_are_followed_where_the_intent_is_switched_on(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    standin.platform.portal_intents, people, model = MESSAGE_CONTENT, standin.people, Speaker()
    thread = standin.platform.add_channel(shapes.THREAD, parent=place)
    settings = bot_settings.model_copy(update={"discord_message_content": True})
    async with running_bot(standin, settings, model):
        people.say(people.anna, thread, "not yet for the bot")
        people.say(people.anna, thread, "@bot now it is")
        await answers(standin, thread)
        people.say(people.bert, thread, "and this as well")
        await answers(standin, thread, 2)
        people.say(people.bert, place, "but not this")
        people.say(people.bert, place, "@bot this again")
        await answers(standin, place)
    assert len(model.asked) == 3


async def test_shards_share_the_servers(standin: Discord, place: Json, bot_settings: Settings) -> None:
    models = [Speaker(), Speaker()]
    halves = [bot_settings.model_copy(update={"discord_shard": f"{number}/2"}) for number in range(2)]
    async with (
        running_bot(standin, halves[0], models[0]),
        running_bot(standin, halves[1], models[1], listening=2),
    ):
        standin.people.say(standin.people.anna, place, "@bot who is it?")
        await answers(standin, place)
    owner = (int(place["guild_id"]) >> 22) % 2
    assert [len(model.asked) for model in models] == [int(owner == number) for number in range(2)]


async def test_check_says_what_is_there_and_what_is_missing(
    standin: Discord, place: Json, bot_settings: Settings
) -> None:
    findings = await check_setup(bot_settings)
    assert all(good for good, _ in findings)
    assert "permissions=" in findings[-1][1]
    guild = next(iter(standin.platform.guilds.values()))
    guild["roles"][0]["permissions"] = str(shapes.EVERYTHING & ~shapes.ATTACH)
    wants_content = bot_settings.model_copy(update={"discord_message_content": True})
    bad = [sentence for good, sentence in await check_setup(wants_content) if not good]
    assert ["attach_files" in bad[1], "Message Content" in bad[0]] == [True, True]
    assert standin.platform.commands == []


@pytest.mark.parametrize(("token", "sentence"), [("wrong", "refuses the token"), (None, "is not set")])
async def test_check_names_a_token_that_is_wrong_or_missing(
    standin: Discord, bot_settings: Settings, token: str | None, sentence: str
) -> None:
    [(good, said)] = await check_setup(bot_settings.model_copy(update={"discord_token": token}))
    assert not good
    assert sentence in said


async def test_check_says_that_discord_is_away(standin: Discord, bot_settings: Settings) -> None:
    standin.rest.is_down = True
    [(good, said)] = await check_setup(bot_settings)
    assert (good, "503" in said) == (False, True)


async def test_a_gateway_that_sends_us_away_later_is_told_and_tried_again(
    standin: Discord, place: Json, bot: Bot, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.bot.discord.service._AGAIN_S", 0.05)
    await standin.gateway.drop_all(4004)
    await asyncio.wait_for(standin.gateway.until_listening(), 30)
    await standin.people.until(lambda: standin.gateway.identified == 2)
    assert "Discord has sent us away" in caplog.text
    standin.people.say(standin.people.anna, place, "@bot still there?")
    await answers(standin, place)
