"""A store that answers with errors, stalls or goes away in mid-turn: nothing crashes, nothing acknowledged is lost."""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_chat_model import FakeChatModel
from faulty_store import FaultyStore
from redis.asyncio import Redis
from test_manager import FAST, command

from visavis.dialogue.errors import DialogueError, StoreUnavailable
from visavis.dialogue.events import Event, TextDelta, TurnCompleted
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import open_store

# Nobody takes a turn over while the store is away in these tests, so a long lease keeps a busy machine from it.
SLOW = TurnPolicy(lease_s=30, renew_s=0.1, flush_s=0.02, poll_s=0.02, sweep_s=0.05)
ERRORS = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MOVED 1234 127.0.0.1:9",
    "ASK 1234 127.0.0.1:9",
    "CLUSTERDOWN Hash slot not served",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOAUTH Authentication required.",
]


@pytest.fixture
async def proxy(store_url: str, redis: Redis) -> AsyncIterator[FaultyStore]:
    with tempfile.TemporaryDirectory(prefix="vv") as folder:
        async with FaultyStore(store_url, Path(folder) / "f.sock").serve() as proxy:
            yield proxy


async def answer_over(proxy: FaultyStore, begin: object, end: object, policy: TurnPolicy = SLOW) -> list[Event]:
    """A turn in whose middle something begins and, once the store was seen away, ends; the same process goes on."""
    store, gate = open_store(proxy.url), asyncio.Semaphore(1)
    async with DialogueManager(store, FakeChatModel(gate=gate), policy=policy) as manager:
        session = await manager.new_session()
        log = await manager.submit(session, command())
        seen: list[Event] = []
        async for event in manager.turns.follow(log):
            seen.append(event)
            if isinstance(event, TextDelta) and len(seen) == 2:
                begin()  # type: ignore[operator]
                with pytest.raises(StoreUnavailable):
                    await manager.history(session)
                gate.release()
                gate.release()
                await asyncio.sleep(0.3)
                end()  # type: ignore[operator]
        [exchange] = (await manager.history(session)).exchanges
        assert exchange.answer.final == seen[-1]
        assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
        assert isinstance(seen[-1], TurnCompleted) and seen[-1].text == "A red ball."
    await store.aclose()
    return seen


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.split()[0])
async def test_errors_in_mid_turn_are_survived_and_told(proxy: FaultyStore, error: str) -> None:
    await answer_over(proxy, lambda: setattr(proxy, "error", error), lambda: setattr(proxy, "error", None))
    assert proxy.refused


async def test_lost_connections_cost_nothing(proxy: FaultyStore) -> None:
    store, gate = open_store(proxy.url), asyncio.Semaphore(1)
    async with DialogueManager(store, FakeChatModel(gate=gate), policy=SLOW) as manager:
        session = await manager.new_session()
        async for event in manager.turns.follow(await manager.submit(session, command())):
            proxy.drop()
            gate.release()
            last = event
        assert isinstance(last, TurnCompleted) and last.attempt == 1
    await store.aclose()


@pytest.mark.slow
async def test_a_store_that_takes_ten_seconds_is_waited_for(proxy: FaultyStore) -> None:
    def later() -> None:
        asyncio.get_running_loop().call_later(10, proxy.flow)

    events = await answer_over(proxy, proxy.stall, later, TurnPolicy())
    assert events[-1].attempt == 1


async def test_a_submit_that_fails_may_be_sent_again_and_is_answered_once(proxy: FaultyStore, redis: Redis) -> None:
    store, model = open_store(proxy.url), FakeChatModel()
    async with DialogueManager(store, model, policy=FAST) as manager:
        session, asked = await manager.new_session(), command()
        for error in ERRORS[:3]:
            proxy.error = error
            with pytest.raises(DialogueError):
                await manager.submit(session, asked)
        proxy.error = None
        for _ in range(3):
            events = [event async for event in manager.turns.follow(await manager.submit(session, asked))]
            assert isinstance(events[-1], TurnCompleted)
        assert len(model.asked) == 1
        with pytest.raises(DialogueError):
            await manager.history(str(uuid.uuid4()))
    await store.aclose()
