"""What a person may ask about the conversations as a whole: which there are, to join two channels, to be forgotten.

A person is known by one name a channel, such as `web:<hash>`; linked names are one person. Knows no sockets, no frames.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from visavis.dialogue.errors import UnknownSession
from visavis.dialogue.store import Store
from visavis.dialogue.store_client import unknown_session
from visavis.dialogue.turns import Session, SessionSummary


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was deleted: of one session, or of all of a person (`session` is None then).

    `images` counts pictures that no other conversation shows, `at` is seconds since the epoch.
    """

    session: str | None
    sessions: int
    turns: int
    images: int
    at: float


class Persons:
    """All methods raise `DialogueError`s only."""

    def __init__(self, store: Store, forget_session: Callable[[str], Awaitable[Receipt]]) -> None:
        self._store = store
        self._forget_session = forget_session

    async def let_in(self, session: Session, person: str) -> None:
        """See that a session is the person's, or that of several with the person among them; nobody's becomes it.

        Raises:
            UnknownSession: it is another person's.
        """
        if not person or session.owner == person:
            return
        if not session.owner:
            await self._store.sessions.adopt(session.id, person)
            return
        names = await self._store.persons.names(person)
        if session.owner not in names and not await self._store.persons.is_listed(names, session.id):
            raise unknown_session()

    async def join(self, session_id: str, person: str) -> None:
        """Let a person take part in a conversation of several, who is found by it and whose `forget` ends it.

        Raises:
            UnknownSession: it is gone.
        """
        await self._store.sessions.check(session_id)
        await self._store.persons.list_session(person, session_id)

    async def sessions(self, person: str, query: str = "") -> list[SessionSummary]:
        """A person's conversations, the latest first; only those in which each word of `query` occurs."""
        return await self._store.sessions.summaries(await self._store.persons.names(person), query)

    async def offer_link(self, person: str) -> str:
        """A code with which the same person can be joined from another channel, once and soon."""
        return await self._store.persons.offer_link(person)

    async def accept_link(self, person: str, code: str) -> list[str]:
        """Join the person with the one who was given the code; all their names. Raises `BadRequest`: no such code."""
        return await self._store.persons.accept_link(person, code)

    async def forget(self, person: str) -> Receipt:
        """Delete everything about a person, in all linked channels."""
        names = await self._store.persons.names(person)
        receipts = []
        for session, _ in await self._store.persons.sessions(names):
            try:
                receipts.append(await self._forget_session(session))
            except UnknownSession:  # it has expired
                continue
        await self._store.persons.forget(names)
        turns, images = sum(one.turns for one in receipts), sum(one.images for one in receipts)
        return Receipt(None, len(receipts), turns, images, time.time())
