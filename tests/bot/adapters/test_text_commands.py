"""`link`, `forget` and their like as messages on two platforms, on a real store."""

import pytest
from fake_platform import FakePlatform, message, running
from scripted_chat_model import ScriptedChatModel

from visavis.bot.adapters.platform import Ending
from visavis.bot.adapters.text_commands import parse_command
from visavis.bot.settings import Settings


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("help", ("help", "")),
        (" /Link ", ("link", "")),
        ("link ABCD-EFGH-JKLM", ("link", "ABCD-EFGH-JKLM")),
        ("forget everything", ("forget", "everything")),
        ("continue 3", ("continue", "3")),
        ("continue", ("continue", "")),
        ("help me with this", None),
        ("new york", None),
        ("", None),
    ],
)
def test_only_a_message_that_is_nothing_else_is_a_command(text: str, command: object) -> None:
    assert parse_command(text) == command


async def test_a_conversation_goes_on_on_another_platform_and_one_forget_ends_both(settings: Settings) -> None:
    one, other = FakePlatform(name="one"), FakePlatform(name="other")
    model = ScriptedChatModel()
    async with running(settings, one, model) as (here, _), running(settings, other, model) as (there, parts):

        async def say(id: str, text: str, platform: FakePlatform = one) -> str:
            adapter = here if platform is one else there
            person = f"{platform.name}:ann"
            await adapter.accept(message(id, text, person=person, place=f"{platform.name}-dm", is_private=True))
            return await platform.answered(id)

        await say("m1", "the first question")
        code = (await say("m2", "link")).split("`")[1]
        assert await say("m3", code, other) == "Joined: one, other. `sessions` lists your conversations."
        assert "1. the first question" in await say("m4", "sessions", other)
        assert "the first question" in await say("m5", "continue", other)
        await say("m6", "and this?", other)
        assert "the first question" in str(model.asked[-1][0].content)
        assert (await say("m7", "forget everything", other)).startswith("Deleted: 1 conversation(s) with 4 messages")
        assert await parts.manager.persons.sessions("one:ann") == []
        await say("m8", "hello", one)
        assert len(model.asked[-1]) == 1
    assert one.endings["m2"].private
    assert one.endings["m2"].ending is Ending.NOTICE


async def test_what_is_for_one_person_is_not_said_where_others_read(settings: Settings) -> None:
    platform = FakePlatform()
    async with running(settings, platform) as (adapter, _):
        for text in ("link", "sessions", "continue 1"):
            await adapter.accept(message(text, text))
            assert "direct message" in await platform.answered(text)


async def test_new_forget_and_stop_in_a_thread(settings: Settings) -> None:
    platform = FakePlatform()
    model = ScriptedChatModel()
    async with running(settings, platform, model) as (adapter, _):

        async def say(id: str, text: str, person: str = "fake:ann") -> str:
            await adapter.accept(message(id, text, person=person))
            return await platform.answered(id)

        assert await say("m1", "forget") == "There is no conversation here yet."
        await say("m2", "what is this?")
        assert await say("m3", "stop") == "Nothing is being answered here."
        assert "not known" in await say("m4", "forget", "fake:eve")
        await say("m5", "new")
        await say("m6", "what is this?")
        assert (await say("m7", "forget")).startswith("Deleted: 1 conversation(s) with 2 messages")
    assert [len(asked) for asked in model.asked] == [1, 1]
