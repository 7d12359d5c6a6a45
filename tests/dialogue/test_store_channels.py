"""Messages of a chat platform in both stores: taken once, kept by a lease, left to others; what goes with `forget`."""

import asyncio

import pytest
from redis.asyncio import Redis

from visavis.dialogue.store import Store
from visavis.dialogue.store_channels import ChannelStore
from visavis.dialogue.store_jobs import MOST_WAITING, Job

TURN = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def channel(store: Store) -> ChannelStore:
    return store.channel("slack")


async def test_a_message_is_taken_once_by_whichever_of_its_ids(channel: ChannelStore, store: Store) -> None:
    taken = await asyncio.gather(*(channel.take(Job("m", "{}"), ("e1", "m"), 10) for _ in range(20)))
    assert taken.count(True) == 1
    assert not await channel.take(Job("m", "{}"), ("e2", "m"), 10)
    assert not await channel.take(Job("n", "{}"), ("e1", "n"), 10)
    assert await channel.take(Job("n", "{}"), ("n",), 10)
    assert await store.channel("discord").take(Job("m", "{}"), ("m",), 10)


async def test_what_is_kept_is_nobody_elses_and_what_is_left_is_the_next_ones(channel: ChannelStore) -> None:
    await channel.take(Job("m", "first"), ("m",), 10)
    assert await channel.adopt(10) == []
    await channel.renew(["m"], 0.001, "later")
    await asyncio.sleep(0.01)
    assert await channel.adopt(10) == [Job("m", "later", deaths=1)]
    assert await channel.adopt(10) == []
    await channel.release("m")
    assert await channel.adopt(10) == [Job("m", "later", deaths=1)]


async def test_what_was_lost_to_another_process_can_neither_be_kept_nor_ended(
    channel: ChannelStore, store: Store
) -> None:
    other = store.channel("slack")
    await channel.take(Job("m", "first"), ("m",), 0.001, "room")
    await channel.take(Job("n", "{}"), ("n",), 10)
    await asyncio.sleep(0.01)
    assert await other.adopt(10) == [Job("m", "first", deaths=1)]
    assert await channel.renew(["m", "n"], 0.001, "stale") == ["m"]
    await channel.release("m")
    await channel.done("m", "room")
    await asyncio.sleep(0.01)
    assert [job.id for job in await channel.adopt(10)] == ["n"]
    assert await other.renew(["m"], 0.001) == []
    await asyncio.sleep(0.01)
    assert await channel.adopt(10) == [Job("m", "first", deaths=2)]
    assert await channel.is_first("m", "room")


async def test_only_so_many_messages_of_a_place_wait(channel: ChannelStore) -> None:
    for number in range(MOST_WAITING):
        assert await channel.take(Job(f"m{number}", "{}"), (f"m{number}",), 10, "room")
    assert await channel.take(Job("more", "{}"), ("more",), 10, "room") is None
    assert await channel.take(Job("x", "{}"), ("x",), 10, "elsewhere")
    await channel.done("m0", "room")
    assert await channel.take(Job("more", "{}"), ("more",), 10, "room")


async def test_a_message_that_has_ended_leaves_no_line_behind(channel: ChannelStore, redis: Redis) -> None:
    await channel.take(Job("m", "{}"), ("m",), 10, "room of Ann")
    await channel.done("m", "room of Ann")
    assert [key async for key in redis.scan_iter()] == [b"visavis:seen:{slack}:m"]


async def test_thumbs_of_several_people_are_counted_and_go_with_their_conversation(
    channel: ChannelStore, store: Store, redis: Redis
) -> None:
    session = await store.sessions.create("slack:T-U")
    votes = [("ann", 1, False), ("bob", 1, False), ("eve", -1, False), ("bob", 1, True), ("eve", 1, True)]
    assert [await channel.vote(session, TURN, who, score, withdrawn=gone) for who, score, gone in votes] == [
        1,
        2,
        1,
        0,
        0,
    ]
    await store.sessions.forget(session)
    assert [key async for key in redis.scan_iter()] == []


async def test_messages_of_a_place_stand_in_line_until_they_have_passed_or_ended(channel: ChannelStore) -> None:
    for job in ("a", "b", "c", "d"):
        await channel.take(Job(job, "{}"), (job,), 10, "room")
    await channel.take(Job("x", "{}"), ("x",), 10, "elsewhere")
    assert [await channel.is_first(job, "room") for job in "abcd"] == [True, False, False, False]
    assert await channel.is_first("x", "elsewhere")
    await channel.passed("a", "room")
    await channel.done("b")
    assert [await channel.is_first(job, "room") for job in "cd"] == [True, False]
    await channel.passed("c", "room")
    assert await channel.is_first("d", "room")
    await channel.passed("d", "room")
    assert await channel.is_first("late", "room")


async def test_what_is_done_leaves_nothing_and_cannot_be_kept_any_more(channel: ChannelStore, redis: Redis) -> None:
    await channel.take(Job("m", "{}"), ("m",), 10)
    await channel.done("m")
    await channel.renew(["m"], 10, "{}")
    await channel.release("m")
    await asyncio.sleep(0.01)
    assert await channel.adopt(10) == []
    assert [key async for key in redis.scan_iter()] == [b"visavis:seen:{slack}:m"]
    assert 0 < await redis.ttl("visavis:seen:{slack}:m") <= 900


async def test_the_first_conversation_of_a_place_stays_until_it_is_replaced(
    channel: ChannelStore, store: Store
) -> None:
    one, other = await store.sessions.create(), await store.sessions.create()
    assert await channel.session_at("room") is None
    assert await channel.bind("room", one) == one
    assert await channel.bind("room", other) == one
    assert await channel.bind("room", other, before=one) == other
    assert await channel.session_at("room") == other
    await store.sessions.forget(one)
    assert await channel.session_at("room") == other


async def test_places_and_posts_go_with_their_conversation(channel: ChannelStore, store: Store, redis: Redis) -> None:
    session = await store.sessions.create("slack:T-U")
    await channel.bind("room", session)
    await channel.remember("C:1", session, TURN)
    assert await channel.recall("C:1") == (session, TURN)
    await store.sessions.forget(session)
    assert await channel.recall("C:1") is None
    assert await channel.session_at("room") is None
    await channel.remember("C:2", session, TURN)
    await channel.bind("room", session)
    assert [key async for key in redis.scan_iter()] == []
