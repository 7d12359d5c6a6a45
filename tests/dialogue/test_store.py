import asyncio
import time
import uuid
from typing import Any

import pytest
from redis.asyncio import Redis

from visavis.dialogue.errors import Busy, StoreUnavailable, UnknownImage, UnknownSession
from visavis.dialogue.events import Event, TextDelta, TurnCompleted
from visavis.dialogue.images import NormalisedImage
from visavis.dialogue.store import Claim, ImageStore, SessionStore
from visavis.dialogue.turns import ImageRef, Region, Role, Status, Turn

REF = ImageRef("c" * 64, 4, 3, "image/png", 5)


def turn(text: str = "What?", **more: Any) -> Turn:
    return Turn(str(uuid.uuid4()), Role.USER, text, at=time.time(), status=Status.WAITING, **more)


def done(session: str, asked: Turn, seq: int = 2, attempt: int = 1) -> TurnCompleted:
    return TurnCompleted(session=session, turn=asked.id, attempt=attempt, seq=seq, text="é\u2028 ok", html="<p>ok</p>")


def delta(session: str, asked: Turn, seq: int) -> Event:
    return TextDelta(session=session, turn=asked.id, attempt=1, seq=seq, text=str(seq))


async def claim(sessions: SessionStore, session: str, nonce: str = "n", lease_s: float = 5) -> Claim:
    claimed = await sessions.claim_turn(session, nonce, lease_s)
    assert claimed is not None
    return claimed


async def converse(sessions: SessionStore, session: str, asked: Turn) -> None:
    await sessions.submit_turn(session, asked, 8)
    final = done(session, asked)
    assert await sessions.finish_turn(await claim(sessions, session), [final], final)


async def test_an_unknown_session_is_unknown_everywhere(sessions: SessionStore) -> None:
    nobody = "0" * 32
    for call in (
        sessions.check_session(nobody),
        sessions.load_session(nobody),
        sessions.load_history(nobody, None, 5),
        sessions.submit_turn(nobody, turn(), 8),
        sessions.add_image(nobody, REF),
        sessions.find_image(nobody, REF.sha256),
        sessions.forget_session(nobody),
    ):
        with pytest.raises(UnknownSession):
            await call


async def test_a_session_of_another_schema_is_not_touched(sessions: SessionStore, redis: Redis) -> None:
    session = await sessions.create_session()
    await redis.hset(f"visavis:{{{session}}}:meta", "schema", 2)
    with pytest.raises(UnknownSession):
        await sessions.load_session(session)


async def test_a_turn_comes_back_as_it_was(sessions: SessionStore) -> None:
    session = await sessions.create_session()
    await sessions.add_image(session, REF)
    asked = turn('é \U0001f600 "x" \u2028', images=(REF.sha256,), region=Region(REF.sha256, 0, 0, 0.5, 1))
    assert await sessions.submit_turn(session, asked, 8) == 0
    assert (await sessions.load_session(session)).waiting == (asked,)
    claimed = await claim(sessions, session)
    assert (claimed.turn, claimed.attempt, claimed.position) == (asked, 1, 0)
    final = done(session, asked)
    assert await sessions.finish_turn(claimed, [final], final)
    loaded = await sessions.load_session(session)
    assert loaded.waiting == () and loaded.newest_images == (REF.sha256,)
    assert loaded.turns[0].text == asked.text and loaded.turns[0].region == asked.region
    assert loaded.turns[1].final == final == await sessions.load_final(session, asked.id)


async def test_a_turn_is_queued_once_and_answered_once(sessions: SessionStore) -> None:
    session, asked = await sessions.create_session(), turn()
    assert await asyncio.gather(*(sessions.submit_turn(session, asked, 8) for _ in range(5))) == [0] * 5
    assert await sessions.submit_turn(session, turn(), 8) == 1
    final = done(session, asked)
    claimed = await claim(sessions, session)
    assert await sessions.finish_turn(claimed, [final], final)
    assert await sessions.finish_turn(claimed, [final], final)  # the reply was lost and the write is repeated
    assert await sessions.submit_turn(session, asked, 8) is None
    assert len((await sessions.load_session(session)).turns) == 2


async def test_a_region_of_a_foreign_picture_is_refused(sessions: SessionStore) -> None:
    session = await sessions.create_session()
    with pytest.raises(UnknownImage):
        await sessions.submit_turn(session, turn(region=Region(REF.sha256, 0, 0, 1, 1)), 8)


async def test_too_many_waiting_turns(sessions: SessionStore) -> None:
    session = await sessions.create_session()
    for _ in range(2):
        await sessions.submit_turn(session, turn(), 2)
    with pytest.raises(Busy):
        await sessions.submit_turn(session, turn(), 2)


async def test_one_holder_at_a_time_and_a_repeated_claim_is_the_same(sessions: SessionStore) -> None:
    session = await sessions.create_session()
    assert await sessions.claim_turn(session, "a", 5) is None
    await sessions.submit_turn(session, turn(), 8)
    first = await claim(sessions, session, "a")
    assert await claim(sessions, session, "a") == first
    assert await sessions.claim_turn(session, "b", 5) is None
    await sessions.hand_over(first)
    assert (await claim(sessions, session, "b")).attempt == 2


async def test_of_many_claims_one_wins(sessions: SessionStore) -> None:
    session = await sessions.create_session()
    await sessions.submit_turn(session, turn(), 8)
    claims = await asyncio.gather(*(sessions.claim_turn(session, str(i), 5) for i in range(20)))
    assert sum(claim is not None for claim in claims) == 1


async def test_an_outrun_holder_can_write_nothing(sessions: SessionStore) -> None:
    session, asked = await sessions.create_session(), turn()
    await sessions.submit_turn(session, asked, 8)
    old = await claim(sessions, session, "a", 0.02)
    await asyncio.sleep(0.05)
    assert await sessions.renew_claim(old, [delta(session, asked, 1)], 0.02) == 0  # nobody came: it goes on
    await asyncio.sleep(0.05)
    new = await claim(sessions, session, "b")
    assert new.fence > old.fence and new.attempt == 2
    assert await sessions.renew_claim(old, [delta(session, asked, 2)], 5) == -1
    final = done(session, asked)
    assert not await sessions.finish_turn(old, [final], final)
    await sessions.hand_over(old)
    assert await sessions.claim_turn(session, "c", 5) is None  # the new holder's lease is untouched
    last = done(session, asked, attempt=2)
    assert await sessions.finish_turn(new, [last], last)
    assert not await sessions.finish_turn(old, [final], final)
    assert await sessions.load_final(session, asked.id) == last


async def test_the_replay_survives_lost_replies(sessions: SessionStore) -> None:
    session, asked = await sessions.create_session(), turn()
    await sessions.submit_turn(session, asked, 8)
    claimed = await claim(sessions, session)
    events = [delta(session, asked, seq) for seq in range(1, 6)]
    await sessions.renew_claim(claimed, events[:2], 5)
    await sessions.renew_claim(claimed, events[:2], 5)
    await sessions.renew_claim(claimed, events[:4], 5)
    glance = await sessions.glance(session, asked.id)
    assert {event.seq for event in glance.events} == {1, 2, 3, 4}
    assert glance.is_leased and glance.is_running and not glance.is_finished and glance.position == 0
    assert (await sessions.glance(session, asked.id, glance.cursor)).events == ()
    final = done(session, asked, 6)
    await sessions.finish_turn(claimed, [events[4], final], final)
    after = await sessions.glance(session, asked.id, glance.cursor)
    assert after.events == (events[4], final) and after.is_finished and not after.is_leased


async def test_a_stop_reaches_the_holder(sessions: SessionStore) -> None:
    session, asked = await sessions.create_session(), turn()
    await sessions.submit_turn(session, asked, 8)
    claimed = await claim(sessions, session)
    assert not await sessions.finish_waiting(session, asked, done(session, asked))  # it runs
    await sessions.request_stop(session, asked.id)
    assert await sessions.renew_claim(claimed, [], 5) == 1


async def test_history_is_paged_and_capped(redis: Redis) -> None:
    sessions = SessionStore(redis, kept_turns=8)
    session = await sessions.create_session()
    asked = [turn(str(i)) for i in range(6)]
    for one in asked:
        await converse(sessions, session, one)
    turns, more = await sessions.load_history(session, None, 3)
    assert [t.id for t in turns] == [asked[4].id, asked[4].id, asked[5].id, asked[5].id] and more  # in whole exchanges
    turns, more = await sessions.load_history(session, asked[4].id, 10)
    assert [t.id for t in turns] == [asked[2].id, asked[2].id, asked[3].id, asked[3].id] and not more
    assert await sessions.load_history(session, asked[0].id, 10) == ([], False)  # left by age
    assert await sessions.load_final(session, asked[0].id) is None
    assert await sessions.load_final(session, asked[2].id) == done(session, asked[2])
    assert await redis.hlen(f"visavis:{{{session}}}:index") == 4


async def test_everything_has_a_time_to_live_that_slides(
    sessions: SessionStore, images: ImageStore, redis: Redis
) -> None:
    session = await sessions.create_session()
    assert 0 < await redis.ttl(f"visavis:{{{session}}}:meta") <= 86_400
    await images.save(session, NormalisedImage(REF, b"12345"))
    await sessions.add_image(session, REF)
    asked = turn(images=(REF.sha256,))
    await converse(sessions, session, asked)
    await sessions.submit_turn(session, turn(), 8)
    await sessions.renew_claim(await claim(sessions, session), [delta(session, asked, 1)], 5)
    for key in await redis.keys("*"):
        assert await redis.ttl(key) > 0 or key == b"visavis:active", key
    await redis.expire(f"visavis:{{{session}}}:turns", 5)
    await redis.expire(f"visavis:image:{REF.sha256}", 5)
    await sessions.submit_turn(session, turn(), 8)
    await images.read(REF.sha256)
    assert await redis.ttl(f"visavis:{{{session}}}:turns") > 1000
    assert await redis.ttl(f"visavis:image:{REF.sha256}") > 1000


async def test_pictures_live_as_long_as_a_session_shows_them(images: ImageStore) -> None:
    for session in ("a", "b"):
        await images.save(session, NormalisedImage(REF, b"\xff\x00123"))
    assert await images.read(REF.sha256) == b"\xff\x00123"
    assert not await images.release("a", REF.sha256)
    assert await images.release("b", REF.sha256)
    with pytest.raises(UnknownImage):
        await images.read(REF.sha256)


async def test_abandoned_sessions(sessions: SessionStore, redis: Redis) -> None:
    idle, held, left = [await sessions.create_session() for _ in range(3)]
    await converse(sessions, idle, turn())
    for session in (held, left):
        await sessions.submit_turn(session, turn(), 8)
    await claim(sessions, held)
    await redis.zadd("visavis:active", {idle: 1, held: 1})
    assert await sessions.abandoned_sessions() == [left]
    assert sorted(await redis.zrange("visavis:active", 0, -1)) == sorted([held.encode(), left.encode()])


async def test_every_key_of_a_session_is_in_one_slot(sessions: SessionStore, redis: Redis) -> None:
    session = await sessions.create_session()
    await converse(sessions, session, turn())
    keys = [key for key in await redis.keys("*") if key != b"visavis:active"]
    assert len(keys) >= 4 and all(f"{{{session}}}".encode() in key for key in keys)


async def test_errors_of_the_server_are_store_unavailable(sessions: SessionStore, redis: Redis) -> None:
    session = await sessions.create_session()
    await redis.set(f"visavis:{{{session}}}:turns", "of the wrong type")
    with pytest.raises(StoreUnavailable):
        await sessions.load_session(session)
