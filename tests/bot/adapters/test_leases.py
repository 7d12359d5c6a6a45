"""What processes owe one another and the platform: no answer twice, no line without end, no end that waits."""

import asyncio
import contextlib
from typing import Any

import pytest
from fake_platform import FakePlatform, FakeReply, message, running, settled, until
from scripted_chat_model import ScriptedChatModel

from visavis.bot.adapters import message_run
from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.pace import Pace
from visavis.bot.adapters.platform import Ending, FileLink, NotPermitted, Outcome
from visavis.bot.adapters.process import run_service
from visavis.bot.adapters.screen import Screen
from visavis.bot.settings import Settings
from visavis.dialogue.errors import RateLimited, StoreUnavailable
from visavis.dialogue.store_jobs import MOST_WAITING


async def test_a_process_that_has_lost_a_message_shows_nothing_of_it_any_more(
    settings: Settings, platform: FakePlatform
) -> None:
    """As after a freeze that was longer than the lease."""
    model = ScriptedChatModel(answer="on and " * 40, pause_s=0.05)
    async with running(settings, platform, model) as (frozen, conversations):
        await frozen.accept(message())
        await until(lambda: "m1/0" in platform.messages)
        await frozen._channel.renew(["m1"], 0.001)
        other = conversations.store.channel(platform.name)
        await until_adopted(other)
        shown = len(platform.puts)
        await settled(frozen)
        assert len(platform.puts) <= shown + 1  # one may have been under way
        assert platform.endings == {}
        assert await other.renew(["m1"], 10) == []


async def until_adopted(channel: Any) -> None:
    async with asyncio.timeout(60):
        while not await channel.adopt(10):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Hanging(FakePlatform):
    """Takes calls, and never answers them."""

    def reply(self, incoming: Any) -> FakeReply:
        return HangingReply(self, incoming)


class HangingReply(FakeReply):
    async def put(self, part: int, text: str, outcome: Outcome | None) -> None:
        self.platform.puts.append((text, outcome is not None))
        await asyncio.Event().wait()


async def test_a_platform_that_hangs_does_not_keep_the_process_from_ending(settings: Settings) -> None:
    hanging = Hanging()
    async with running(settings, hanging, ScriptedChatModel(answer="on and " * 900, pause_s=0.05)) as (adapter, store):
        await adapter.accept(message())
        await until(lambda: hanging.puts)
        async with asyncio.timeout(60):
            await adapter.drain(0)
        (job,) = await store.store.channel(hanging.name).adopt(10)
    assert (job.id, job.deaths) == ("m1", 0)


class Silent:
    """A platform that lets nobody in and says nothing."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.is_asked = asyncio.Event()

    async def connect(self) -> None:
        self.is_asked.set()
        await asyncio.Event().wait()

    async def disconnect(self) -> None:
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        await self.disconnect()


async def test_a_platform_that_never_lets_in_does_not_keep_the_process_from_ending(
    settings: Settings, platform: FakePlatform
) -> None:
    async with running(settings, platform) as (adapter, conversations):
        service, stop = Silent(Adapter(platform, conversations.manager, adapter._channel)), asyncio.Event()
        ending = asyncio.create_task(run_service(service, _Open(), stop, 0))  # type: ignore[arg-type]
        await service.is_asked.wait()
        stop.set()
        async with asyncio.timeout(60):
            await ending


class _Open(contextlib.AsyncExitStack):
    """Conversations that are open already."""


async def test_parts_that_an_earlier_process_has_shown_are_emptied_and_bear_no_buttons() -> None:
    shown: list[tuple[int, str, Outcome | None]] = []

    class Reply:
        def __init__(self) -> None:
            self.state = {"0": "a", "1": "b", "2": "c", "control": "d"}

        async def put(self, part: int, text: str, outcome: Outcome | None) -> None:
            shown.append((part, text, outcome))

    async def keep() -> None: ...

    await Screen(Reply(), Pace(0.001), 200, keep).finish("short", ended := Outcome(Ending.ANSWERED, "t"))  # type: ignore[arg-type]
    more = Outcome(Ending.MORE)
    assert shown == [(0, "short", ended), (1, "…", more), (2, "…", more)]


async def test_only_the_last_part_may_be_stopped(settings: Settings, platform: FakePlatform) -> None:
    outcomes: dict[int, Outcome | None] = {}
    put = FakeReply.put

    async def watching(self: FakeReply, part: int, text: str, outcome: Outcome | None) -> None:
        outcomes[part] = outcome
        await put(self, part, text, outcome)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeReply, "put", watching)
        async with running(settings, platform, ScriptedChatModel(answer="word " * 100, pause_s=0.005)) as (adapter, _):
            await adapter.accept(message())
            await platform.answered("m1")
            await settled(adapter)
    assert [one.ending for one in outcomes.values() if one] == [Ending.MORE] * (len(outcomes) - 1) + [Ending.ANSWERED]


async def test_pictures_that_the_app_may_not_read_are_told_of(settings: Settings, platform: FakePlatform) -> None:
    platform.earlier = [FileLink("secret")]

    async def fetch(file: FileLink, limits: Any) -> bytes:
        raise NotPermitted("I may not read files here.")

    platform.fetch = fetch  # type: ignore[method-assign]
    async with running(settings, platform) as (adapter, _):
        await adapter.accept(message())
        assert await platform.answered("m1") == "a red square on white \n\nI may not read files here."


async def test_what_nobody_thought_of_is_told_to_the_person(settings: Settings, platform: FakePlatform) -> None:
    platform.faults = [TypeError("a bug")]  # type: ignore[list-item]
    platform.edit_interval_s = 60  # of which the first call is the last text
    async with running(settings, platform, ScriptedChatModel(answer="", error=ZeroDivisionError())) as (adapter, _):
        adapter._manager.submit = None  # type: ignore[assignment, method-assign]
        platform.faults = []
        await adapter.accept(message())
        assert await platform.answered("m1") == "This could not be answered; please ask again."


async def test_what_is_to_be_done_once_is_done_though_the_store_goes_away_meanwhile(
    settings: Settings, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise StoreUnavailable("away")

    async with running(settings, platform) as (adapter, _):
        with monkeypatch.context() as patch:
            patch.setattr(adapter._channel, "done", away)
            assert await adapter.once("e1")
        assert not await adapter.once("e1")


async def test_a_flood_in_one_place_is_bounded_told_once_and_costs_other_places_nothing(
    settings: Settings, platform: FakePlatform, photo: bytes
) -> None:
    platform.files["slow"], platform.fetch_pause_s["slow"] = photo, 3600
    refusals = []
    async with running(settings, platform) as (adapter, _):
        for number in range(MOST_WAITING + 5):
            files = (FileLink("slow"),) if number == 0 else ()
            try:
                taken = await adapter.accept(message(f"m{number}", files=files))
                assert taken == (number < MOST_WAITING)
            except RateLimited as error:
                refusals.append(str(error))
        assert len(adapter._tasks) == MOST_WAITING
        await adapter.accept(message("x", place="elsewhere"))
        assert await platform.answered("x") == "a red square on white"
    assert refusals == ["Too many messages wait here for an answer; please ask again later."]


async def test_who_waits_in_line_asks_the_store_less_and_less(
    settings: Settings, platform: FakePlatform, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.files["slow"], platform.fetch_pause_s["slow"] = photo, 3600
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def counting(delay: float, *args: Any) -> None:
        pauses.append(delay)
        await sleep(delay / 100)

    async with running(settings, platform) as (adapter, _):
        await adapter.accept(message("m1", files=(FileLink("slow"),)))
        monkeypatch.setattr(message_run, "asyncio", _Asyncio(counting))
        await adapter.accept(message("m2"))
        await until(lambda: len(pauses) > 7)
    assert pauses[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


class _Asyncio:
    """The module, with another clock."""

    def __init__(self, sleep: Any) -> None:
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)
