"""Several processes and several people of one platform: messages go from one to the other, and nothing is lost."""

import asyncio
import io
from typing import Any

import pytest
from fake_platform import FakePlatform, message, running, settled, until
from PIL import Image
from scripted_chat_model import ScriptedChatModel

from visavis.bot.adapters import adapter as adapter_module
from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.message_run import turn_id
from visavis.bot.adapters.platform import (
    Ending,
    FileLink,
)
from visavis.bot.settings import Settings
from visavis.dialogue.errors import StoreUnavailable, UnknownSession, UnknownTurn


async def test_messages_of_a_place_become_turns_in_the_order_in_which_they_came_over_all_processes(
    settings: Settings, platform: FakePlatform, photo: bytes
) -> None:
    model = ScriptedChatModel()
    platform.files["slow"], platform.fetch_pause_s["slow"] = photo, 0.5
    async with running(settings, platform, model) as (one, _), running(settings, platform, model) as (other, _):
        await one.accept(message("m1", "first", files=(FileLink("slow"),)))
        await other.accept(message("m2", "second"))
        await one.accept(message("m3", "third"))
        await other.accept(message("m4", "elsewhere", place="another room"))
        for number in range(1, 5):
            await platform.answered(f"m{number}")
    asked = [str(one[-1].content) for one in model.asked]
    assert "elsewhere" in asked[0]
    assert all(word in text for word, text in zip(["first", "second", "third"], asked[1:], strict=True))


async def test_an_answer_can_be_stopped_by_its_message_from_another_process(
    settings: Settings, platform: FakePlatform
) -> None:
    model = ScriptedChatModel(answer="on and " * 500, pause_s=0.05)
    async with running(settings, platform, model) as (one, _), running(settings, platform, model) as (other, _):
        await one.accept(message())
        await until(lambda: "m1/0" in platform.messages)
        while await other._channel.recall("m1/0") is None:  # noqa: ASYNC110 - it is kept a moment after it is shown
            await asyncio.sleep(0.01)
        await other.stop("m1/0")
        assert (await platform.answered("m1")).endswith("(stopped)")
        with pytest.raises(UnknownTurn):
            await other.stop("nothing")
    assert platform.endings["m1"].ending is Ending.STOPPED


async def test_feedback_and_explanations_find_the_answer_by_its_message(
    settings: Settings, platform: FakePlatform, photo: bytes
) -> None:
    platform.files["f"] = photo
    model = ScriptedChatModel(looks=True)
    async with running(settings, platform, model) as (adapter, conversations):
        await adapter.accept(message(files=(FileLink("f"),)))
        await platform.answered("m1")
        await settled(adapter)
        session, turn = await adapter.find("m1/0")
        assert turn == turn_id(platform.name, "m1")
        await adapter.feedback("m1/0", "fake:ann", 1)
        (exchange,) = (await conversations.manager.history(session)).exchanges
        assert exchange.answer.feedback is not None
        assert exchange.answer.feedback.score == 1
        with Image.open(io.BytesIO(await adapter.explain("m1/0"))) as sheet:
            assert (sheet.format, sheet.width > 64) == ("PNG", True)
        with pytest.raises(UnknownTurn):
            await adapter.feedback("somebody's", "fake:ann", 1)
        with pytest.raises(UnknownSession):
            await adapter.feedback("m1/0", "fake:eve", -1)


async def test_a_process_that_goes_down_hands_its_answers_over_and_the_same_message_goes_on(
    settings: Settings, platform: FakePlatform
) -> None:
    answer = " ".join(f"w{number}" for number in range(40))
    async with running(settings, platform, ScriptedChatModel(answer=answer)) as _:
        async with running(settings, platform, ScriptedChatModel(answer=answer, pause_s=0.5)) as (leaver, _):
            await leaver.accept(message())
            await until(lambda: "m1/0" in platform.messages)
            await leaver.drain(0)
        assert await platform.answered("m1") == answer
    assert set(platform.messages) == {"m1/0"}


async def test_a_process_that_goes_down_lets_answers_finish_in_time(settings: Settings, platform: FakePlatform) -> None:
    answer = " ".join(f"w{number}" for number in range(40))
    async with running(settings, platform, ScriptedChatModel(answer=answer, pause_s=0.02)) as (adapter, _):
        await adapter.accept(message())
        await until(lambda: "m1/0" in platform.messages)
        await adapter.drain(60)
        assert platform.endings["m1"].ending is Ending.ANSWERED
    assert platform.messages["m1/0"].strip() == answer


async def test_a_store_that_is_away_while_an_answer_is_shown_does_not_make_it_appear_twice(
    settings: Settings, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "RENEW_S", 0.05)
    async with running(settings, platform) as (adapter, _):
        channel, failures = adapter._channel, [StoreUnavailable("away") for _ in range(12)]
        for name in ("renew", "remember", "done"):
            monkeypatch.setattr(channel, name, failing(getattr(channel, name), failures))
        await adapter.accept(message())
        await platform.answered("m1")
        await settled(adapter)
        assert await channel.adopt(0.1) == []
    assert not failures
    assert [final for _, final in platform.puts].count(True) == 1


def failing(method: Any, failures: list[StoreUnavailable]) -> Any:
    async def call(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await method(*args)

    return call


async def test_a_process_that_was_killed_leaves_its_messages_to_the_next_one(
    settings: Settings, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "LEASE_S", 0.5)
    monkeypatch.setattr(adapter_module, "RENEW_S", 0.1)
    async with running(settings, platform, ScriptedChatModel()) as (adapter, conversations):
        dead = Adapter(platform, conversations.manager, conversations.store.channel(platform.name))
        dead._begin = lambda incoming, adopted=False: None  # type: ignore[method-assign]
        assert await dead.accept(message())
        assert await platform.answered("m1") == "a red square on white"
        await settled(adapter)
        assert await conversations.store.channel(platform.name).adopt(0.1) == []


async def test_a_message_that_ends_one_process_after_the_other_is_given_up(
    settings: Settings, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings, platform) as (adapter, conversations):
        channel: Any = adapter._channel
        assert adapter._keeper is not None
        adapter._keeper.cancel()  # what follows is done by hand
        dead = Adapter(platform, conversations.manager, channel)
        dead._begin = lambda incoming, adopted=False: None  # type: ignore[method-assign]
        await dead.accept(message())
        await channel.renew(["m1"], 0.001)
        for deaths in range(1, adapter_module.MOST_DEATHS + 2):
            await asyncio.sleep(0.01)
            (job,) = await channel.adopt(0.001)
            assert job.deaths == deaths
        await adapter._adopt(job)
        assert await platform.answered("m1") == "This could not be answered; please ask again."
        await settled(adapter)
        assert await channel.adopt(1) == []


async def test_nothing_is_taken_while_the_process_goes_down(settings: Settings, platform: FakePlatform) -> None:
    async with running(settings, platform) as (adapter, _):
        await adapter.drain(0)
        with pytest.raises(Exception, match="going down"):
            await adapter.accept(message())


async def test_several_people_of_a_thread_share_it_and_any_of_them_can_have_it_forgotten(
    settings: Settings, platform: FakePlatform
) -> None:
    async with running(settings, platform) as (adapter, conversations):
        for number, person in enumerate(["fake:ann", "fake:bob"]):
            await adapter.accept(message(f"m{number}", person=person))
            await platform.answered(f"m{number}")
        await settled(adapter)
        session, _ = await adapter.find("m0/0")
        manager = conversations.manager
        assert len((await manager.open_session(session, "fake:bob")).exchanges) == 2
        with pytest.raises(UnknownSession):
            await manager.open_session(session, "fake:eve")
        assert (await manager.persons.forget("fake:bob")).sessions == 1
        with pytest.raises(UnknownTurn):
            await adapter.find("m0/0")
        assert not await adapter.has_place("room")
        await adapter.accept(message("m9"))
        assert await platform.answered("m9") == "a red square on white"
