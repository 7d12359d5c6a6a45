"""Conversations that earlier versions have kept are upgraded, once and whole; those of later ones are left alone."""

import asyncio
import json
import secrets
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import version_1_store as version_1
from fake_chat_model import FakeChatModel
from redis.asyncio import Redis

from visavis.dialogue import store_upgrade
from visavis.dialogue.claims import Wish
from visavis.dialogue.commands import Regenerate, TurnCommand
from visavis.dialogue.errors import StoreTooNew, StoreUnavailable
from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import Store, open_store
from visavis.dialogue.store_branches import KEY_NAMES
from visavis.dialogue.store_client import VERSION, session_key
from visavis.dialogue.store_migrations import Kept
from visavis.dialogue.store_records import SCHEMA
from visavis.dialogue.store_upgrade import upgrade_session
from visavis.dialogue.turns import Region, Status

# schema created owner title path count pictures, and what is left of a claim: running attempt deaths fence
META_FIELDS = 11


async def everything(redis: Redis, session: str = "") -> dict[bytes, Any]:
    """What the store holds, all of it or of a conversation, with the times at which it runs out."""
    found: dict[bytes, Any] = {}
    for key in await redis.keys(f"visavis:{{{session}}}:*" if session else "*"):
        match await redis.type(key):
            case b"hash":
                content: Any = await redis.hgetall(key)
            case b"list":
                content = await redis.lrange(key, 0, -1)
            case b"set":
                content = await redis.smembers(key)
            case b"zset":
                content = await redis.zrange(key, 0, -1, withscores=True)
            case b"stream":
                content = await redis.xrange(key)
            case _:
                content = await redis.get(key)
        found[key] = (content, await redis.pexpiretime(key))
    return found


async def many(redis: Redis, count: int) -> list[str]:
    sessions = [secrets.token_hex(16) for _ in range(count)]
    for session in sessions:
        await version_1.write(redis, session)
    return sessions


async def answers(manager: DialogueManager, session: str, turn: str) -> TurnCompleted:
    async for event in manager.turns.follow(await manager.turns.attach(session, turn)):
        final = event
    assert isinstance(final, TurnCompleted)
    return final


@pytest.mark.parametrize("is_swept", [True, False], ids=["when the store is opened", "when it is asked for"])
async def test_a_conversation_of_version_1_is_read_and_goes_on(store: Store, redis: Redis, is_swept: bool) -> None:
    (session,) = await many(redis, 1)
    if is_swept:
        assert await store.open() == 1
    manager = DialogueManager(store, FakeChatModel(image=version_1.RED))
    found = await manager.open_session(session, "web:ann")
    assert [(one.question.text, one.answer.status) for one in found.exchanges] == [
        ("And what “colour” 🙂?", Status.COMPLETED),
        ("fails", Status.FAILED),
        ("The last?", Status.COMPLETED),
    ]
    first = found.exchanges[0]
    assert first.answer.text == "A red ball." and (first.question.at, first.answer.at) == (
        1700000000.123456,
        1700000001.623456,
    )
    assert found.title == "And what “colour” 🙂?" and not found.more
    assert found.shown == ((version_1.RED, version_1.BLUE),)
    assert [turn.text for turn in found.waiting] == ["Who runs?", "Who waits?"]
    assert found.waiting[0].region == Region(version_1.RED, 0.25, 0.5, 0.125, 0.25)
    assert (await manager.read_image(session, version_1.RED))[0].width == 4
    await version_1.write(redis, other := secrets.token_hex(16), images=(version_1.BLUE,))
    assert (await manager.history(other)).shown == ((version_1.BLUE,),)
    await manager.forget(other)
    for key in ("meta", "turns", "index", "images", "queue", "shown"):
        assert 0 < await redis.ttl(session_key(session, key)) <= version_1.TTL_S
    await manager.turns._runner.sweep()
    assert (await answers(manager, session, version_1.RUNS)).attempt == 2, "its process has lost it, without a death"
    await answers(manager, session, version_1.WAITS)
    async for _ in manager.turns.follow(await manager.regenerate(session, Regenerate(version_1.TURNS[4], "a" * 8))):
        pass
    told = await manager.history(session)
    assert [len(one.alternatives) for one in told.exchanges] == [0, 0, 1]
    assert [one.id for one in await manager.persons.sessions("web:ann")] == [session]
    receipt = await manager.persons.forget("web:ann")
    assert (receipt.turns, receipt.images) == (12, 2)


async def test_a_process_of_version_1_writes_nothing_any_more_in_a_turn_that_it_runs(
    store: Store, redis: Redis
) -> None:
    (session,) = await many(redis, 1)
    await store.open()
    assert await redis.hget(session_key(session, "meta"), "holder") is None, (
        "what its scripts ask for before they write"
    )
    assert not await redis.exists(session_key(session, "lease"))
    claim = await store.turns.claim(session, Wish("mine", 10, 10))
    assert claim is not None and (claim.turn.id, claim.attempt, claim.deaths, claim.fence) == (version_1.RUNS, 2, 0, 7)


async def test_nothing_is_upgraded_twice_and_a_new_store_has_its_version(store: Store, redis: Redis) -> None:
    assert await store.open() == 0
    assert await redis.hgetall(VERSION) == {b"version": b"%d" % SCHEMA, b"left": b"%d" % SCHEMA}
    await redis.delete(VERSION)
    (session,) = await many(redis, 1)
    assert await Store(redis).open() == 1
    before = await everything(redis)
    assert await Store(redis).open() == 0 and not await upgrade_session(redis, session)
    assert await everything(redis) == before


async def test_several_gateways_upgrade_each_conversation_once_though_one_is_killed(
    store_url: str, redis: Redis
) -> None:
    sessions = await many(redis, 200)
    script = str(Path(__file__).with_name("upgrading_process.py"))

    async def start(*more: str) -> asyncio.subprocess.Process:
        command = (sys.executable, script, store_url, *more)
        return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)

    killed = await start("50")
    assert await killed.wait() == -signal.SIGKILL
    schemas = [await redis.hget(session_key(one, "meta"), "schema") for one in sessions]
    assert schemas.count(b"2") == 49 and await redis.hget(VERSION, "left") is None
    others = [await start() for _ in range(3)]
    told = [int((await one.communicate())[0]) for one in others]
    assert 49 + sum(told) == len(sessions), told
    store = Store(redis)
    for session in sessions:
        found = await store.sessions.load(session)
        assert (len(found.exchanges), len(found.waiting), len(found.shown)) == (3, 2, 1)
        assert await redis.hlen(session_key(session, "meta")) == META_FIELDS
    assert await redis.hget(VERSION, "left") == b"2"


async def test_one_that_changes_meanwhile_is_read_again(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    (session,) = await many(redis, 1)
    extra = "2 late " + json.dumps({"text": "Late", "images": [], "at": 1.0, "region": None, "status": "waiting"})
    plain = store_upgrade._commands

    def slow(*args: Any) -> Any:
        """What an earlier version may do between reading and writing."""
        monkeypatch.setattr(store_upgrade, "_commands", plain)
        change.append(asyncio.get_running_loop().create_task(redis.rpush(session_key(session, "queue"), extra)))
        return plain(*args)

    change: list[Any] = []
    monkeypatch.setattr(store_upgrade, "_commands", slow)
    evaluate = redis.eval

    async def after_the_change(script: str, *args: Any) -> Any:
        await asyncio.gather(*change)
        return await evaluate(script, *args)

    monkeypatch.setattr(redis, "eval", after_the_change)
    assert await upgrade_session(redis, session)
    assert change and [one.id for one in (await Store(redis).sessions.load(session)).waiting][-1] == "late"


async def test_one_that_cannot_be_read_stays_and_stops_nobody(store: Store, redis: Redis) -> None:
    broken, whole = await many(redis, 2)
    await redis.lset(session_key(broken, "turns"), 0, "no entry at all {")
    before = await everything(redis, broken)
    assert await store.open() == 1
    assert await everything(redis, broken) == before
    assert len((await store.sessions.load(whole)).exchanges) == 3


def _later(before: Kept) -> Kept:
    return before | {"meta": before["meta"] | {"mood": "good"}, "places": ["here"], "control": []}


async def test_a_version_after_this_one_takes_over_while_this_one_still_runs(store: Store, redis: Redis) -> None:
    """A sample of the next migration: this version's processes leave what has gone on alone, and serve the rest."""
    await store.open()
    manager = DialogueManager(store, FakeChatModel())
    old, new = await manager.new_session("web:ann"), await manager.new_session("web:ann")
    for session in (old, new):
        async for _ in manager.run_turn(session, TurnCommand("t" * 8, "Hello")):
            pass
    await manager.submit(new, TurnCommand("u" * 8, "Who waits?"))
    assert await upgrade_session(redis, new, SCHEMA + 1, {SCHEMA: _later})
    assert await redis.smembers(session_key(new, "places")) == {b"here"}
    before = await everything(redis, new)
    image = "0" * 64
    for refused in (
        manager.history(new),
        manager.submit(new, TurnCommand("v" * 8, "Hello?")),
        manager.read_image(new, image),
        manager.set_title(new, "Mine"),
        manager.forget(new),
        manager.persons.sessions("web:ann"),
        store.turns.claim(new, Wish("mine", 10, 10)),
    ):
        with pytest.raises(StoreTooNew, match="newer visavis"):
            await refused
    assert await everything(redis, new) == before
    await manager.drain(0)
    assert len((await manager.history(old)).exchanges) == 1
    assert await upgrade_session(redis, old, SCHEMA + 2, {SCHEMA: _later, SCHEMA + 1: lambda one: one}), "two at once"
    assert await redis.hmget(session_key(old, "meta"), ["schema", "mood"]) == [b"%d" % (SCHEMA + 2), b"good"]


async def test_a_claim_is_lost_to_a_later_version(store: Store, redis: Redis) -> None:
    session = await store.sessions.create()
    model = FakeChatModel(gate=asyncio.Semaphore(0))
    manager = DialogueManager(store, model, policy=TurnPolicy(renew_s=0.05))
    log = await manager.submit(session, TurnCommand("t" * 8, "Hello"))
    while not model.running:  # noqa: ASYNC110 - there is no event of it
        await asyncio.sleep(0.01)
    assert await upgrade_session(redis, session, SCHEMA + 1, {SCHEMA: _later})
    before = await everything(redis, session)
    while manager.running_turns:  # noqa: ASYNC110 - it stops by itself, without an event
        await asyncio.sleep(0.01)
    assert not log.is_finished and await everything(redis, session) == before


async def test_a_store_of_a_later_version_is_refused_and_nothing_in_it_touched(store_url: str, redis: Redis) -> None:
    await many(redis, 2)
    await redis.hset(VERSION, mapping={"version": SCHEMA + 1, "left": SCHEMA})
    before = await everything(redis)
    for store in (Store(redis), open_store(store_url)):  # connected before, and connecting now
        with pytest.raises(StoreTooNew, match="Start the newer one, or restore a backup"):
            await store.open()
        with pytest.raises(StoreTooNew):
            await store.ping()
    with pytest.raises(StoreTooNew):
        await store.sessions.create("web:ann")
    async with DialogueManager(store, FakeChatModel()) as manager:
        with pytest.raises(StoreUnavailable, match="newer visavis"):
            await manager.new_session()
    await store.aclose()
    after = await everything(redis)
    await redis.delete(VERSION)  # or nobody else could connect to this server
    assert after == before


def test_every_key_of_a_conversation_is_kept_or_runs_out_by_itself() -> None:
    from visavis.dialogue.store_migrations import KINDS

    assert set(KEY_NAMES) - set(KINDS) == {"live", "lease", "watched"}
