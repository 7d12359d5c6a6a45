"""The events of one turn's latest attempt in this process, and those who follow them.

It is filled by the run itself or, when the turn runs elsewhere, from the replay. Knows no store, no model, no socket.
"""

import asyncio
from collections.abc import Iterable

from visavis.dialogue.events import Event


class TurnLog:
    """Events of one attempt in order. A follower keeps its own place, so a slow one costs nobody anything."""

    def __init__(self, session: str, turn: str) -> None:
        self.session = session
        self.turn = turn
        self.attempt = 0
        self.is_local = False
        self.cursor = "-"
        self.pulling = asyncio.Lock()
        self._events: list[Event] = []
        self._changed = asyncio.Event()

    @property
    def is_finished(self) -> bool:
        return bool(self._events) and self._events[-1].is_final

    def begin(self, attempt: int, events: Iterable[Event]) -> None:
        """Start an attempt with its first events; one that is known already goes on."""
        if attempt > self.attempt:
            self.attempt = attempt
            self._events = []
        self.extend(events)

    def extend(self, events: Iterable[Event]) -> None:
        """Add events; those of earlier attempts and those known already are dropped, a later attempt replaces all."""
        for event in events:
            if event.attempt > self.attempt:
                self.attempt, self._events = event.attempt, []
            if event.attempt == self.attempt and event.seq > self.last_seq:
                self._events.append(event)
        self.wake()

    @property
    def last_seq(self) -> int:
        return self._events[-1].seq if self._events else 0

    def after(self, attempt: int, seq: int) -> list[Event]:
        """What a follower that has seen up to (attempt, seq) still lacks.

        A place that was never reached (a client's mistake) gets the final event, so that nobody waits for ever.
        """
        if attempt == self.attempt:
            return [event for event in self._events if event.seq > seq or (event.is_final and event.seq < seq)]
        if attempt < self.attempt:
            return list(self._events)
        return [event for event in self._events if event.is_final]

    def wake(self) -> None:
        """Let all followers look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, timeout_s: float | None) -> None:
        """Return after the next change, or after the time."""
        changed = self._changed
        try:
            async with asyncio.timeout(timeout_s):
                await changed.wait()
        except TimeoutError:
            pass
