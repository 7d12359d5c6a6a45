import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_chat_model import CodedError, FakeChatModel
from PIL import Image
from redis.asyncio import Redis

from visavis.dialogue.claims import Wish
from visavis.dialogue.commands import Edit, Regenerate, TurnCommand
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
from visavis.dialogue.store import Store, open_store
from visavis.dialogue.turns import Exchange, Feedback, Role, Session, Status, Turn, as_they_came

VARIATION = {"temperature": 0.5}
FAST = TurnPolicy(lease_s=0.5, renew_s=0.1, flush_s=0.02, poll_s=0.02, sweep_s=0.05, finish_patience_s=2)


def command(text: str = "What is it?", **more: Any) -> TurnCommand:
    return TurnCommand(str(uuid.uuid4()), text, **more)


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, "PNG")
    return buffer.getvalue()


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


def said(page: Session) -> list[Turn]:
    return [turn for one in page.exchanges for turn in (one.question, one.answer)]


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

    def __init__(self, store: Store) -> None:
        self.store = store
        self.managers: list[DialogueManager] = []

    def manager(self, model: FakeChatModel, limits: Limits | None = None, policy: TurnPolicy = FAST) -> DialogueManager:
        manager = DialogueManager(self.store, model, limits, policy=policy, variation=VARIATION)
        self.managers.append(manager)
        return manager

    async def kill(self, manager: DialogueManager) -> None:
        """As kill -9 would: its tasks are gone, its lease and queue stay."""
        runner = manager._runner
        for run in runner._runs.values():
            run._store = DeadStore()
        workers = list(runner._workers.values())
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


class DeadStore:
    """Whatever part is asked for whatever does not answer."""

    def __getattr__(self, name: str) -> Any:
        return DeadStore()

    async def __call__(self, *args: Any) -> None:
        raise StoreUnavailable("dead")


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    world = World(store)
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
    page = await manager.history(session)
    turns = said(page)
    assert [(turn.id, turn.role, turn.text) for turn in turns] == [
        (asked.id, Role.USER, "What is it?"),
        (asked.id, Role.ASSISTANT, "A red ball."),
    ]
    assert not page.more and turns[1].final == final and page.title == "What is it?"


async def test_questions_are_suggested_once_about_a_picture(world: World) -> None:
    manager = world.manager(FakeChatModel(pieces=["A black cat."]))
    session = await manager.new_session()
    ref, other = await manager.add_image(session, png()), await manager.add_image(session, png("blue"))
    told = []
    for asked in (
        command(images=(ref.sha256,)),
        command("What is the cat doing?"),
        command("And here?", images=(other.sha256,)),
    ):
        final = (await collect(manager.run_turn(session, asked)))[-1]
        assert isinstance(final, TurnCompleted)
        told.append(final.suggestions)
    assert "What is the cat doing?" in told[0] and "What is the cat doing?" not in told[1] and told[1]
    assert told[2] == told[0]


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
    followers = [asyncio.create_task(collect(managers[i % 2].turns.follow(log))) for i, log in enumerate(logs)]
    await asyncio.sleep(0.05)
    for _ in range(12):
        model.gate.release()
    answers = await asyncio.gather(*followers)
    for place, events in enumerate(answers):
        check_order(events)
        assert [e.position for e in events if isinstance(e, TurnQueued)] == list(range(place, 0, -1))
    assert model.most_running == 1
    assert [messages[-1].content for messages in model.asked] == ["0", "1", "2", "3"]
    turns = said(await managers[0].history(session))
    assert [turn.text for turn in turns if turn.role is Role.USER] == ["0", "1", "2", "3"]


async def test_the_place_in_the_models_line_is_told_to_whoever_follows(world: World) -> None:
    model = FakeChatModel(places=[2, 1], gate=asyncio.Semaphore(0))
    here, there = world.manager(model), world.manager(model)
    session, asked = await here.new_session(), command()
    await here.submit(session, asked)
    log = await there.turns.attach(session, asked.id)
    following = asyncio.create_task(collect(there.turns.follow(log)))
    await eventually(lambda: model.running == 1)
    for _ in model.pieces:
        model.gate.release()
    events = await following
    check_order(events)
    assert [event.position for event in events if isinstance(event, TurnQueued)] == [2, 1]


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
    assert len(said(await managers[0].history(session))) == 2


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
            await managers[canceller].turns.cancel(session, asked.id)
    check_order(events)
    assert isinstance(events[-1], TurnCancelled) and events[-1].text == "A "
    assert model.closed == 1 and model.running == 0
    turns = said(await managers[1].history(session))
    assert [turn.status for turn in turns] == [Status.CANCELLED] * 2 and turns[1].text == "A "
    await managers[canceller].turns.cancel(session, asked.id)  # a second Stop changes nothing


async def test_cancel_before_the_first_token(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    managers = [world.manager(model), world.manager(model)]
    session, asked = await managers[0].new_session(), command()
    following = asyncio.create_task(collect(managers[0].run_turn(session, asked)))
    await eventually(lambda: model.running > 0)
    await managers[1].turns.cancel(session, asked.id)
    events = await following
    check_order(events)
    assert isinstance(events[-1], TurnCancelled) and events[-1].text == ""


async def test_cancel_before_the_answer_has_taken_its_first_step(world: World) -> None:
    manager = world.manager(FakeChatModel())
    session, asked = await manager.new_session(), command()
    log = await manager.submit(session, asked)
    while not manager.running_turns:  # noqa: ASYNC110 - the very next step of the loop is the one
        await asyncio.sleep(0)
    await manager.turns.cancel(session, asked.id)
    events = await collect(manager.turns.follow(log))
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
    await manager.turns.cancel(session, second.id)
    events = await collect(manager.turns.follow(waiting))
    check_order(events)
    assert isinstance(events[-1], TurnCancelled)
    for _ in range(3):
        model.gate.release()
    assert isinstance((await running)[-1], TurnCompleted)
    assert len(model.asked) == 1
    told = (await manager.history(session)).exchanges
    assert [one.question.id for one in told] == [first.id, second.id], "as they were asked, not as they ended"


def test_turns_are_told_as_they_came() -> None:
    def exchange(at: float, status: Status = Status.COMPLETED, text: str = "", replaces: str | None = None) -> Exchange:
        asked = Turn(str(at), Role.USER, "?", at=at, replaces=replaces)
        return Exchange(asked, Turn(str(at), Role.ASSISTANT, text, status=status))

    def order(*exchanges: Exchange, more: bool = False) -> list[float]:
        return [one.question.at for one in as_they_came(exchanges, more)]

    stopped = Status.CANCELLED
    assert order(exchange(2, stopped), exchange(3, stopped), exchange(1), exchange(4)) == [1, 2, 3, 4]
    assert order(exchange(2, stopped), exchange(1), more=True) == [2, 1]
    assert order(exchange(0), exchange(2, stopped), exchange(1), more=True) == [0, 1, 2]
    assert order(exchange(2, stopped, "A dog"), exchange(1)) == [2, 1], "it had begun"
    assert order(exchange(2, stopped, replaces="x"), exchange(1)) == [2, 1]
    assert order(exchange(2), exchange(1)) == [2, 1], "a clock was set back"


async def test_cancel_of_an_unknown_turn(world: World) -> None:
    manager = world.manager(FakeChatModel())
    with pytest.raises(UnknownTurn):
        await manager.turns.cancel(await manager.new_session(), command().id)


async def test_leaving_does_not_abort_and_another_process_resumes_at_every_place(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    home, elsewhere = world.manager(model), world.manager(model)
    session, asked = await home.new_session(), command()
    whole = asyncio.create_task(collect(home.run_turn(session, asked)))
    left = await home.submit(session, asked)
    async for _ in home.turns.follow(left):
        break
    resumed = [
        asyncio.create_task(collect(manager.turns.follow(await manager.turns.attach(session, asked.id), 1, seq)))
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
    late = await collect(elsewhere.turns.follow(await elsewhere.turns.attach(session, asked.id), 1, 2))
    assert late == events[2:]


async def test_resume_after_the_replay_is_gone_gets_the_end_only(world: World, redis: Redis) -> None:
    manager = world.manager(FakeChatModel())
    session, asked = await manager.new_session(), command()
    events = await collect(manager.run_turn(session, asked))
    await redis.delete(f"visavis:{{{session}}}:live")
    for seq in (0, 2, 99):
        assert await collect(manager.turns.follow(await manager.turns.attach(session, asked.id), 1, seq)) == events[-1:]
    assert await collect(manager.turns.follow(await manager.turns.attach(session, asked.id), 1, len(events))) == []


async def test_a_turn_of_a_dead_process_is_run_again_by_those_who_follow_it(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(1))
    dying, survivor = world.manager(model), world.manager(model)
    session, asked = await dying.new_session(), command()
    async for event in dying.run_turn(session, asked):
        if isinstance(event, TextDelta):
            break
    await asyncio.sleep(0.05)
    await world.kill(dying)
    following = asyncio.create_task(
        collect(survivor.turns.follow(await survivor.turns.attach(session, asked.id), 1, 1))
    )
    await asyncio.sleep(0.05)
    for _ in range(3):
        model.gate.release()
    events = await following
    again = [event for event in events if event.attempt == 2]
    check_order(again)
    assert isinstance(again[0], TurnRestarted) and isinstance(again[-1], TurnCompleted)
    assert again[-1].text == "A red ball." == "".join(e.text for e in again if isinstance(e, TextDelta))
    assert len(said(await survivor.history(session))) == 2


async def test_a_sweep_finds_a_turn_that_nobody_follows_and_the_second_death_fails_it_aloud(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    session, asked = await world.store.sessions.create(), command()
    await world.manager(model).submit(session, asked)
    for attempt in (1, 2):
        await eventually(lambda: model.running > 0)
        await world.kill(world.managers[-1])
        manager = world.manager(model)
        if attempt == 2:
            break
        await asyncio.sleep(0.6)
        await manager._runner.sweep()
    async with world.manager(model) as last:
        events = await collect(last.turns.follow(await last.turns.attach(session, asked.id), 2, 1))
    check_order(events)
    assert isinstance(events[-1], TurnFailed) and events[-1].attempt == 3
    turns = said(await last.history(session))
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
    following = asyncio.create_task(collect(sleeper.turns.follow(log)))
    await eventually(lambda: model.running > 0)
    await asyncio.sleep(0.1)
    taken = asyncio.create_task(collect(other.turns.follow(await other.turns.attach(session, asked.id), 1, 1)))
    await eventually(lambda: len(model.asked) == 2)
    for _ in range(6):
        model.gate.release()
    finals = [(await events)[-1] for events in (taken, following)]
    assert finals[0] == finals[1] and finals[0].attempt == 2
    assert len(said(await other.history(session))) == 2


async def test_drain_refuses_lets_finish_and_hands_over(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    leaving, staying = world.manager(model), world.manager(model)
    session, asked = await leaving.new_session(), command()
    await leaving.submit(session, asked)
    await eventually(lambda: model.running > 0)
    await leaving.drain(0.05)
    with pytest.raises(Busy):
        await leaving.submit(session, command())
    following = asyncio.create_task(collect(staying.turns.follow(await staying.turns.attach(session, asked.id))))
    for _ in range(3):
        model.gate.release()
    events = await following
    assert isinstance(events[-1], TurnCompleted) and events[-1].attempt == 2


async def test_a_turn_that_was_claimed_and_not_begun_is_handed_over(world: World) -> None:
    leaving, staying = world.manager(FakeChatModel()), world.manager(FakeChatModel())
    session, asked = await leaving.new_session(), command()
    await leaving.submit(session, asked)
    await leaving.drain(0)  # before its worker's first step
    claim = await world.store.turns.claim(session, Wish("another", 5, 60))
    assert claim is not None and (claim.turn.id, claim.attempt, claim.deaths) == (asked.id, 2, 0)
    await world.store.turns.hand_over(session, claim.nonce)
    events = await collect(staying.turns.follow(await staying.turns.attach(session, asked.id)))
    assert isinstance(events[-1], TurnCompleted) and events[-1].attempt == 3


@pytest.mark.parametrize("end", [asyncio.CancelledError(), StoreUnavailable("away")], ids=["left", "away"])
async def test_a_claim_whose_reply_never_came_is_given_up(
    world: World, end: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = world.manager(FakeChatModel())
    session, asked = await manager.new_session(), command()
    submit = world.store.turns.submit

    async def lost(*args: Any) -> None:
        assert (await submit(*args)).claim is not None
        raise end

    monkeypatch.setattr(world.store.turns, "submit", lost)
    with pytest.raises(type(end)):
        await manager.submit(session, asked)
    monkeypatch.undo()
    await asyncio.gather(*manager._runner._handing_over)
    assert await world.store.turns.abandoned_sessions() == [session], "the next sweep finds it, no lease has to run out"
    claim = await world.store.turns.claim(session, Wish("another", 5, 60))
    assert claim is not None and (claim.attempt, claim.deaths) == (2, 0)
    await world.store.turns.hand_over(session, claim.nonce)


async def test_turns_of_a_session_sent_at_once_are_all_answered_in_order(world: World) -> None:
    manager = world.manager(FakeChatModel())
    session = await manager.new_session()
    asked = [command(str(number)) for number in range(6)]
    logs = await asyncio.gather(*(manager.submit(session, one) for one in asked))
    ends = [(await collect(manager.turns.follow(log)))[-1] for log in logs]
    assert all(isinstance(end, TurnCompleted) and end.attempt == 1 for end in ends)
    texts = [one.question.text for one in (await manager.history(session)).exchanges]
    assert sorted(texts) == [str(number) for number in range(6)]
    assert not manager._runner._claimed and not manager._runner._workers


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
        await collect(manager.turns.follow(log))
    await manager.drain(1)
    assert await redis.keys("*") == []
    with pytest.raises(UnknownSession):
        await manager.history(session)


async def test_a_picture_that_another_session_shows_stays(world: World) -> None:
    manager = world.manager(FakeChatModel())
    first, second = await manager.new_session(), await manager.new_session()
    ref = await manager.add_image(first, png())
    assert await manager.add_image(second, png()) == ref
    assert (await manager.forget(first)).images == 0
    assert (await manager.read_image(second, ref.sha256))[0] == ref


async def test_a_store_that_is_down_is_said_and_nothing_crashes(tmp_path: Any) -> None:
    store = open_store(f"unix://{tmp_path}/nobody.sock")
    async with DialogueManager(store, FakeChatModel(), policy=FAST) as manager:
        await asyncio.sleep(0.2)
        for call in (manager.new_session(), manager.submit("0" * 32, command()), manager._runner.sweep()):
            with pytest.raises(StoreUnavailable):
                await call
    await store.aclose()


class FlakyStore(Store):
    """Does not answer to the named methods until it is told to."""

    def __init__(self, redis: Redis, *away: str) -> None:
        super().__init__(redis)
        self.away = set(away)
        for part in (self.sessions, self.turns):
            for name in ("load", "renew", "finish", "glance"):
                if hasattr(part, name):
                    setattr(part, name, self._flaky(name, getattr(part, name)))

    def _flaky(self, name: str, method: Any) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            if name in self.away:
                raise StoreUnavailable("away")
            return await method(*args, **options)

        return call


async def test_a_store_that_goes_away_in_mid_turn_costs_nothing_when_it_comes_back(redis: Redis) -> None:
    store, model = FlakyStore(redis), FakeChatModel()
    manager = DialogueManager(store, model, policy=FAST)
    session, first = await manager.new_session(), command()
    await collect(manager.run_turn(session, first))
    earlier = (await manager.history(session)).exchanges[0].question
    again = replace(earlier, id=str(uuid.uuid4()), replaces=first.id)  # what it stands for has to be loaded
    store.away = {"load", "renew", "finish", "glance"}
    following = asyncio.create_task(collect(manager.turns.follow(await manager.turns.submit(session, again))))
    await asyncio.sleep(0.15)
    assert len(model.asked) == 1  # the session could not be loaded yet
    store.away = {"renew", "finish"}
    await eventually(lambda: model.closed == 2)
    await asyncio.sleep(0.1)
    assert not following.done()  # nobody is told of an answer that is not kept
    store.away = set()
    events = await following
    check_order(events)
    assert isinstance(events[-1], TurnCompleted) and events[-1].attempt == 1
    assert len(said(await manager.history(session))) == 2


async def test_a_store_that_stays_away_leaves_the_turn_for_later(redis: Redis) -> None:
    store, model = FlakyStore(redis, "finish"), FakeChatModel()
    policy = TurnPolicy(lease_s=0.1, flush_s=0.02, poll_s=0.02, finish_patience_s=0.05)
    manager = DialogueManager(store, model, policy=policy)
    session = await manager.new_session()
    log = await manager.submit(session, command())
    await eventually(lambda: model.closed == 1 and not manager.running_turns)
    store.away = set()
    events = await collect(manager.turns.follow(log, 1, 1))
    assert isinstance(events[-1], TurnCompleted) and events[-1].attempt == 2
    await manager.drain(1)


def edit(turn: str, text: str) -> Edit:
    return Edit(turn, str(uuid.uuid4()), text)


def regenerate(turn: str) -> Regenerate:
    return Regenerate(turn, str(uuid.uuid4()))


async def test_an_answer_that_is_asked_for_again_is_another_one_in_the_same_place(world: World) -> None:
    model = FakeChatModel()
    manager = world.manager(model)
    session = await manager.new_session()
    ref = await manager.add_image(session, png())
    first, later = command("What?", images=(ref.sha256,)), command("Why?")
    for asked in (first, later):
        await collect(manager.run_turn(session, asked))
    again = regenerate(first.id)
    model.pieces = ["A blue ", "ball."]
    events = await collect(manager.turns.follow(await manager.regenerate(session, again)))
    check_order(events)
    assert {event.turn for event in events} == {again.id} and events[-1].text == "A blue ball."
    assert model.asked[-1] == model.asked[0]  # neither the earlier answer nor what came after it
    assert model.options[0] == {} and model.options[-1].keys() == {"temperature", "seed"}
    [one] = (await manager.history(session)).exchanges
    assert one.question.images == (ref.sha256,) and one.answer.text == "A blue ball."
    assert [other.answer.text for other in one.alternatives] == ["A red ball."]
    assert await collect(manager.turns.follow(await manager.regenerate(session, again))) == events
    page = await manager.select(session, first.id)
    assert [turn.text for turn in said(page)] == ["What?", "A red ball.", "Why?", "A red ball."]
    last = regenerate(later.id)
    ended = await collect(manager.turns.follow(await manager.regenerate(session, last)))
    await manager.select(session, again.id)
    asked_times = len(model.asked)
    assert await collect(manager.turns.follow(await manager.regenerate(session, last))) == ended, "its branch was left"
    assert len(model.asked) == asked_times
    for turn_id in (command().id, again.id):
        with pytest.raises(UnknownTurn):
            await manager.regenerate(await manager.new_session(), regenerate(turn_id))


async def test_another_attempt_at_an_answer_that_is_asked_for_again_has_the_same_seed(world: World) -> None:
    model = FakeChatModel()
    session, asked = await world.store.sessions.create(), command()
    await collect(world.manager(model).run_turn(session, asked))
    model.gate = asyncio.Semaphore(0)
    dying = world.manager(model)
    log = await dying.regenerate(session, regenerate(asked.id))
    await eventually(lambda: model.running > 0)
    await world.kill(dying)
    survivor = world.manager(model)
    following = asyncio.create_task(collect(survivor.turns.follow(await survivor.turns.attach(session, log.turn))))
    await eventually(lambda: len(model.options) == 3)
    for _ in range(3):
        model.gate.release()
    assert isinstance((await following)[-1], TurnCompleted)
    assert model.options[1] == model.options[2] and model.options[1]["seed"] >= 0


async def test_an_edited_question_begins_a_branch(world: World) -> None:
    model = FakeChatModel()
    manager = world.manager(model)
    session = await manager.new_session()
    asked = [command(text) for text in ("a", "b", "c")]
    for one in asked:
        await collect(manager.run_turn(session, one))
    edited = edit(asked[1].id, "B")
    await collect(manager.turns.follow(await manager.edit(session, edited)))
    assert [message.content for message in model.asked[-1]] == ["a", "A red ball.", "B"]
    await collect(manager.run_turn(session, command("d")))
    assert [message.content for message in model.asked[-1]][::2] == ["a", "B", "d"]
    assert model.options[-1] == {}
    page = await manager.history(session, edited.id, 2)
    assert [turn.text for turn in said(page)] == ["a", "A red ball."]


async def test_feedback_title_and_list(world: World) -> None:
    manager = world.manager(FakeChatModel())
    session, asked = await manager.new_session("web:a"), command("Is it a cat?")
    await collect(manager.run_turn(session, asked))
    await manager.set_feedback(session, asked.id, Feedback(-1, consent=True))
    await manager.set_title(session, "Pets")
    opened = await manager.open_session(session, "web:a")
    assert opened.exchanges[0].answer.feedback == Feedback(-1, True) and opened.title == "Pets"
    assert [one.id for one in await manager.persons.sessions("web:a", "cat pets")] == [session]
    with pytest.raises(UnknownSession):
        await manager.open_session(session, "web:b")
    nobodys = await manager.new_session()
    await collect(manager.run_turn(nobodys, command()))
    await manager.open_session(nobodys, "web:a")
    assert [one.id for one in await manager.persons.sessions("web:a")] == [nobodys, session]


async def test_everybody_who_waits_sees_the_queue_move_in_whatever_process(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0), pieces=["x"])
    home, elsewhere = world.manager(model), world.manager(model)
    session = await home.new_session()
    asked = [command(str(place)) for place in range(4)]
    logs = [await home.submit(session, one) for one in asked]
    await eventually(lambda: model.running > 0)
    places = [home.turns.follow(logs[3]), elsewhere.turns.follow(await elsewhere.turns.attach(session, asked[3].id))]
    seen: list[list[Event]] = [[], []]

    async def follow(place: int) -> None:
        async for event in places[place]:
            seen[place].append(event)

    followers = [asyncio.create_task(follow(place)) for place in (0, 1)]
    await eventually(lambda: all(len(events) == 2 for events in seen))
    model.gate.release()
    await eventually(lambda: all(len(events) == 3 for events in seen))
    await elsewhere.turns.cancel(session, asked[1].id)
    await home.turns.cancel(session, asked[2].id)
    await eventually(lambda: model.closed == 2 and model.running == 1)
    model.gate.release()
    await asyncio.gather(*followers)
    assert seen[0] == seen[1]
    check_order(seen[0])
    assert [event.position for event in seen[0] if isinstance(event, TurnQueued)] == [3, 2, 1]


async def test_a_turn_that_is_stopped_while_it_waits_ends_alike_for_all(world: World) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    home, elsewhere = world.manager(model), world.manager(model)
    session = await home.new_session()
    logs = [await home.submit(session, command()) for _ in range(3)]
    followers = [
        asyncio.create_task(collect(home.turns.follow(logs[2]))),
        asyncio.create_task(collect(elsewhere.turns.follow(await elsewhere.turns.attach(session, logs[2].turn)))),
    ]
    await asyncio.sleep(0.1)
    await elsewhere.turns.cancel(session, logs[2].turn)
    seen = await asyncio.gather(*followers)
    check_order(seen[0])
    assert seen[0] == seen[1] and isinstance(seen[0][-1], TurnCancelled)


async def test_a_turn_that_nobody_follows_is_stopped_after_a_while_and_one_that_somebody_does_is_not(
    world: World,
) -> None:
    model = FakeChatModel(gate=asyncio.Semaphore(1))
    policy = TurnPolicy(renew_s=0.02, flush_s=0.02, poll_s=0.02, watch_s=0.2)
    home, elsewhere = world.manager(model, policy=policy), world.manager(model, policy=policy)
    session, asked = await home.new_session(), command()
    await home.submit(session, asked)
    following = asyncio.create_task(
        anext(elsewhere.turns.follow(await elsewhere.turns.attach(session, asked.id), 1, 2))
    )
    await asyncio.sleep(0.6)
    assert model.running == 1 and not following.done()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await eventually(lambda: model.running == 0)
    await eventually(lambda: home.running_turns == 0)
    final = (await collect(elsewhere.turns.follow(await elsewhere.turns.attach(session, asked.id))))[-1]
    assert isinstance(final, TurnCancelled) and final.text == "A "
