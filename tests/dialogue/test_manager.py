import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fake_chat_model import CodedError, FakeChatModel
from PIL import Image
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from visavis.dialogue.errors import Busy, StoreUnavailable, UnknownImage, UnknownSession, UnknownTurn
from visavis.dialogue.events import (
    Event,
    TextDelta,
    TurnAccepted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnQueued,
    TurnRestarted,
)
from visavis.dialogue.limits import Limits, TurnPolicy
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import ImageStore, SessionStore, connect
from visavis.dialogue.turns import Role, Status
from visavis.dialogue.wire import TurnCommand

FAST = TurnPolicy(lease_s=0.5, renew_s=0.1, flush_s=0.02, poll_s=0.02, sweep_s=0.05, finish_patience_s=2)


def command(text: str = "What is it?", **more: Any) -> TurnCommand:
    return TurnCommand(str(uuid.uuid4()), text, **more)


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, "PNG")
    return buffer.getvalue()


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def eventually(is_so: Callable[[], bool]) -> None:
    for _ in range(500):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about in 5 s")


def check_order(events: list[Event]) -> None:
    """Within each attempt seq counts from 1 without a gap, and nothing follows the final event."""
    by_attempt: dict[int, list[int]] = {}
    for event in events:
        by_attempt.setdefault(event.attempt, []).append(event.seq)
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in by_attempt.values())
    assert [event.is_final for event in events] == [False] * (len(events) - 1) + [True]


class World:
    """Any number of managers ("processes") on one store."""

    def __init__(self, sessions: SessionStore, images: ImageStore) -> None:
        self.sessions, self.images = sessions, images
        self.managers: list[DialogueManager] = []

    def manager(self, model: FakeChatModel, limits: Limits | None = None, policy: TurnPolicy = FAST) -> DialogueManager:
        manager = DialogueManager(self.sessions, self.images, model, limits, policy=policy)
        self.managers.append(manager)
        return manager

    async def kill(self, manager: DialogueManager) -> None:
        """As kill -9 would: its tasks are gone, its lease and queue stay."""
        for run in manager._runs.values():
            run._sessions = DeadStore()
        for task in list(manager._runners.values()):
            task.cancel()
        await asyncio.gather(*manager._runners.values(), return_exceptions=True)


class DeadStore:
    def __getattr__(self, name: str) -> Any:
        async def fail(*args: Any) -> None:
            raise StoreUnavailable("dead")

        return fail


@pytest.fixture
async def world(sessions: SessionStore, images: ImageStore) -> AsyncIterator[World]:
    world = World(sessions, images)
    yield world
    for manager in world.managers:
        await manager.drain(0)


async def test_a_turn_is_answered_and_in_the_history(world: World) -> None:
    model = FakeChatModel()
    manager = world.manager(model)
    session = await manager.new_session()
    asked = command()
    events = await collect(manager.run_turn(session, asked))
    check_order(events)
    assert [type(event) for event in events] == [TurnAccepted, TextDelta, TextDelta, TextDelta, TurnCompleted]
    final = events[-1]
    assert isinstance(final, TurnCompleted)
    assert final.text == "A red ball." == "".join(e.text for e in events if isinstance(e, TextDelta))
    assert final.html == "<p>A red ball.</p>"
    assert (final.usage.input_tokens, final.usage.output_tokens, final.usage.image_tokens) == (7, 3, 4)
    assert final.confidence == 0.5 and final.suggestions == () and final.left_out == ()
    assert final.timings.total_ms >= final.timings.first_ms >= 0
    turns, more = await manager.history(session, None, 10)
    assert [(turn.id, turn.role, turn.text) for turn in turns] == [
        (asked.id, Role.USER, "What is it?"),
        (asked.id, Role.ASSISTANT, "A red ball."),
    ]
    assert not more and turns[1].final == final


async def test_the_next_question_sees_the_talk_and_the_newest_picture(world: World) -> None:
    model = FakeChatModel()
    manager = world.manager(model)
    session = await manager.new_session()
    ref = await manager.add_image(session, png())
    first = await collect(manager.run_turn(session, command("", images=(ref.sha256,))))
    assert first[-1].image == ref.sha256
    await collect(manager.run_turn(session, command("What colour?")))
    block = {"type": "image", "file_id": ref.sha256}
    assert [m.content for m in model.asked[0]] == [[block, {"type": "text", "text": "Describe the picture."}]]
    assert [m.content for m in model.asked[1]] == [
        [block, {"type": "text", "text": "Describe the picture."}],
        "A red ball.",
        "What colour?",
    ]


async def test_turns_of_a_session_run_one_at_a_time_in_order(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    managers = [world.manager(model), world.manager(model)]
    session = await managers[0].new_session()
    commands = [command(str(i)) for i in range(4)]
    logs = [await managers[i % 2].submit(session, asked) for i, asked in enumerate(commands)]
    followers = [asyncio.create_task(collect(managers[i % 2].follow(log))) for i, log in enumerate(logs)]
    await asyncio.sleep(0.05)
    for _ in range(12):
        model.gate.release()
    answers = await asyncio.gather(*followers)
    for place, events in enumerate(answers):
        check_order(events)
        assert [e.position for e in events if isinstance(e, TurnQueued)] == ([place] if place else [])
    assert model.most_running == 1
    assert [messages[-1].content for messages in model.asked] == ["0", "1", "2", "3"]
    turns, _ = await managers[0].history(session, None, 10)
    assert [turn.text for turn in turns if turn.role is Role.USER] == ["0", "1", "2", "3"]


async def test_sessions_do_not_wait_for_one_another(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    manager = world.manager(model)
    asked = [asyncio.create_task(collect(manager.run_turn(await manager.new_session(), command()))) for _ in range(2)]
    await eventually(lambda: model.running == 2)
    assert manager.running_turns == 2
    for _ in range(6):
        model.gate.release()
    await asyncio.gather(*asked)


async def test_a_repeated_id_is_answered_and_not_run_again(world: World) -> None:
    model = FakeChatModel()
    managers = [world.manager(model), world.manager(model)]
    session, asked = await managers[0].new_session(), command()
    answers = await asyncio.gather(*(collect(managers[i % 2].run_turn(session, asked)) for i in range(5)))
    answers.append(await collect(managers[1].run_turn(session, asked)))
    for events in answers:
        check_order(events)
        assert events == answers[0]
    assert len(model.asked) == 1
    assert len((await managers[0].history(session, None, 10))[0]) == 2


async def test_a_repeated_id_gets_the_stored_answer_when_the_replay_is_gone(world: World, redis: Redis) -> None:
    model = FakeChatModel()
    manager = world.manager(model)
    session, asked = await manager.new_session(), command()
    events = await collect(manager.run_turn(session, asked))
    await redis.delete(f"visavis:{{{session}}}:live")
    assert await collect(manager.run_turn(session, asked)) == events[-1:]
    assert len(model.asked) == 1


@pytest.mark.parametrize("canceller", [0, 1])
async def test_cancel_frees_the_model_and_keeps_what_was_said(world: World, canceller: int) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(1))
    managers = [world.manager(model), world.manager(model)]
    session, asked = await managers[0].new_session(), command()
    events: list[Event] = []
    async for event in managers[0].run_turn(session, asked):
        events.append(event)
        if isinstance(event, TextDelta):
            await managers[canceller].cancel(session, asked.id)
    check_order(events)
    assert isinstance(events[-1], TurnCancelled) and events[-1].text == "A "
    assert model.closed == 1 and model.running == 0
    turns, _ = await managers[1].history(session, None, 10)
    assert [turn.status for turn in turns] == [Status.CANCELLED] * 2 and turns[1].text == "A "
    await managers[canceller].cancel(session, asked.id)  # a second Stop changes nothing


async def test_cancel_before_the_first_token(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    managers = [world.manager(model), world.manager(model)]
    session, asked = await managers[0].new_session(), command()
    following = asyncio.create_task(collect(managers[0].run_turn(session, asked)))
    await eventually(lambda: model.running > 0)
    await managers[1].cancel(session, asked.id)
    events = await following
    check_order(events)
    assert isinstance(events[-1], TurnCancelled) and events[-1].text == ""


async def test_cancel_before_the_answer_has_taken_its_first_step(world: World) -> None:
    manager = world.manager(FakeChatModel())
    session, asked = await manager.new_session(), command()
    log = await manager.submit(session, asked)
    while not manager.running_turns:  # noqa: ASYNC110 - the very next step of the loop is the one
        await asyncio.sleep(0)
    await manager.cancel(session, asked.id)
    events = await collect(manager.follow(log))
    check_order(events)
    assert isinstance(events[-1], TurnCancelled) and events[-1].attempt == 1


async def test_cancel_of_a_waiting_turn_lets_the_running_one_be(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    manager = world.manager(model)
    session = await manager.new_session()
    first, second = command("1"), command("2")
    running = asyncio.create_task(collect(manager.run_turn(session, first)))
    await eventually(lambda: model.running > 0)
    waiting = await manager.submit(session, second)
    await manager.cancel(session, second.id)
    events = await collect(manager.follow(waiting))
    check_order(events)
    assert isinstance(events[-1], TurnCancelled)
    for _ in range(3):
        model.gate.release()
    assert isinstance((await running)[-1], TurnCompleted)
    assert len(model.asked) == 1


async def test_cancel_of_an_unknown_turn(world: World) -> None:
    manager = world.manager(FakeChatModel())
    with pytest.raises(UnknownTurn):
        await manager.cancel(await manager.new_session(), command().id)


async def test_leaving_does_not_abort_and_another_process_resumes_at_every_place(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    home, elsewhere = world.manager(model), world.manager(model)
    session, asked = await home.new_session(), command()
    whole = asyncio.create_task(collect(home.run_turn(session, asked)))
    left = await home.submit(session, asked)
    async for _ in home.follow(left):
        break
    resumed = [
        asyncio.create_task(collect(manager.follow(await manager.attach(session, asked.id), 1, seq)))
        for seq in range(6)
        for manager in (home, elsewhere)
    ]
    for _ in range(3):
        await asyncio.sleep(0.05)
        model.gate.release()
    events = await whole
    check_order(events)
    for place, seen in enumerate(await asyncio.gather(*resumed)):
        assert seen == events[place // 2 :]
    late = await collect(elsewhere.follow(await elsewhere.attach(session, asked.id), 1, 2))
    assert late == events[2:]


async def test_resume_after_the_replay_is_gone_gets_the_end_only(world: World, redis: Redis) -> None:
    manager = world.manager(FakeChatModel())
    session, asked = await manager.new_session(), command()
    events = await collect(manager.run_turn(session, asked))
    await redis.delete(f"visavis:{{{session}}}:live")
    for seq in (0, 2, 99):
        assert await collect(manager.follow(await manager.attach(session, asked.id), 1, seq)) == events[-1:]
    assert await collect(manager.follow(await manager.attach(session, asked.id), 1, len(events))) == []


async def test_a_turn_of_a_dead_process_is_run_again_by_those_who_follow_it(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(1))
    dying, survivor = world.manager(model), world.manager(model)
    session, asked = await dying.new_session(), command()
    async for event in dying.run_turn(session, asked):
        if isinstance(event, TextDelta):
            break
    await asyncio.sleep(0.05)
    await world.kill(dying)
    following = asyncio.create_task(collect(survivor.follow(await survivor.attach(session, asked.id), 1, 1)))
    await asyncio.sleep(0.05)
    for _ in range(3):
        model.gate.release()
    events = await following
    again = [event for event in events if event.attempt == 2]
    check_order(again)
    assert isinstance(again[0], TurnRestarted) and isinstance(again[-1], TurnCompleted)
    assert again[-1].text == "A red ball." == "".join(e.text for e in again if isinstance(e, TextDelta))
    assert len((await survivor.history(session, None, 10))[0]) == 2


async def test_a_sweep_finds_a_turn_that_nobody_follows_and_the_second_death_fails_it_aloud(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    session, asked = await world.sessions.create_session(), command()
    await world.manager(model).submit(session, asked)
    for attempt in (1, 2):
        await eventually(lambda: model.running > 0)
        await world.kill(world.managers[-1])
        manager = world.manager(model)
        if attempt == 2:
            break
        await asyncio.sleep(0.6)
        await manager.sweep()
    async with world.manager(model) as last:
        events = await collect(last.follow(await last.attach(session, asked.id), 2, 1))
    check_order(events)
    assert isinstance(events[-1], TurnFailed) and events[-1].attempt == 3
    turns, _ = await last.history(session, None, 10)
    assert [turn.status for turn in turns] == [Status.FAILED] * 2
    assert len(model.asked) == 2
    again = await collect(world.manager(model).run_turn(session, asked))
    assert again == events and len(model.asked) == 2


async def test_a_process_that_was_only_asleep_writes_nothing_after_another_took_over(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(1))
    sleeper = world.manager(model, policy=TurnPolicy(lease_s=0.05, renew_s=9, flush_s=9, poll_s=0.02))
    other = world.manager(model)
    session, asked = await sleeper.new_session(), command()
    log = await sleeper.submit(session, asked)
    following = asyncio.create_task(collect(sleeper.follow(log)))
    await eventually(lambda: model.running > 0)
    await asyncio.sleep(0.1)
    taken = asyncio.create_task(collect(other.follow(await other.attach(session, asked.id), 1, 1)))
    await eventually(lambda: len(model.asked) == 2)
    for _ in range(6):
        model.gate.release()
    finals = [(await events)[-1] for events in (taken, following)]
    assert finals[0] == finals[1] and finals[0].attempt == 2
    assert len((await other.history(session, None, 10))[0]) == 2


async def test_drain_refuses_lets_finish_and_hands_over(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    leaving, staying = world.manager(model), world.manager(model)
    session, asked = await leaving.new_session(), command()
    await leaving.submit(session, asked)
    await eventually(lambda: model.running > 0)
    await leaving.drain(0.05)
    with pytest.raises(Busy):
        await leaving.submit(session, command())
    following = asyncio.create_task(collect(staying.follow(await staying.attach(session, asked.id))))
    for _ in range(3):
        model.gate.release()
    events = await following
    assert isinstance(events[-1], TurnCompleted) and events[-1].attempt == 2


@pytest.mark.parametrize(
    ("error", "code", "tells"),
    [
        (CodedError("busy", "too many are asking: try again"), "busy", "Too many are asking: try again."),
        (CodedError("model_error", "shard x.safetensors is torn"), "model_error", "could not answer"),
        (CodedError("made_up", "secret path"), "model_error", "could not answer"),
        (RuntimeError("secret path"), "model_error", "could not answer"),
        (UnknownImage("That picture is gone."), "unknown_image", "is gone"),
    ],
)
async def test_errors_of_the_model_end_the_turn_only(world: World, error: Exception, code: str, tells: str) -> None:
    model = FakeChatModel(error=error)
    manager = world.manager(model)
    session = await manager.new_session()
    events = await collect(manager.run_turn(session, command()))
    check_order(events)
    final = events[-1]
    assert isinstance(final, TurnFailed) and final.code == code and tells in final.message
    model.error = None
    assert isinstance((await collect(manager.run_turn(session, command())))[-1], TurnCompleted)
    assert len(model.asked[-1]) == 1  # the failed exchange is no part of the talk


async def test_a_model_that_never_ends_is_stopped(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    manager = world.manager(model, policy=TurnPolicy(turn_timeout_s=0.05, flush_s=0.02))
    final = (await collect(manager.run_turn(await manager.new_session(), command())))[-1]
    assert isinstance(final, TurnFailed) and "too long" in final.message and model.running == 0


async def test_lone_surrogates_of_a_model_do_not_reach_the_store(world: World) -> None:
    manager = world.manager(FakeChatModel(pieces=["a\ud800b", ""]))
    final = (await collect(manager.run_turn(await manager.new_session(), command())))[-1]
    assert isinstance(final, TurnCompleted) and final.text == "a?b"


async def test_what_is_unknown_or_too_much_is_refused(world: World) -> None:
    manager = world.manager(FakeChatModel(gate=asyncio.Semaphore(0)), Limits(max_waiting_turns=2))
    session, foreign = await manager.new_session(), await manager.new_session()
    ref = await manager.add_image(foreign, png())
    with pytest.raises(UnknownSession):
        await manager.submit("0" * 32, command())
    with pytest.raises(UnknownSession):
        await manager.submit("no session}", command())
    with pytest.raises(UnknownImage):
        await manager.submit(session, command(images=(ref.sha256,)))
    with pytest.raises(UnknownImage):
        await manager.read_image(session, ref.sha256)
    for _ in range(2):
        await manager.submit(session, command())
    with pytest.raises(Busy):
        await manager.submit(session, command())


async def test_forget_leaves_no_key_and_ends_a_running_turn(world: World, redis: Redis) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(3))
    manager = world.manager(model)
    session = await manager.new_session()
    ref = await manager.add_image(session, png())
    await collect(manager.run_turn(session, command(images=(ref.sha256,))))
    log = await manager.submit(session, command())
    await eventually(lambda: model.running > 0)
    receipt = await manager.forget(session)
    assert (receipt.session, receipt.turns, receipt.images) == (session, 2, 1)
    with pytest.raises(UnknownTurn):
        await collect(manager.follow(log))
    await manager.drain(1)
    assert await redis.keys("*") == []
    with pytest.raises(UnknownSession):
        await manager.history(session, None, 10)


async def test_a_picture_that_another_session_shows_stays(world: World) -> None:
    manager = world.manager(FakeChatModel())
    first, second = await manager.new_session(), await manager.new_session()
    ref = await manager.add_image(first, png())
    assert await manager.add_image(second, png()) == ref
    assert (await manager.forget(first)).images == 0
    assert (await manager.read_image(second, ref.sha256))[0] == ref


async def test_a_store_that_is_down_is_said_and_nothing_crashes(tmp_path: Any) -> None:
    client = connect(f"unix://{tmp_path}/nobody.sock")
    async with DialogueManager(SessionStore(client), ImageStore(client), FakeChatModel(), policy=FAST) as manager:
        await asyncio.sleep(0.2)
        for call in (manager.new_session(), manager.submit("0" * 32, command()), manager.sweep()):
            with pytest.raises(StoreUnavailable):
                await call
    await client.aclose()


async def test_a_turn_costs_two_round_trips_besides_lease_queue_and_replay(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = world.manager(FakeChatModel(), policy=TurnPolicy())
    session = await manager.new_session()
    await collect(manager.run_turn(session, command()))
    sent: list[str] = []
    send = AbstractConnection.send_packed_command

    async def count(self: AbstractConnection, packed: Any, *args: Any, **kw: Any) -> Any:
        data = packed if isinstance(packed, bytes) else b"".join(packed)
        sent.append(data.decode(errors="replace"))
        return await send(self, packed, *args, **kw)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", count)
    await collect(manager.run_turn(session, command()))
    queue = [one for one in sent if "ZADD" in one or "max_waiting" in one or "'waiting', #waiting" in one]
    lease = [one for one in sent if "held[1]" in one or "SISMEMBER" in one]
    assert len(sent) - len(queue) - len(lease) == 2, sent
    assert len(queue) == 2 and len(lease) <= 3


class FlakyStore(SessionStore):
    """Does not answer in the named methods until it is told to."""

    away: frozenset[str] = frozenset({"load_session", "renew_claim", "finish_turn", "glance"})

    def __getattribute__(self, name: str) -> Any:
        if name != "away" and name in self.away:
            raise_it = DeadStore()
            return getattr(raise_it, name)
        return super().__getattribute__(name)


async def test_a_store_that_goes_away_in_mid_turn_costs_nothing_when_it_comes_back(
    redis: Redis, images: ImageStore
) -> None:
    store, model = FlakyStore(redis), FakeChatModel()
    manager = DialogueManager(store, images, model, policy=FAST)
    session = await manager.new_session()
    following = asyncio.create_task(collect(manager.run_turn(session, command())))
    await asyncio.sleep(0.15)
    assert not model.asked  # the session could not be loaded yet
    store.away = frozenset({"renew_claim", "finish_turn"})
    await eventually(lambda: model.closed == 1)
    await asyncio.sleep(0.1)
    assert not following.done()  # nobody is told of an answer that is not kept
    store.away = frozenset()
    events = await following
    check_order(events)
    assert isinstance(events[-1], TurnCompleted) and events[-1].attempt == 1
    assert len((await manager.history(session, None, 10))[0]) == 2


async def test_a_store_that_stays_away_leaves_the_turn_for_later(redis: Redis, images: ImageStore) -> None:
    store, model = FlakyStore(redis), FakeChatModel()
    store.away = frozenset({"finish_turn"})
    policy = TurnPolicy(lease_s=0.1, flush_s=0.02, poll_s=0.02, finish_patience_s=0.05)
    manager = DialogueManager(store, images, model, policy=policy)
    session = await manager.new_session()
    log = await manager.submit(session, command())
    await eventually(lambda: model.closed == 1 and not manager.running_turns)
    store.away = frozenset()
    events = await collect(manager.follow(log, 1, 1))
    assert isinstance(events[-1], TurnCompleted) and events[-1].attempt == 2
    await manager.drain(1)
