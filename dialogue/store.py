"""Sessions and pictures in Redis: one key scheme, pipelines, sliding times to live, leases with fencing tokens.

The keys of a session share one slot by the hash tag: `visavis:{<session>}:` `meta`, `turns`, `index` (turn -> place in
`turns`), `images`, `queue` (turns that wait or run, in order), `live` (replay of the running answer), `lease` and
`control` (turns to stop). Beside them `visavis:image:<sha256>` and `visavis:active` (session -> time of its last turn).
Values are JSON. Knows no sockets and no model; nobody else imports redis.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from visavis.dialogue import store_records as records
from visavis.dialogue import store_scripts as scripts
from visavis.dialogue.errors import Busy, StoreUnavailable, UnknownImage, UnknownSession
from visavis.dialogue.events import Event, FinalEvent
from visavis.dialogue.images import NormalisedImage
from visavis.dialogue.turns import ImageRef, Session, Turn, answer_turn

SCHEMA = 1
MONTH_S = 30 * 24 * 3600
NEW_SESSION_TTL_S = 24 * 3600  # a page that was opened and left behind shall not stay for a month
SHOWN_TURNS = 50
_ACTIVE = "visavis:active"
_ACTIVE_S = 60
_REPLAY_ENTRIES = 1_000


def connect(url: str) -> Redis:
    """A client for `url` (redis://, rediss://, unix://); lazy, with short time-outs and few retries.

    Every write of this module may run twice, so retrying is safe. Close it with `await client.aclose()`.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=32,
        timeout=5,
        socket_timeout=5,
        socket_connect_timeout=2,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
    )
    return Redis.from_pool(pool)


@contextmanager
def _store_errors() -> Iterator[None]:
    cancelled = _cancel_requests()
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable("The conversation store does not answer; please try again in a moment.") from error
    if _cancel_requests() > cancelled:  # redis-py waits by `wait_for`, which in Python 3.11 may swallow a cancellation
        raise asyncio.CancelledError


def _cancel_requests() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a session's next turn, known by its `nonce`; `fence` orders its replay after earlier ones."""

    session: str
    nonce: str
    fence: int
    attempt: int
    position: int
    turn: Turn


@dataclass(frozen=True, slots=True)
class Glance:
    """A turn as another process sees it: what its replay gained since `cursor`, and what has become of it."""

    events: tuple[Event, ...]
    cursor: str
    position: int | None
    is_leased: bool
    is_running: bool
    attempt: int
    is_finished: bool


class SessionStore:
    """Conversations by session id. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self, redis: Redis, *, ttl_s: int = MONTH_S, replay_grace_s: int = 120, kept_turns: int = 2_000
    ) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._replay_grace_s = replay_grace_s
        self._kept_turns = kept_turns

    async def ping(self) -> None:
        """Raises `StoreUnavailable` unless the store answers."""
        with _store_errors():
            await self._redis.ping()

    async def create_session(self) -> str:
        """A new session id: 128 random bits."""
        session = secrets.token_hex(16)
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(_key(session, "meta"), mapping={"schema": SCHEMA, "created": time.time()})
        pipe.expire(_key(session, "meta"), NEW_SESSION_TTL_S)
        with _store_errors():
            await pipe.execute()
        return session

    async def check_session(self, session: str) -> None:
        """Raises `UnknownSession` unless there is such a session."""
        with _store_errors():
            if not await self._redis.hexists(_key(session, "meta"), "schema"):
                raise _unknown_session()

    async def load_session(self, session: str) -> Session:
        """The latest turns of a session and those that wait, in one round trip.

        Raises:
            UnknownSession: no such session, or one that a newer version has written.
        """
        pipe = self._redis.pipeline(transaction=True)
        pipe.hmget(_key(session, "meta"), ["schema", "newest"])
        pipe.lrange(_key(session, "turns"), -SHOWN_TURNS, -1)
        pipe.lrange(_key(session, "queue"), 0, -1)
        with _store_errors():
            (schema, newest), turns, queue = await pipe.execute()
        if schema is None or int(schema) != SCHEMA:
            raise _unknown_session()
        waiting = tuple(records.load_waiting(entry)[1] for entry in queue)
        return Session(session, tuple(map(records.load_turn, turns)), waiting, tuple(json.loads(newest or b"[]")))

    async def load_history(self, session: str, before: str | None, limit: int) -> tuple[list[Turn], bool]:
        """The `limit` turns (one more to make it even) before `before`, or the latest; and whether older ones exist."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hmget(_key(session, "meta"), ["schema", "count"])
        pipe.llen(_key(session, "turns"))
        pipe.hget(_key(session, "index"), before or "")
        with _store_errors():
            (schema, count), length, place = await pipe.execute()
            if schema is None:
                raise _unknown_session()
            end = length if before is None else 0 if place is None else int(place) - (int(count or 0) - length)
            start = max(0, end - limit)
            start -= start % 2  # whole exchanges: `before` leaves out a question with its answer
            entries: list[Any] = []
            if end > start:
                entries = list(await self._redis.lrange(_key(session, "turns"), start, end - 1))
        return [records.load_turn(entry) for entry in entries], start > 0

    async def submit_turn(self, session: str, turn: Turn, max_waiting: int) -> int | None:
        """Put a turn into the session's queue, once; how many are ahead of it, or None when it is answered already.

        Raises:
            UnknownSession, UnknownImage (a picture that is not the session's), Busy (too many turns wait).
        """
        keys = _keys(session, "meta", "queue", "turns", "index", "images")
        with _store_errors():
            # First, so that a sweep finds the turn whatever happens next.
            await self._redis.zadd(_ACTIVE, {session: time.time()})
            named = turn.images if turn.region is None else (*turn.images, turn.region.image)
            args: tuple[str | int, ...] = (turn.id, records.dump_turn(turn), max_waiting, self._ttl_s, *named)
            answer, *rest = await self._eval(scripts.SUBMIT, keys, *args)
        if answer == b"waiting":
            return int(rest[0])
        if answer == b"finished":
            return None
        if answer == b"busy":
            raise Busy(f"{rest[0]} messages are waiting already; please wait for an answer.", id=turn.id)
        if answer == b"unknown_image":
            raise unknown_image()
        raise _unknown_session()

    async def claim_turn(self, session: str, nonce: str, lease_s: float) -> Claim | None:
        """Take the session's lease for its next turn; None when none waits or another holder is alive."""
        keys = _keys(session, "meta", "queue", "lease")
        with _store_errors():
            claimed = await self._eval(scripts.CLAIM, keys, nonce, _ms(lease_s))
        if not claimed:
            return None
        position, turn = records.load_waiting(claimed[2])
        return Claim(session, nonce, int(claimed[0]), int(claimed[1]), position, turn)

    async def renew_claim(self, claim: Claim, events: Sequence[Event], lease_s: float) -> int:
        """Renew the lease, append `events` to the replay: 0 go on, 1 somebody asked to stop, -1 the claim is lost."""
        keys = _keys(claim.session, "meta", "lease", "live", "control")
        last = events[-1].seq if events else 0
        args = (claim.fence, claim.nonce, _ms(lease_s), claim.turn.id, last, records.dump_events(events))
        with _store_errors():
            return int(await self._eval(scripts.RENEW, keys, *args, self._replay_grace_s, _REPLAY_ENTRIES))

    async def finish_turn(self, claim: Claim, events: Sequence[Event], final: FinalEvent) -> bool:
        """Record turn and answer, extend the times to live and drop the lease, in one round trip; False: claim lost.

        `events` are the last ones for the replay, `final` among them.
        """
        return await self._finish(claim.session, claim.turn, final, events, claim)

    async def finish_waiting(self, session: str, turn: Turn, final: FinalEvent) -> bool:
        """Record the end of a turn that is not running; False when it runs by now."""
        return await self._finish(session, turn, final)

    async def hand_over(self, claim: Claim) -> None:
        """Drop the lease and leave the turn to the next process."""
        with _store_errors():
            await self._eval(scripts.HAND_OVER, _keys(claim.session, "meta", "lease"), claim.nonce)

    async def request_stop(self, session: str, turn: str) -> None:
        """Ask whichever process runs the turn to stop it."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.sadd(_key(session, "control"), turn)
        pipe.expire(_key(session, "control"), NEW_SESSION_TTL_S)
        with _store_errors():
            await pipe.execute()

    async def glance(self, session: str, turn: str, cursor: str = "-") -> Glance:
        """What has become of a turn since `cursor`, in one round trip."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.xrange(_key(session, "live"), cursor if cursor == "-" else f"({cursor}", "+")
        pipe.exists(_key(session, "lease"))
        pipe.hexists(_key(session, "index"), turn)
        pipe.lrange(_key(session, "queue"), 0, -1)
        pipe.hmget(_key(session, "meta"), ["running", "attempt"])
        with _store_errors():
            live, leased, finished, queue, (running, attempt) = await pipe.execute()
        places = dict(records.load_place(entry) for entry in queue)
        mine = [entry for _, entry in live if entry[b"turn"].decode() == turn]
        events = tuple(event for entry in mine for event in records.load_events(entry[b"events"]))
        cursor = live[-1][0].decode() if live else cursor
        is_running = (running or b"").decode() == turn
        seen = int(attempt) if is_running else 1
        return Glance(events, cursor, places.get(turn), bool(leased), is_running, seen, bool(finished))

    async def load_final(self, session: str, turn: str) -> FinalEvent | None:
        """The event that ended a turn, from the history."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hget(_key(session, "meta"), "count")
        pipe.llen(_key(session, "turns"))
        pipe.hget(_key(session, "index"), turn)
        with _store_errors():
            count, length, place = await pipe.execute()
            if place is None:
                return None
            index = int(place) - (int(count) - length) + 1
            entry: Any = await self._redis.lindex(_key(session, "turns"), index)
        return None if entry is None else records.load_turn(entry).final

    async def add_image(self, session: str, ref: ImageRef) -> None:
        """Let the session show a stored picture; raises `UnknownSession`."""
        keys = _keys(session, "meta", "images")
        with _store_errors():
            if not await self._eval(scripts.ADD_IMAGE, keys, ref.sha256, records.dump(asdict(ref)), self._ttl_s):
                raise _unknown_session()

    async def find_image(self, session: str, sha256: str) -> ImageRef:
        """A picture of the session; raises `UnknownSession` or `UnknownImage`."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hexists(_key(session, "meta"), "schema")
        pipe.hget(_key(session, "images"), sha256)
        with _store_errors():
            known, ref = await pipe.execute()
        if not known:
            raise _unknown_session()
        if ref is None:
            raise unknown_image()
        return ImageRef(**json.loads(ref))

    async def forget_session(self, session: str) -> tuple[int, list[str]]:
        """Delete every key of a session: how many turns it had and which pictures. Raises `UnknownSession`."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hexists(_key(session, "meta"), "schema")
        pipe.llen(_key(session, "turns"))
        pipe.hkeys(_key(session, "images"))
        pipe.delete(*_keys(session, "meta", "turns", "index", "images", "queue", "live", "lease", "control"))
        with _store_errors():
            known, turns, images, _ = await pipe.execute()
            await self._redis.zrem(_ACTIVE, session)
        if not known:
            raise _unknown_session()
        return int(turns), [image.decode() for image in images]

    async def abandoned_sessions(self) -> list[str]:
        """Sessions with a waiting turn and no live holder, for a sweep. Idle ones leave the list of active ones."""
        with _store_errors():
            members: list[Any] = list(await self._redis.zrange(_ACTIVE, 0, -1))
            names = [member.decode() for member in members]
            pipe = self._redis.pipeline(transaction=False)
            for name in names:
                pipe.exists(_key(name, "queue"))
                pipe.exists(_key(name, "lease"))
            found = await pipe.execute() if names else []
            waiting = {
                name: bool(leased)
                for name, queued, leased in zip(names, found[::2], found[1::2], strict=True)
                if queued
            }
            now = time.time()
            if waiting:  # refreshed first: a submit in between keeps its own, newer time
                await self._redis.zadd(_ACTIVE, {name: now for name in waiting}, xx=True)
            if len(waiting) < len(names):
                await self._redis.zremrangebyscore(_ACTIVE, "-inf", now - _ACTIVE_S)
        return [name for name, leased in waiting.items() if not leased]

    async def _finish(
        self, session: str, turn: Turn, final: FinalEvent, events: Sequence[Event] = (), claim: Claim | None = None
    ) -> bool:
        nonce, fence = (claim.nonce, claim.fence) if claim is not None else ("", 0)
        answer = answer_turn(final, time.time())
        names = ("meta", "lease", "live", "control", "queue", "turns", "index", "images")
        entries = (records.dump_turn(turn, answer.status), records.dump_final(answer.at, final))
        replay = (events[-1].seq if events else 0, records.dump_events(events))
        newest = records.dump(turn.images) if turn.images else ""
        bounds = (self._replay_grace_s, _REPLAY_ENTRIES, self._kept_turns, self._ttl_s)
        keys = _keys(session, *names)
        pipe = self._redis.pipeline(transaction=False)
        pipe.eval(scripts.FINISH, len(keys), *keys, nonce, turn.id, *entries, *replay, newest, *bounds, fence)
        for image in {*turn.images, *answer.images}:
            pipe.expire(_image_key(image), self._ttl_s)
        with _store_errors():
            return bool((await pipe.execute())[0])

    async def _eval(self, script: str, keys: Sequence[str], *args: str | int) -> Any:
        return await self._redis.eval(script, len(keys), *keys, *args)


class ImageStore:
    """Pictures by the hash of their bytes, each kept once for as long as a session shows it."""

    def __init__(self, redis: Redis, *, ttl_s: int = MONTH_S) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    async def save(self, session: str, image: NormalisedImage) -> None:
        """Keep a picture on behalf of a session."""
        key, ref = _image_key(image.ref.sha256), records.dump(asdict(image.ref))
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(key, mapping={"data": image.data, "ref": ref, f"session:{session}": 1})
        pipe.expire(key, self._ttl_s)
        with _store_errors():
            await pipe.execute()

    async def read(self, sha256: str) -> bytes:
        """The normalised bytes; reading extends their time to live. Raises `UnknownImage`."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hget(_image_key(sha256), "data")
        pipe.expire(_image_key(sha256), self._ttl_s)
        with _store_errors():
            data, _ = await pipe.execute()
        if data is None:
            raise unknown_image()
        return bytes(data)

    async def release(self, session: str, sha256: str) -> bool:
        """End a session's use of a picture; True when it was the last one and the picture is gone."""
        with _store_errors():
            return bool(await self._redis.eval(scripts.RELEASE_IMAGE, 1, _image_key(sha256), session))


def unknown_image() -> UnknownImage:
    return UnknownImage("One of the pictures is not known in this conversation; please send it again.")


def _unknown_session() -> UnknownSession:
    return UnknownSession("This conversation is not known here.")


def _key(session: str, name: str) -> str:
    return f"visavis:{{{session}}}:{name}"


def _keys(session: str, *names: str) -> list[str]:
    return [_key(session, name) for name in names]


def _image_key(sha256: str) -> str:
    return f"visavis:image:{sha256}"


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
