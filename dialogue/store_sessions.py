"""Conversations in Redis: made, read in parts, titled, listed by their owner, forgotten.

A session's exchanges form branches (see `store_scripts`); what is read is always the current one.
"""

import json
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from redis.asyncio import Redis

from visavis.dialogue import store_branches as branches
from visavis.dialogue import store_records as records
from visavis.dialogue import store_scripts as scripts
from visavis.dialogue.errors import Busy
from visavis.dialogue.json_text import write_json
from visavis.dialogue.store_client import (
    ACTIVE,
    NEW_SESSION_TTL_S,
    session_key,
    store_errors,
    unknown_session,
)
from visavis.dialogue.store_images import unknown_image
from visavis.dialogue.store_persons import PersonStore
from visavis.dialogue.store_records import SCHEMA, SHOWN_TURNS
from visavis.dialogue.store_turns import unknown_turn
from visavis.dialogue.store_upgrade import run_script, upgrade_session
from visavis.dialogue.turns import Exchange, Feedback, ImageRef, Session, SessionSummary

LISTED_SESSIONS = 200
_LISTED_ALTERNATIVES = 100
_KEPT_IMAGES = 1_000
_SEARCHED_EXCHANGES = 100
_SEARCHED_AT_ONCE = 20


class SessionStore:
    """Conversations by session id. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(self, redis: Redis, persons: PersonStore, *, ttl_s: int) -> None:
        self._redis = redis
        self._persons = persons
        self._ttl_s = ttl_s

    async def create(self, owner: str = "") -> str:
        """A new session's id: 128 random bits. `owner` is the person who finds it again by a list."""
        session = secrets.token_hex(16)
        await run_script(self._redis, scripts.CREATE, session, SCHEMA, str(time.time()), owner, NEW_SESSION_TTL_S)
        if owner:
            await self._persons.list_session(owner, session)
        return session

    async def check(self, session: str) -> None:
        """Raises `UnknownSession` unless there is such a session."""
        with store_errors():
            if not await self._redis.hexists(session_key(session, "meta"), "schema"):
                raise unknown_session()

    async def load(
        self, session: str, before: str | None = None, exchanges: int = SHOWN_TURNS // 2, *, alternatives: bool = False
    ) -> Session:
        """The latest `exchanges` of the current branch, or those before the turn `before`; in one round trip.

        Raises:
            UnknownSession. StoreTooNew: a later version has written it.
        """
        asked = (before or "", exchanges, _LISTED_ALTERNATIVES if alternatives else 0)
        loaded = await run_script(self._redis, branches.LOAD, session, *asked)
        if (found := records.load_session(session, loaded)) is None:
            raise unknown_session()
        return found

    async def select(self, session: str, turn: str) -> None:
        """Make the branch with this turn the current one.

        Raises:
            UnknownSession. UnknownTurn: it stands nowhere in the current branch, not as an alternative either.
            Busy: turns wait.
        """
        answer = int(await run_script(self._redis, branches.SELECT, session, turn))
        if answer == 0:
            await self.check(session)
            raise unknown_turn(turn)
        if answer < 0:
            raise Busy("An answer is being written; please wait for it.", id=turn)

    async def set_feedback(self, session: str, turn: str, feedback: Feedback) -> None:
        """Keep what a person thinks of an answer, in place of what was thought before.

        Raises:
            UnknownSession, UnknownTurn.
        """
        if not await run_script(self._redis, branches.FEEDBACK, session, turn, records.dump_feedback(feedback)):
            await self.check(session)
            raise unknown_turn(turn)

    async def set_title(self, session: str, title: str) -> None:
        """Name a session; raises `UnknownSession`."""
        if not await run_script(self._redis, scripts.SET_META, session, "title", title):
            raise unknown_session()

    async def adopt(self, session: str, owner: str) -> None:
        """Give a session without an owner to a person; raises `UnknownSession`."""
        if not await run_script(self._redis, scripts.SET_META, session, "owner", owner, ""):
            raise unknown_session()
        await self._persons.list_session(owner, session)

    async def summaries(self, names: list[str], query: str = "") -> list[SessionSummary]:
        """A person's sessions with turns, the latest first; only those where each word of `query` occurs in the title
        or in one of the latest exchanges. Sessions that have expired leave the person's list."""
        named = await self._persons.sessions(names, LISTED_SESSIONS)
        with store_errors():
            pipe = self._redis.pipeline(transaction=False)
            for id, _ in named:
                pipe.hmget(session_key(id, "meta"), ["schema", "title"])
                pipe.llen(session_key(id, "turns"))
            found = await pipe.execute() if named else []
        summaries, gone = [], []
        for (id, at), (schema, title), count in zip(named, found[::2], found[1::2], strict=True):
            if schema is None:
                gone.append(id)
            elif int(schema) != SCHEMA:
                await upgrade_session(self._redis, id)
                return await self.summaries(names, query)
            elif count:
                summaries.append(SessionSummary(id, (title or b"").decode(), at, count))
        await self._persons.drop_sessions(names, gone)
        words = query.casefold().split()
        return await self._matching(summaries, words) if words else summaries

    async def add_image(self, session: str, ref: ImageRef, keep: int = _KEPT_IMAGES) -> list[str]:
        """Let the session show a stored picture; gives those that it does not keep any longer, the oldest.

        Raises:
            UnknownSession.
        """
        added = (ref.sha256, write_json(ref), self._ttl_s, keep)
        gone = await run_script(self._redis, scripts.ADD_IMAGE, session, *added)
        if gone is None:
            raise unknown_session()
        return [image.decode() for image in gone]

    async def find_image(self, session: str, sha256: str) -> ImageRef:
        """A picture of the session; raises `UnknownSession` or `UnknownImage`."""
        schema, ref = await run_script(self._redis, scripts.FIND_IMAGE, session, sha256)
        if schema is None:
            raise unknown_session()
        if ref is None:
            raise unknown_image()
        return ImageRef(**json.loads(ref.partition(b" ")[2]))

    async def all_sessions(self) -> AsyncIterator[str]:
        """Every session, in no order."""
        with store_errors():
            async for key in self._redis.scan_iter(session_key("*", "meta"), count=1_000):
                yield key.decode().partition("{")[2].partition("}")[0]

    async def all_exchanges(self, session: str, at_once: int = 200) -> AsyncIterator[Exchange]:
        """The exchanges of all branches, in the order in which they ended."""
        start = 0
        entries: Any = [b""]
        while entries:
            with store_errors():
                entries = await self._redis.lrange(session_key(session, "turns"), start, start + at_once - 1)
            for entry in entries:
                yield records.load_exchange(entry)
            start += len(entries)

    async def image_ids(self, session: str) -> list[str]:
        """The pictures of a session."""
        with store_errors():
            images: Any = await self._redis.hkeys(session_key(session, "images"))
        return [image.decode() for image in images]

    async def forget(self, session: str) -> tuple[int, list[str]]:
        """Delete every key of a session: how many exchanges it had and which pictures. Raises `UnknownSession`."""
        schema, owner, turns, images, places = await run_script(self._redis, scripts.FORGET, session)
        with store_errors():
            await self._redis.zrem(ACTIVE, session)
            for place in places:  # where platforms showed it; each in a slot of its own
                await self._redis.delete(place)
        if owner:
            await self._persons.drop_sessions([owner.decode()], [session])
        if schema is None:
            raise unknown_session()
        return int(turns), [image.decode() for image in images]

    async def _matching(self, summaries: list[SessionSummary], words: list[str]) -> list[SessionSummary]:
        kept = []
        for start in range(0, len(summaries), _SEARCHED_AT_ONCE):
            part = summaries[start : start + _SEARCHED_AT_ONCE]
            pipe = self._redis.pipeline(transaction=False)
            for summary in part:
                pipe.lrange(session_key(summary.id, "turns"), -_SEARCHED_EXCHANGES, -1)
            with store_errors():
                found = await pipe.execute()
            kept += [one for one, entries in zip(part, found, strict=True) if _occur(words, one, entries)]
        return kept


def _occur(words: list[str], summary: SessionSummary, entries: Iterable[bytes]) -> bool:
    exchanges = map(records.load_exchange, entries)
    texts = [summary.title, *(text for one in exchanges for text in (one.question.text, one.answer.text))]
    said = "\n".join(texts).casefold()
    return all(word in said for word in words)
