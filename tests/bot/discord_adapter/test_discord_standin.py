"""The pretended Discord refuses what the real one refuses, and discord.py is at home in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import discord
import pytest
from discord_standin import rules, shapes
from discord_standin.platform import MESSAGE_CONTENT, Platform, Times
from discord_standin.rules import Json, Refusal
from discord_standin.running import Discord, running_discord
from yarl import URL

NOBODY = {"parse": []}


@pytest.fixture
async def standin(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Discord]:
    async with running_discord(Platform(Times(heartbeat_s=1))) as running:
        monkeypatch.setattr(discord.http.Route, "BASE", running.api)
        gateway = URL(running.platform.url.replace("http", "ws") + "/gateway/")
        monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", gateway)
        yield running


class Listener(discord.Client):
    """Keeps what it hears."""

    def __init__(self, intents: discord.Intents | None = None) -> None:
        super().__init__(intents=intents or discord.Intents(guilds=True, messages=True))
        self.heard: list[discord.Message] = []
        self.interactions: list[discord.Interaction] = []

    async def on_message(self, message: discord.Message) -> None:
        self.heard.append(message)

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        self.interactions.append(interaction)


@contextlib.asynccontextmanager
async def listening(standin: Discord, client: Listener) -> AsyncIterator[Listener]:
    async with client:
        await client.login(standin.platform.token)
        task = asyncio.create_task(client.connect())
        ready = asyncio.create_task(client.wait_until_ready())
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if task.done():
            task.result()
        yield client
    await task


async def test_content_comes_only_where_the_bot_is_named_or_the_intent_is_switched_on(standin: Discord) -> None:
    people, guild = standin.people, standin.platform.add_guild()
    place, dm = standin.platform.add_channel(guild=guild), standin.platform.add_channel(shapes.DM)
    async with listening(standin, Listener()) as client:
        people.say(people.anna, place, "nothing for you", [people.upload(b"x")])
        people.say(people.anna, place, "@bot what is this?")
        people.say(people.anna, dm, "and in private?")
        await people.until(lambda: len(client.heard) == 3)
    assert [message.content[-8:] for message in client.heard] == ["", "is this?", "private?"]
    assert client.heard[0].attachments == []
    standin.platform.portal_intents = MESSAGE_CONTENT
    async with listening(
        standin, Listener(discord.Intents(guilds=True, messages=True, message_content=True))
    ) as client:
        people.say(people.anna, place, "for everybody")
        await people.until(lambda: client.heard)
    assert client.heard[0].content == "for everybody"


async def test_an_intent_that_is_not_switched_on_and_a_wrong_token_are_refused(standin: Discord) -> None:
    with pytest.raises(discord.PrivilegedIntentsRequired):
        async with listening(standin, Listener(discord.Intents(guilds=True, message_content=True))):
            pass
    standin.platform.token += "x"
    other = Listener()
    async with other:
        with pytest.raises(discord.LoginFailure):
            await other.login("wrong")


async def test_after_op_7_a_lost_line_and_op_9_nothing_is_missed(standin: Discord) -> None:
    people, gateway = standin.people, standin.gateway
    dm = standin.platform.add_channel(shapes.DM)
    async with listening(standin, Listener()) as client:
        for number, break_off in enumerate((gateway.reconnect_all, gateway.drop_all), 1):
            await break_off()
            people.say(people.anna, dm, f"meanwhile {number}")
            await people.until(lambda number=number: len(client.heard) == number and gateway.resumed == number)
        await gateway.invalidate_all()
        await people.until(lambda: gateway.identified == 2)
        people.say(people.anna, dm, "again")
        await people.until(lambda: len(client.heard) == 3)
    assert [message.content for message in client.heard] == ["meanwhile 1", "meanwhile 2", "again"]
    assert standin.platform.complaints == []


async def test_an_interaction_is_answered_once_in_time_and_only_while_its_token_lives(standin: Discord) -> None:
    people, platform = standin.people, standin.platform
    dm = platform.add_channel(shapes.DM)
    platform.commands = [{"id": "1", "type": 1, "name": "ask", "options": []}]
    async with listening(standin, Listener()) as client:
        made = people.command(people.anna, dm, "ask")
        first = (await people.until(lambda: client.interactions))[0]
        people_repeat = discord.Interaction(data=_raw(standin, made), state=client._connection)
        await first.response.defer(thinking=True)
        with pytest.raises(discord.HTTPException) as twice:
            await people_repeat.response.defer(thinking=True)
        assert twice.value.code == 40060
        await first.edit_original_response(content="well")
        assert people.answer(made)["content"] == "well"
        platform.times.token_s = 0
        with pytest.raises(discord.HTTPException) as late:
            await first.edit_original_response(content="too late")
        assert late.value.code == 50027
        platform.times = Times(ack_s=0)
        people.command(people.anna, dm, "ask")
        second = (await people.until(lambda: client.interactions[1:]))[0]
        with pytest.raises(discord.NotFound) as unknown:
            await second.response.defer()
        assert unknown.value.code == 10062


def _raw(standin: Discord, made: object) -> Json:
    session = next(iter(standin.gateway.sessions.values()))
    return next(frame["d"] for frame in session.sent if frame["d"].get("token") == getattr(made, "token", ""))


async def test_a_storm_is_waited_out_and_buckets_tell_what_is_left(standin: Discord) -> None:
    place = standin.platform.add_channel(guild=standin.platform.add_guild())
    async with listening(standin, Listener()) as client:
        channel = client.get_partial_messageable(int(place["id"]))
        standin.platform.buckets.storm("create", 2, 0.2)
        message = await channel.send("after the storm")
        standin.platform.buckets.storm("edit", 1, 0.2, "global")
        await message.edit(content="after the great storm")
    assert standin.people.shown(place)[0]["content"] == "after the great storm"
    assert (standin.platform.buckets.refused, standin.platform.buckets.impatient) == (3, 0)


async def test_who_does_not_wait_is_noticed(standin: Discord) -> None:
    place = standin.platform.add_channel(guild=standin.platform.add_guild())
    url = f"{standin.api}/channels/{place['id']}/messages"
    headers = {"Authorization": f"Bot {standin.platform.token}", "User-Agent": "DiscordBot (none, 1)"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(7):
            async with session.post(url, json={"content": "x"}) as answer:
                status, left = answer.status, answer.headers.get("X-RateLimit-Remaining")
            assert (status == 429) == (left is None)
    assert (standin.platform.buckets.refused, standin.platform.buckets.impatient) == (2, 1)
    assert standin.platform.invalid_requests == 2


async def test_names_ring_unless_they_are_forbidden(standin: Discord) -> None:
    place = standin.platform.add_channel(guild=standin.platform.add_guild())
    async with listening(standin, Listener()) as client:
        channel = client.get_partial_messageable(int(place["id"]))
        await channel.send("@everyone and <@1>", allowed_mentions=discord.AllowedMentions.none())
        assert standin.platform.pings == []
        await channel.send("@everyone and <@1>")
    assert standin.platform.pings == ["@everyone", "<@1>"]


async def test_links_end_and_want_no_token(standin: Discord) -> None:
    photo = standin.people.upload(b"pixels")
    async with aiohttp.ClientSession() as session:
        assert await (await session.get(photo["url"])).read() == b"pixels"
        assert (await session.get(photo["url"].replace("hm=", "hm=0"))).status == 404
        await session.get(photo["url"], headers={"Authorization": "Bot x"})
        standin.platform.times.link_s = -1
        assert (await session.get(standin.people.upload(b"old")["url"])).status == 404
    assert standin.platform.complaints == ["a token was sent to the file host"]


@pytest.mark.parametrize(
    "body",
    [
        {"content": "x" * 2001},
        {"content": 1},
        {"content": "x", "allowed_mentions": {"parse": ["users"], "users": ["1"]}},
        {"content": "x", "allowed_mentions": {"parse": ["all"]}},
        {"content": "x", "components": [{"type": 1, "components": []}]},
        {"content": "x", "components": [{"type": 1, "components": [{"type": 2, "style": 1, "label": "x" * 81}]}]},
        {"content": "x", "components": [{"type": 1, "components": [{"type": 2, "style": 1, "label": "x"}]}]},
        {"content": "x", "attachments": [{"id": "7"}]},
    ],
)
def test_messages_beyond_the_limits_are_refused(body: Json) -> None:
    with pytest.raises(Refusal, match="Invalid Form Body"):
        rules.check_message(body, [])


def test_messages_within_the_limits_are_not() -> None:
    button = {"type": 2, "style": 2, "label": "Stop", "custom_id": "stop"}
    body = {"content": "x" * 2000, "allowed_mentions": NOBODY, "components": [{"type": 1, "components": [button]}]}
    rules.check_message(body | {"attachments": [{"id": 0}]}, [b"data"])
    with pytest.raises(Refusal, match="Request entity too large"):
        rules.check_message(body, [bytes(rules.MOST_FILE_BYTES + 1)])
    with pytest.raises(Refusal, match="empty"):
        rules.check_not_empty({"content": "  "}, [])


@pytest.mark.parametrize(
    "command",
    [
        {"name": "Ask", "description": "x"},
        {"name": "ask", "description": ""},
        {"name": "ask me", "description": "x"},
        {"name": "Describe picture", "type": 3, "description": "x"},
        {"name": "ask", "description": "x", "options": [{"name": "a", "description": "x", "type": 99}]},
        {
            "name": "ask",
            "description": "x",
            "options": [
                {"name": "a", "description": "x", "type": 3},
                {"name": "b", "description": "x", "type": 3, "required": True},
            ],
        },
    ],
)
def test_commands_that_discord_does_not_take_are_refused(command: Json) -> None:
    with pytest.raises(Refusal, match="Invalid Form Body"):
        rules.check_command(command)
