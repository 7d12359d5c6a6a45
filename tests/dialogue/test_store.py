import asyncio
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from visavis.dialogue import store_sessions, store_turns
from visavis.dialogue.claims import READ, Claim, Renewal, Submitted, Wish
from visavis.dialogue.errors import BadRequest, Busy, StoreUnavailable, UnknownImage, UnknownSession, UnknownTurn
from visavis.dialogue.events import Event, TextDelta, TurnCancelled, TurnCompleted
from visavis.dialogue.images import NormalisedImage
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.store import Store
from visavis.dialogue.store_client import session_key, store_errors
from visavis.dialogue.turns import Feedback, ImageRef, Region, Role, Session, Status, Turn

REF = ImageRef("c" * 64, 4, 3, "image/png", 5)


def turn(text: str = "What?", **more: Any) -> Turn:
    return Turn(str(uuid.uuid4()), Role.USER, text, at=time.time(), status=Status.WAITING, **more)


def done(session: str, asked: Turn, seq: int = 2, attempt: int = 1) -> TurnCompleted:
    return TurnCompleted(session=session, turn=asked.id, attempt=attempt, seq=seq, text="é\u2028 ok", html="<p>ok</p>")


def delta(session: str, asked: Turn, seq: int) -> Event:
    return TextDelta(session=session, turn=asked.id, attempt=1, seq=seq, text=str(seq))


async def claim(store: Store, session: str, nonce: str = "n", lease_s: float = 5) -> Claim:
    claimed = await store.turns.claim(session, Wish(nonce, lease_s, 60))
    assert claimed is not None
    return claimed


async def renew(store: Store, claimed: Claim, events: list[Event], lease_s: float = 5) -> int | None:
    return (await store.turns.renew([Renewal(claimed, events, 60)], lease_s))[0]


async def converse(store: Store, session: str, asked: Turn, owner: str = "") -> None:
    await store.turns.submit(session, asked, 8)
    final = done(session, asked)
    assert await store.turns.finish(await claim(store, session), [final], final, owner)


def texts(page: Session) -> list[str]:
    return [one.question.text for one in page.exchanges]


async def test_an_unknown_session_is_unknown_everywhere(store: Store) -> None:
    nobody = "0" * 32
    for call in (
        store.sessions.check(nobody),
        store.sessions.load(nobody),
        store.sessions.set_title(nobody, "x"),
        store.turns.submit(nobody, turn(), 8),
        store.sessions.add_image(nobody, REF),
        store.sessions.find_image(nobody, REF.sha256),
        store.sessions.forget(nobody),
    ):
        with pytest.raises(UnknownSession):
            await call


async def test_a_turn_comes_back_as_it_was(store: Store) -> None:
    session = await store.sessions.create()
    await store.sessions.add_image(session, REF)
    asked = turn('é \U0001f600 "x" \u2028', images=(REF.sha256,), region=Region(REF.sha256, 0, 0, 0.5, 1))
    assert await store.turns.submit(session, asked, 8) == Submitted(0)
    assert (await store.sessions.load(session)).waiting == (asked,)
    claimed = await claim(store, session)
    assert (claimed.turn, claimed.attempt, claimed.position) == (asked, 1, 0)
    final = done(session, asked)
    assert await store.turns.finish(claimed, [final], final)
    loaded = await store.sessions.load(session)
    assert loaded.waiting == () and loaded.newest_images == (REF.sha256,)
    [one] = loaded.exchanges
    assert one.question.text == asked.text and one.question.region == asked.region
    assert one.answer.final == final == await store.turns.load_final(session, asked.id)


async def test_a_turn_is_queued_once_and_answered_once(store: Store) -> None:
    session, asked = await store.sessions.create(), turn()
    assert await asyncio.gather(*(store.turns.submit(session, asked, 8) for _ in range(5))) == [Submitted(0)] * 5
    assert await store.turns.submit(session, turn(), 8) == Submitted(1)
    final = done(session, asked)
    claimed = await claim(store, session)
    assert await store.turns.finish(claimed, [final], final)
    assert await store.turns.finish(claimed, [final], final)  # the reply was lost and the write is repeated
    assert await store.turns.submit(session, asked, 8) == Submitted(None)
    assert len((await store.sessions.load(session)).exchanges) == 1


async def test_a_region_of_a_foreign_picture_is_refused(store: Store) -> None:
    session = await store.sessions.create()
    with pytest.raises(UnknownImage):
        await store.turns.submit(session, turn(region=Region(REF.sha256, 0, 0, 1, 1)), 8)


async def test_too_many_waiting_turns(store: Store) -> None:
    session = await store.sessions.create()
    for _ in range(2):
        await store.turns.submit(session, turn(), 2)
    with pytest.raises(Busy):
        await store.turns.submit(session, turn(), 2)


async def test_one_holder_at_a_time_and_a_repeated_claim_is_the_same(store: Store) -> None:
    session = await store.sessions.create()
    assert await store.turns.claim(session, Wish("a", 5, 60)) is None
    await store.turns.submit(session, turn(), 8)
    first = await claim(store, session, "a")
    assert await claim(store, session, "a") == first
    assert await store.turns.claim(session, Wish("b", 5, 60)) is None
    await store.turns.hand_over(session, first.nonce)
    second = await claim(store, session, "b", 0.02)
    assert (second.attempt, second.deaths) == (2, 0), "what is handed over is no death"
    await asyncio.sleep(0.05)
    assert await claim(store, session, "b", 0.02) == second, "nor is a reply that came late"
    await asyncio.sleep(0.05)
    third = await claim(store, session, "c")
    assert (third.attempt, third.deaths) == (3, 1)


async def test_of_many_claims_one_wins(store: Store) -> None:
    session = await store.sessions.create()
    await store.turns.submit(session, turn(), 8)
    claims = await asyncio.gather(*(store.turns.claim(session, Wish(str(i), 5, 60)) for i in range(20)))
    assert sum(claim is not None for claim in claims) == 1


async def test_an_outrun_holder_can_write_nothing(store: Store) -> None:
    session, asked = await store.sessions.create(), turn()
    await store.turns.submit(session, asked, 8)
    old = await claim(store, session, "a", 0.02)
    await asyncio.sleep(0.05)
    assert await renew(store, old, [delta(session, asked, 1)], lease_s=0.02) == 0  # nobody came: it goes on
    await asyncio.sleep(0.05)
    new = await claim(store, session, "b")
    assert new.fence > old.fence and new.attempt == 2
    assert await renew(store, old, [delta(session, asked, 2)]) == -1
    final = done(session, asked)
    assert not await store.turns.finish(old, [final], final)
    await store.turns.hand_over(session, old.nonce)
    assert await store.turns.claim(session, Wish("c", 5, 60)) is None  # the new holder's lease is untouched
    last = done(session, asked, attempt=2)
    assert await store.turns.finish(new, [last], last)
    assert not await store.turns.finish(old, [final], final)
    assert await store.turns.load_final(session, asked.id) == last


async def test_the_replay_survives_lost_replies(store: Store) -> None:
    session, asked = await store.sessions.create(), turn()
    await store.turns.submit(session, asked, 8)
    claimed = await claim(store, session)
    events = [delta(session, asked, seq) for seq in range(1, 6)]
    await renew(store, claimed, events[:2])
    await renew(store, claimed, events[:2])
    await renew(store, claimed, events[:4])
    glance = await store.turns.glance(session, asked.id, "-", 60)
    assert {event.seq for event in glance.events} == {1, 2, 3, 4}
    assert glance.is_leased and glance.is_running and not glance.is_finished and glance.position == 0
    assert (await store.turns.glance(session, asked.id, glance.cursor, 60)).events == ()
    final = done(session, asked, 6)
    await store.turns.finish(claimed, [events[4], final], final)
    after = await store.turns.glance(session, asked.id, glance.cursor, 60)
    assert after.events == (events[4], final) and after.is_finished and not after.is_leased


async def test_a_stop_reaches_the_holder(store: Store) -> None:
    session, asked = await store.sessions.create(), turn()
    await store.turns.submit(session, asked, 8)
    claimed = await claim(store, session)
    assert not await store.turns.finish_waiting(session, asked, done(session, asked))  # it runs
    await store.turns.request_stop(session, asked.id)
    assert await renew(store, claimed, []) == 1


async def test_history_is_paged_and_capped(redis: Redis) -> None:
    store = Store(redis, kept_turns=8)
    session = await store.sessions.create()
    asked = [turn(str(i)) for i in range(6)]
    for one in asked:
        await converse(store, session, one)
    page = await store.sessions.load(session, exchanges=2)
    assert texts(page) == ["4", "5"] and page.more
    page = await store.sessions.load(session, asked[4].id, 5)
    assert texts(page) == ["2", "3"] and not page.more and page.target is not None and page.target.question.text == "4"
    gone = await store.sessions.load(session, asked[0].id, 5)
    assert (gone.exchanges, gone.more, gone.target) == ((), False, None)  # left by age
    assert await store.turns.load_final(session, asked[0].id) is None
    assert await store.turns.load_final(session, asked[2].id) == done(session, asked[2])
    assert await redis.hlen(f"visavis:{{{session}}}:index") == 4


async def test_everything_has_a_time_to_live_that_slides(store: Store, redis: Redis) -> None:
    session = await store.sessions.create()
    assert 0 < await redis.ttl(f"visavis:{{{session}}}:meta") <= 86_400
    await store.images.save(session, NormalisedImage(REF, b"12345"))
    await store.sessions.add_image(session, REF)
    asked = turn(images=(REF.sha256,))
    await converse(store, session, asked)
    await store.turns.submit(session, turn(), 8)
    await renew(store, await claim(store, session), [delta(session, asked, 1)])
    for key in await redis.keys("*"):
        assert await redis.ttl(key) > 0 or key == b"visavis:active", key
    await redis.expire(f"visavis:{{{session}}}:turns", 5)
    await redis.expire(f"visavis:image:{REF.sha256}", 5)
    await store.turns.submit(session, turn(), 8)
    await store.images.read(REF.sha256)
    assert await redis.ttl(f"visavis:{{{session}}}:turns") > 1000
    assert await redis.ttl(f"visavis:image:{REF.sha256}") > 1000


async def test_pictures_live_as_long_as_a_session_shows_them(store: Store) -> None:
    for session in ("a", "b"):
        await store.images.save(session, NormalisedImage(REF, b"\xff\x00123"))
    assert await store.images.read(REF.sha256) == b"\xff\x00123"
    assert not await store.images.release("a", REF.sha256)
    assert await store.images.release("b", REF.sha256)
    with pytest.raises(UnknownImage):
        await store.images.read(REF.sha256)


async def test_a_turn_is_sent_and_claimed_at_once(store: Store) -> None:
    session, asked, other = await store.sessions.create(), turn(), turn()
    wish = Wish("a", 5, 60)
    first = await store.turns.submit(session, asked, 8, wish)
    assert first.position == 0 and first.claim is not None
    assert (first.claim.turn.id, first.claim.nonce, first.claim.attempt, first.claim.deaths) == (asked.id, "a", 1, 0)
    assert first.claim.before is not None and first.claim.before.id == session
    again = await store.turns.submit(session, asked, 8, wish)  # the reply was lost
    assert again == first
    assert await store.turns.submit(session, other, 8, Wish("b", 5, 60)) == Submitted(1), "somebody has the session"
    await store.turns.hand_over(session, "b")
    assert await store.turns.claim(session, Wish("c", 5, 60)) is None, "a wish that did not come true is no claim"
    await store.turns.hand_over(session, "a")
    left = await store.turns.submit(session, other, 8, Wish("d", 5, 60))
    assert left.position == 1 and left.claim is not None
    assert (left.claim.turn.id, left.claim.attempt, left.claim.deaths) == (asked.id, 2, 0), "the first in line"


async def test_abandoned_sessions(store: Store, redis: Redis) -> None:
    idle, held, left = [await store.sessions.create() for _ in range(3)]
    await converse(store, idle, turn())
    for session in (held, left):
        await store.turns.submit(session, turn(), 8)
    await claim(store, held)
    await redis.zadd("visavis:active", {idle: 1, held: 1})
    assert await store.turns.abandoned_sessions() == [left]
    assert sorted(await redis.zrange("visavis:active", 0, -1)) == sorted([held.encode(), left.encode()])


async def test_every_key_of_a_session_is_in_one_slot(store: Store, redis: Redis) -> None:
    session = await store.sessions.create()
    await converse(store, session, turn())
    keys = [key async for key in redis.scan_iter() if key != b"visavis:active"]
    assert len(keys) >= 4 and all(f"{{{session}}}".encode() in key for key in keys)


async def test_errors_of_the_server_are_store_unavailable(store: Store, redis: Redis) -> None:
    session = await store.sessions.create()
    await redis.set(f"visavis:{{{session}}}:turns", "of the wrong type")
    with pytest.raises(StoreUnavailable):
        await store.sessions.load(session)


async def fork(store: Store, session: str, replaced: Turn, text: str) -> Turn:
    asked = turn(text, replaces=replaced.id)
    await converse(store, session, asked)
    return asked


def alternatives(page: Session) -> list[list[str]]:
    return [[other.question.text for other in one.alternatives] for one in page.exchanges]


async def test_branches_are_left_and_come_back(store: Store) -> None:
    session = await store.sessions.create()
    a, b, c = [turn(text) for text in "abc"]
    for one in (a, b, c):
        await converse(store, session, one)
    b2 = await fork(store, session, b, "b2")
    await converse(store, session, turn("d2"))
    page = await store.sessions.load(session, alternatives=True)
    assert texts(page) == ["a", "b2", "d2"] and alternatives(page) == [[], ["b"], []]
    b3 = await fork(store, session, b, "b3")  # of an alternative: in the same place
    page = await store.sessions.load(session, alternatives=True)
    assert texts(page) == ["a", "b3"] and alternatives(page) == [[], ["b", "b2"]]
    await store.sessions.select(session, b.id)
    page = await store.sessions.load(session, alternatives=True)
    assert texts(page) == ["a", "b", "c"] and alternatives(page) == [[], ["b2", "b3"], []]
    c2 = await fork(store, session, c, "c2")  # a branch of a branch
    await store.sessions.select(session, b2.id)
    assert texts(await store.sessions.load(session)) == ["a", "b2", "d2"]
    await store.sessions.select(session, b2.id)
    assert texts(await store.sessions.load(session, (b2.id), 5)) == ["a"]
    assert texts(await store.sessions.load(session, (b3.id), 5)) == ["a"]
    with pytest.raises(UnknownTurn):
        await store.sessions.select(session, c2.id)  # lies in a branch that is not the current one
    await store.sessions.select(session, b.id)
    page = await store.sessions.load(session, alternatives=True)
    assert texts(page) == ["a", "b", "c2"] and alternatives(page) == [[], ["b2", "b3"], ["c"]]
    await converse(store, session, turn("e"))
    assert texts(await store.sessions.load(session)) == ["a", "b", "c2", "e"]
    assert await store.turns.load_final(session, c.id) == done(session, c)  # answered once, in whatever branch


async def test_branches_leave_by_age_with_their_traces(redis: Redis) -> None:
    store = Store(redis, kept_turns=8)
    session = await store.sessions.create()
    last = turn("0")
    await converse(store, session, last)
    for number in range(1, 12):
        last = await fork(store, session, last, f"{number}") if number % 3 else turn(f"{number}")
        if not number % 3:
            await converse(store, session, last)
    page = await store.sessions.load(session, alternatives=True)
    assert texts(page) == ["8", "11"] and alternatives(page) == [[], ["9", "10"]]
    kept = {b"8", b"9", b"10", b"11"}
    assert await redis.hlen(f"visavis:{{{session}}}:index") == 4
    path = (await redis.hget(f"visavis:{{{session}}}:meta", "path")).decode()
    assert len(path.split()) <= len(kept)
    groups = await redis.hgetall(f"visavis:{{{session}}}:versions")
    assert len([name for name in groups if name.startswith(b"v:")]) <= 4


async def test_what_is_replaced_must_be_there_and_nothing_may_wait_for_a_change_of_branch(store: Store) -> None:
    session, asked = await store.sessions.create(), turn()
    with pytest.raises(UnknownTurn):
        await store.turns.submit(session, turn(replaces=asked.id), 8)
    await converse(store, session, asked)
    await store.turns.submit(session, turn(replaces=asked.id), 8)
    with pytest.raises(Busy):
        await store.sessions.select(session, asked.id)


async def test_a_branch_that_is_stopped_while_it_waits_never_was(store: Store) -> None:
    session, asked = await store.sessions.create(), turn("a")
    await converse(store, session, asked)
    waiting = turn("b", replaces=asked.id)
    await store.turns.submit(session, waiting, 8)
    final = TurnCancelled(session=session, turn=waiting.id, attempt=1, seq=2, text="")
    assert await store.turns.finish_waiting(session, waiting, final)
    page = await store.sessions.load(session, alternatives=True)
    assert texts(page) == ["a"] and alternatives(page) == [[]]
    assert await store.turns.submit(session, waiting, 8) == Submitted(None)
    assert await store.turns.load_final(session, waiting.id) == final


async def test_pictures_shown_in_the_current_branch_are_known_for_good(redis: Redis) -> None:
    store = Store(redis, kept_turns=4)
    session = await store.sessions.create()
    refs = [ImageRef(name * 64, 4, 3, "image/png", 5) for name in "abc"]
    for ref in refs:
        await store.sessions.add_image(session, ref)
    first, second = turn(images=(refs[0].sha256,)), turn(images=(refs[1].sha256, refs[2].sha256))
    for one in (first, second, turn(), turn(), turn()):
        await converse(store, session, one)
    shown = (await store.sessions.load(session)).shown
    assert shown == ((refs[0].sha256,), (refs[1].sha256, refs[2].sha256))
    latest = turn(images=(refs[0].sha256,))
    await converse(store, session, latest)
    await fork(store, session, latest, "without")
    assert (await store.sessions.load(session)).newest_images == shown[1]


async def test_feedback_stays_with_the_answer(store: Store) -> None:
    session, asked = await store.sessions.create(), turn()
    with pytest.raises(UnknownTurn):
        await store.sessions.set_feedback(session, asked.id, Feedback(1))
    await converse(store, session, asked)
    before = (await store.sessions.load(session)).exchanges[0]
    for feedback in (Feedback(1, True), Feedback(-1), Feedback(0)):
        await store.sessions.set_feedback(session, asked.id, feedback)
        [one] = (await store.sessions.load(session)).exchanges
        assert one.answer.feedback == feedback and one.question == before.question
        assert one.answer.final == before.answer.final


async def test_a_person_finds_sessions_by_title_and_by_words(store: Store, redis: Redis) -> None:
    cats, dogs, empty, lost = [await store.sessions.create("web:a") for _ in range(4)]
    foreign = await store.sessions.create("web:b")
    await converse(store, dogs, turn("A dog?"), "web:a")
    await converse(store, cats, turn("Two  Cats on\na Mat?"), "web:a")
    await converse(store, foreign, turn("Cats"), "web:b")
    await redis.delete(f"visavis:{{{lost}}}:meta")
    listed = await store.sessions.summaries(["web:a"])
    assert [(one.id, one.title, one.turns) for one in listed] == [(cats, "Two Cats on a Mat?", 1), (dogs, "A dog?", 1)]
    assert await redis.zscore("visavis:person:web:a", lost) is None
    assert await redis.zscore("visavis:person:web:a", empty) is not None
    await store.sessions.set_title(dogs, "Ärger mit Bello")
    for query, found in [("CATS mat", [cats]), ("ärger", [dogs]), ("dog", [dogs]), ("é", [cats, dogs]), ("bird", [])]:
        assert [one.id for one in await store.sessions.summaries(["web:a"], query)] == found, query
    assert await store.sessions.summaries(["web:nobody"]) == []


async def test_who_is_silent_stays_the_same_person_while_another_channel_is_used(store: Store, redis: Redis) -> None:
    code = await store.persons.offer_link("web:a")
    await store.persons.accept_link("slack:b", code)
    await redis.expire("visavis:names:slack:b", 5)
    assert await store.persons.names("web:a") == ["slack:b", "web:a"]
    assert await redis.ttl("visavis:names:slack:b") > 1000


async def test_the_ways_to_ask_a_thing_are_bounded_and_so_is_what_a_list_holds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_turns, "_VERSIONS", 4)
    monkeypatch.setattr(store_sessions, "_LISTED_ALTERNATIVES", 4)
    session, firsts = await store.sessions.create(), [turn("a"), turn("b")]
    for first in firsts:
        await converse(store, session, first)
    await fork(store, session, firsts[0], "a0")
    await store.sessions.select(session, firsts[0].id)
    for number in range(3):
        await fork(store, session, firsts[1], f"b{number}")
    with pytest.raises(BadRequest):
        await fork(store, session, firsts[1], "b3")
    await store.sessions.select(session, firsts[1].id)
    page = await store.sessions.load(session, alternatives=True)
    assert alternatives(page) == [["a0"], ["b0", "b1", "b2"]]
    monkeypatch.setattr(store_sessions, "_LISTED_ALTERNATIVES", 2)
    assert alternatives(await store.sessions.load(session, alternatives=True)) == [[], ["b0", "b1", "b2"]]


async def test_a_session_keeps_its_newest_pictures(store: Store) -> None:
    session = await store.sessions.create()
    refs = [replace(REF, sha256=f"{number:064x}") for number in range(23)]
    gone = [await store.sessions.add_image(session, ref, keep=20) for ref in refs]
    assert gone[:20] == [[]] * 20 and gone[20] == [ref.sha256 for ref in refs[:3]] and gone[21:] == [[]] * 2
    with pytest.raises(UnknownImage):
        await store.sessions.find_image(session, refs[2].sha256)
    assert await store.sessions.find_image(session, refs[3].sha256) == refs[3]


async def test_a_conversation_without_a_pause_keeps_no_more_replay_than_two_minutes_hold(
    store: Store, redis: Redis
) -> None:
    session, asked = await store.sessions.create(), [turn() for _ in range(400)]
    for one in asked:
        await converse(store, session, one)
    assert await redis.xlen(session_key(session, "live")) < 240  # streams are cut by whole nodes of a hundred
    for kept, events in ((asked[-1], 1), (asked[-120], 1), (asked[0], 0)):
        assert len((await store.turns.glance(session, kept.id, "-", 60)).events) == events


async def test_who_runs_a_turn_is_told_when_somebody_elsewhere_reads_it(store: Store) -> None:
    session, asked = await store.sessions.create(), turn()
    await store.turns.submit(session, asked, 8)
    claimed = await claim(store, session)
    assert await renew(store, claimed, []) == 0
    await store.turns.glance(session, asked.id, "-", 60)
    assert [await renew(store, claimed, []) for _ in range(2)] == [READ, 0], "once for each look"
    await store.turns.glance(session, asked.id, "-", 60)
    unfollowed = Renewal(claimed, [], None)
    assert await store.turns.renew([unfollowed], 5) == [READ], "who looks is enough to go on"


async def test_the_replay_keeps_the_longest_answer_from_its_first_event(store: Store) -> None:
    policy, session, asked = TurnPolicy(), await store.sessions.create(), turn()
    await store.turns.submit(session, asked, 8)
    claimed, pieces = await claim(store, session), round(policy.turn_timeout_s / policy.flush_s)
    for start in range(1, pieces, 500):
        told = [Renewal(claimed, [delta(session, asked, seq)], 60) for seq in range(start, start + 500)]
        assert await store.turns.renew(told, 60) == [0] * 500
    glance = await store.turns.glance(session, asked.id, "-", 60)
    assert [event.seq for event in glance.events] == list(range(1, pieces + 1))


async def test_who_looks_at_a_turn_is_not_told_the_replay_of_earlier_ones(store: Store) -> None:
    session = await store.sessions.create()
    for nonce in "ab":
        asked = turn()
        await store.turns.submit(session, asked, 8)
        waiting = await store.turns.glance(session, asked.id, "-", 60)
        assert waiting.cursor == "-" and waiting.events == ()
        held = await claim(store, session, nonce)
        said = delta(session, asked, 2)
        await renew(store, held, [said])
        looked = await store.turns.glance(session, asked.id, "-", 60)
        assert looked.events == (said,) and looked.cursor == f"{held.fence}-2"
        final = done(session, asked, 3)
        assert await store.turns.finish(held, [final], final)
        assert [event.seq for event in (await store.turns.glance(session, asked.id, "-", 60)).events] == [2, 3]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_the_scan_of_a_replay_does_not_grow_with_earlier_turns(store: Store, redis: Redis, moment: str) -> None:
    session = await store.sessions.create()
    for number in range(50):
        await converse(store, session, turn(str(number)))
    asked = turn()
    await store.turns.submit(session, asked, 8)
    if moment == "after":
        await claim(store, session)
    before = (await redis.info("stats"))["total_net_output_bytes"]
    await store.turns.glance(session, asked.id, "-", 60)
    assert (await redis.info("stats"))["total_net_output_bytes"] - before < 10_000


async def test_a_cancellation_that_the_client_turns_into_an_error_of_its_own_is_one() -> None:
    async def broken_while_cancelled() -> None:
        with store_errors():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise AttributeError("writelines") from None

    task = asyncio.create_task(broken_while_cancelled())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
