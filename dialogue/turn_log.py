"""The events of a turn's latest attempt in this process, and those who follow them.

A log is filled by the run itself or, when the turn runs elsewhere, from the replay. Knows no store and no socket.
"""

import asyncio
from collections.abc import Iterable
from weakref import WeakValueDictionary

from visavis.dialogue.events import Event, FinalEvent, TurnAccepted, TurnQueued


def first_events(session: str, turn: str, position: int, ahead: int) -> list[Event]:
    """What every turn begins with in its first attempt: accepted, then each place in the queue from `position` (turns
    ahead of it when it came) down to `ahead` (now). Nobody has to store or send them: all processes count alike."""
    places = range(position, max(ahead, 1) - 1, -1)
    accepted = TurnAccepted(session=session, turn=turn, attempt=1, seq=1)
    return [
        accepted,
        *(TurnQueued(session=session, turn=turn, attempt=1, seq=2 + position - at, position=at) for at in places),
    ]


class TurnLog:
    """Events of one attempt in order. A follower keeps its own place, so a slow one costs nobody anything."""

    def __init__(self, session: str, turn: str) -> None:
        self.session = session
        self.turn = turn
        self.attempt = 0
        self.is_local = False
        self.followers = 0
        self.cursor = "-"
        self.pulling = asyncio.Lock()
        self._position: int | None = None
        self._events: list[Event] = []
        self._changed = asyncio.Event()

    @property
    def is_finished(self) -> bool:
        return bool(self._events) and self._events[-1].is_final

    @property
    def last_seq(self) -> int:
        return self._events[-1].seq if self._events else 0

    def wait_in_line(self, position: int, ahead: int) -> None:
        """The turn has not begun: `position` turns were ahead of it when it came, `ahead` are now."""
        if self.attempt <= 1:
            self._position = position
            self.begin(1, first_events(self.session, self.turn, position, ahead))

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

    def end(self, final: FinalEvent) -> None:
        """The final event, from the record. One that was stopped while it waited counts as having moved up before."""
        if self._position is not None and final.attempt == 1:
            self.extend(first_events(self.session, self.turn, self._position, 0)[: final.seq - 1])
        self.extend([final])

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
        if timeout_s is None:  # as it is for every word of an answer: a timer would cost more than the rest
            await changed.wait()
            return
        try:
            async with asyncio.timeout(timeout_s):
                await changed.wait()
        except TimeoutError:
            pass


class TurnLogs:
    """The logs of this process, each for as long as somebody holds it."""

    def __init__(self) -> None:
        self._logs: WeakValueDictionary[tuple[str, str], TurnLog] = WeakValueDictionary()

    def get(self, session: str, turn: str) -> TurnLog:
        """The log of a turn; an empty one when there was none."""
        log = self._logs.get((session, turn))
        if log is None:
            log = self._logs[session, turn] = TurnLog(session, turn)
        return log
