"""The life of a turn in Redis: queued, claimed by a lease with a fencing token, replayed while it runs, recorded.

Whatever writes is one script and may run twice. Every method raises `StoreUnavailable` when the store does not answer.
"""

import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from visavis.dialogue import store_branches as branches
from visavis.dialogue import store_records as records
from visavis.dialogue import store_scripts as scripts
from visavis.dialogue.claims import Claim, Glance, Record, Renewal, Submitted, Wish
from visavis.dialogue.errors import BadRequest, Busy, OtherSchema, UnknownTurn
from visavis.dialogue.events import Event, FinalEvent
from visavis.dialogue.store_client import (
    ACTIVE,
    NEW_SESSION_TTL_S,
    image_key,
    is_other_schema,
    milliseconds,
    person_key,
    session_key,
    session_keys,
    store_errors,
    unknown_session,
)
from visavis.dialogue.store_images import unknown_image
from visavis.dialogue.store_upgrade import of_this_schema, run_script, run_scripts
from visavis.dialogue.turns import Turn, answer_turn

_ACTIVE_S = 60
_REPLAY_ENTRIES = 4_000  # more than one answer can have, which is written ten times a second for five minutes
_TITLE_CHARACTERS = 60
_VERSIONS = 20
_SHOWN = ("", records.SHOWN_TURNS // 2, 0)  # what is read of a session whose turn is claimed


class TurnStore:
    """Queue, lease, replay and record of each session's turns; `kept_turns` counts questions and answers."""

    def __init__(self, redis: Redis, *, ttl_s: int, replay_grace_s: int, kept_turns: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._replay_grace_s = replay_grace_s
        self._kept_exchanges = kept_turns // 2

    async def submit(self, session: str, turn: Turn, max_waiting: int, wish: Wish | None = None) -> Submitted:
        """Put a turn into the session's queue, once. With a `wish` the session's next turn is claimed as well, if it
        can be had: one round trip and not two.

        Raises:
            UnknownSession, UnknownImage (a picture that is not the session's), UnknownTurn (the one to be replaced is
            not in the current branch), BadRequest (it has been replaced too often), Busy (too many turns wait).
        """
        named = turn.images if turn.region is None else (*turn.images, turn.region.image)
        bounds = (turn.replaces or "", max_waiting, _VERSIONS, self._ttl_s)
        claiming = _claiming(wish) if wish else ("", 0, 0)
        question = records.dump_question(turn)
        keys = session_keys(session)

        async def put() -> Any:
            pipe = self._redis.pipeline(transaction=False)
            pipe.zadd(ACTIVE, {session: time.time()})  # first, so that a sweep finds the turn whatever happens next
            pipe.eval(scripts.SUBMIT, len(keys), *keys, turn.id, question, *bounds, *claiming, *named)
            if wish:
                pipe.eval(branches.LOAD, len(keys), *keys, *_SHOWN)
            return await pipe.execute()

        _, (answer, *rest), *loaded = await of_this_schema(self._redis, session, put)
        match answer:
            case b"waiting":
                claim = _read_claim(session, wish.nonce, rest[1], *loaded) if wish and rest[1] else None
                return Submitted(int(rest[0]), claim)
            case b"finished":
                return Submitted(None)
            case b"busy":
                raise Busy(f"{rest[0]} messages are waiting already; please wait for an answer.", id=turn.id)
            case b"too_many":
                raise BadRequest(f"This has been asked in {_VERSIONS} ways already; please ask anew.", id=turn.id)
            case b"unknown_image":
                raise unknown_image()
            case b"unknown_turn":
                raise unknown_turn(turn.id)
        with store_errors():
            await self._redis.zrem(ACTIVE, session)
        raise unknown_session()

    async def claim(self, session: str, wish: Wish) -> Claim | None:
        """Take the session's lease for its next turn, and read the session; None when none waits or another holder is
        alive."""
        scripts_run = ((scripts.CLAIM, *_claiming(wish)), (branches.LOAD, *_SHOWN))
        claimed, loaded = await run_scripts(self._redis, session, *scripts_run)
        return _read_claim(session, wish.nonce, claimed, loaded) if claimed else None

    async def renew(self, renewals: Sequence[Renewal], lease_s: float) -> list[int | None]:
        """Renew claims in one round trip. For each, 0: go on, 1: somebody asked to stop, 2: nobody has watched for as
        long as was said when somebody last did, 3: go on, somebody reads the replay, -1: the claim is lost, None: the
        store refused."""
        pipe = self._redis.pipeline(transaction=False)
        for renewal in renewals:
            keys = session_keys(renewal.claim.session)
            pipe.eval(scripts.RENEW, len(keys), *keys, *self._renewing(renewal, lease_s))
        with store_errors():
            answers = await pipe.execute(raise_on_error=False)
        return [-1 if is_other_schema(one) else one if isinstance(one, int) else None for one in answers]

    def _renewing(self, renewal: Renewal, lease_s: float) -> tuple[str | int, ...]:
        claim, events, watch_s = renewal.claim, renewal.events, renewal.watch_s
        place = (claim.fence, claim.nonce, milliseconds(lease_s), claim.turn.id, events[-1].seq if events else 0)
        bounds = (self._replay_grace_s, _REPLAY_ENTRIES, "" if watch_s is None else milliseconds(watch_s))
        return (*place, records.dump_events(events), *bounds)

    async def finish(self, claim: Claim, events: Sequence[Event], final: FinalEvent, owner: str = "") -> Record:
        """Record turn and answer, extend the times to live and drop the lease, in one round trip.

        `events` are the last ones for the replay, `final` among them; `owner` is the person whose session it is.
        """
        return await self._finish(claim.session, claim.turn, final, events, owner, claim.nonce, claim.fence)

    async def finish_waiting(self, session: str, turn: Turn, final: FinalEvent) -> bool:
        """Record the end of a turn that is not running; False when it runs by now."""
        return await self._finish(session, turn, final) is not Record.REFUSED

    async def hand_over(self, session: str, nonce: str) -> None:
        """Drop the lease that was taken by this nonce, if it was, and leave the turn to the next process."""
        await run_script(self._redis, scripts.HAND_OVER, session, nonce)

    async def request_stop(self, session: str, turn: str) -> None:
        """Ask whichever process runs the turn to stop it."""
        await run_script(self._redis, scripts.REQUEST_STOP, session, turn, NEW_SESSION_TTL_S)

    async def glance(self, session: str, turn: str, cursor: str, watch_s: float) -> Glance:
        """What has become of a turn since `cursor`, in one round trip. Whoever looks watches, for `watch_s`."""
        since = cursor if cursor == "-" else f"({cursor}"
        looked = await run_script(self._redis, scripts.GLANCE, session, turn, since, milliseconds(watch_s))
        live, leased, finished, queue, running, attempt = looked
        places = [records.load_place(entry) for entry in queue]
        ahead = next((place for place, (id, _) in enumerate(places) if id == turn), None)
        fields = [dict(zip(entry[::2], entry[1::2], strict=True)) for _, entry in live]
        mine = [entry[b"events"] for entry in fields if entry[b"turn"].decode() == turn]
        events = tuple(event for entry in mine for event in records.load_events(entry))
        cursor = live[-1][0].decode() if live else cursor
        is_running = (running or b"").decode() == turn
        seen = int(attempt) if is_running else 1
        return Glance(events, cursor, dict(places).get(turn), ahead, bool(leased), is_running, seen, bool(finished))

    async def load_final(self, session: str, turn: str) -> FinalEvent | None:
        """The event that ended a turn, from the record."""
        entry = await run_script(self._redis, branches.FIND, session, turn)
        return None if entry is None else records.load_exchange(entry).answer.final

    async def abandoned_sessions(self) -> list[str]:
        """Sessions with a waiting turn and no live holder, for a sweep. Idle ones leave the list of active ones."""
        with store_errors():
            members: list[Any] = list(await self._redis.zrange(ACTIVE, 0, -1))
            names = [member.decode() for member in members]
            queued = await self._existing(names, "queue") if names else []
            leased = set(await self._existing(queued, "lease") if queued else [])
            now = time.time()
            if queued:  # refreshed first: a submit in between keeps its own, newer time
                await self._redis.zadd(ACTIVE, {name: now for name in queued}, xx=True)
            if len(queued) < len(names):
                await self._redis.zremrangebyscore(ACTIVE, "-inf", now - _ACTIVE_S)
        return [name for name in queued if name not in leased]

    async def _existing(self, sessions: Sequence[str], key: str) -> list[str]:
        """Those of the sessions that have a key of this name."""
        pipe = self._redis.pipeline(transaction=False)
        for session in sessions:
            pipe.exists(session_key(session, key))
        return [session for session, found in zip(sessions, await pipe.execute(), strict=True) if found]

    async def _finish(
        self,
        session: str,
        turn: Turn,
        final: FinalEvent,
        events: Sequence[Event] = (),
        owner: str = "",
        nonce: str = "",
        fence: int = 0,
    ) -> Record:
        now = time.time()
        answer = answer_turn(final, now)
        title = " ".join((turn.text or answer.text).split())[:_TITLE_CHARACTERS]
        what = (turn.id, records.dump_exchange(turn, now, final), turn.replaces or "", " ".join(turn.images), title)
        replay = (events[-1].seq if events else 0, records.dump_events(events), self._replay_grace_s, _REPLAY_ENTRIES)
        keys, args = session_keys(session), (nonce, *what, *replay, self._kept_exchanges, self._ttl_s, fence)
        pipe = self._redis.pipeline(transaction=False)
        pipe.eval(scripts.FINISH, len(keys), *keys, *args)
        for image in {*turn.images, *answer.images}:
            pipe.expire(image_key(image), self._ttl_s)
        if owner:
            pipe.zadd(person_key(owner), {session: now}, xx=True)
            pipe.expire(person_key(owner), self._ttl_s)
        try:
            with store_errors():
                return Record((await pipe.execute())[0])
        except OtherSchema:  # a later version has taken it over
            return Record.REFUSED


def _claiming(wish: Wish) -> tuple[str, int, int]:
    return wish.nonce, milliseconds(wish.lease_s), milliseconds(wish.watch_s)


def _read_claim(session: str, nonce: str, claimed: Sequence[Any], loaded: Any) -> Claim:
    fence, attempt, deaths, entry = claimed
    position, turn = records.load_waiting(entry)
    before = None if turn.replaces else records.load_session(session, loaded)
    return Claim(session, nonce, int(fence), int(attempt), int(deaths), position, turn, before)


def unknown_turn(turn: str) -> UnknownTurn:
    return UnknownTurn("This turn is not known in this conversation.", id=turn)
