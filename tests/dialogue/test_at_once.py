"""Many who send to one conversation at the same moment, over several processes, and clocks that jump meanwhile."""

import asyncio
import time

import pytest
from fake_chat_model import FakeChatModel
from test_manager import FAST, World, check_order, collect, command, eventually
from test_manager import world as world  # the fixture

from visavis.dialogue.commands import TurnCommand
from visavis.dialogue.events import Event, TurnAccepted, TurnCompleted


async def test_two_tabs_and_another_channel_take_turns_in_one_order(world: World) -> None:
    model = FakeChatModel()
    tabs = [world.manager(model) for _ in range(3)]
    session = await tabs[0].new_session("web:a")

    async def talk(place: int) -> list[list[Event]]:
        questions = [command(f"{place} {number}") for number in range(2)]
        logs = [await tabs[place].submit(session, question) for question in questions]
        return await asyncio.gather(*(collect(tabs[place].turns.follow(log)) for log in logs))

    seen = [events for tab in await asyncio.gather(*map(talk, range(3))) for events in tab]
    for events in seen:
        check_order(events)
        assert isinstance(events[-1], TurnCompleted)
    assert model.most_running == 1 and len(model.asked) == 6
    said = [one.question.text for one in (await tabs[1].history(session)).exchanges]
    assert sorted(said) == [f"{place} {number}" for place in range(3) for number in range(2)]
    assert all(said.index(f"{place} 0") < said.index(f"{place} 1") for place in range(3)), "each in its own order"
    assert [messages[-1].content for messages in model.asked] == said


async def test_one_id_at_the_same_moment_from_everywhere_is_one_turn(world: World) -> None:
    model = FakeChatModel()
    tabs = [world.manager(model) for _ in range(2)]
    session, asked = await tabs[0].new_session(), command()
    senders = [tabs[number % 2] for number in range(10)]

    async def send(place: int) -> list[Event]:
        return await collect(senders[place].run_turn(session, asked))

    seen = await asyncio.gather(*map(send, range(10)))
    assert all(events == seen[0] for events in seen) and isinstance(seen[0][0], TurnAccepted)
    check_order(seen[0])
    assert len(model.asked) == 1 and len((await tabs[0].history(session)).exchanges) == 1


@pytest.mark.parametrize("jump_s", [3600, -3600])
async def test_a_clock_that_jumps_loses_no_turn(world: World, monkeypatch: pytest.MonkeyPatch, jump_s: int) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(1))
    home, survivor = world.manager(model), world.manager(model)
    session, asked = await home.new_session("web:a"), [command("a"), command("b")]
    logs = [await home.submit(session, one) for one in asked]
    following = asyncio.create_task(collect(home.turns.follow(logs[0])))
    await eventually(lambda: model.running == 1)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + jump_s)
    for _ in range(6):
        assert model.gate is not None
        model.gate.release()
    first = await following
    check_order(first)
    end = first[-1]
    assert isinstance(end, TurnCompleted) and end.attempt == 1
    assert min(end.timings.queue_ms, end.timings.first_ms, end.timings.total_ms) >= 0
    await collect(home.turns.follow(logs[1]))  # or the survivor might take up what comes next
    await collect(survivor.turns.follow(await survivor.turns.attach(session, asked[1].id)))
    await _left_behind(world, session, command("c"))
    said = [one.question.text for one in (await survivor.history(session)).exchanges]
    assert said == ["a", "b", "c"], "the order is that of arrival, whatever the clocks say"
    assert [one.id for one in await survivor.persons.sessions("web:a")] == [session]


async def _left_behind(world: World, session: str, asked: TurnCommand) -> None:
    """A turn whose process dies, and whom only a sweep of another one finds."""
    stuck = FakeChatModel(gate=asyncio.Semaphore(0))
    dying, other = world.manager(stuck), world.manager(FakeChatModel(), policy=FAST)
    await dying.submit(session, asked)
    await eventually(lambda: stuck.running == 1)
    await world.kill(dying)
    async with other:
        async with asyncio.timeout(20):
            while asked.id not in [one.question.id for one in (await other.history(session)).exchanges]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
