"""Between the workers that prepare questions and the one that says answers: memories, and who may have a row.

A row is reserved before its memory is made, so that nothing is computed for which there is no place.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from visavis.models.engine_jobs import Job
from visavis.models.errors import ModelError
from visavis.models.visavis_model import Memory

_ROUNDS_A_STEP = 2
_LONGEST_PAUSE_S = 0.1


@dataclass(frozen=True)
class Prepared:
    """What an answer is decoded from."""

    job: Job
    memory: Memory
    text_tokens: int
    image_tokens: int


class Handover:
    """A queue of prepared questions for at most `max_rows` rows; `when_changed` is called when there is one more, and
    when a row is free again.

    It keeps the pace of steps, too: a step for few rows costs nearly as much as one for many, so whoever is being
    prepared had better be part of it; but nobody who is being answered waits for long.
    """

    def __init__(self, max_rows: int, when_changed: Callable[[], None]) -> None:
        self.max_rows = max_rows
        self._when_changed = when_changed
        self._prepared: deque[Prepared] = deque()
        self._reserved = 0
        self._closed = False
        self._preparing = 0
        self._rounds = 0
        self._stepped_at = time.monotonic()
        self._changed = threading.Condition()
        self._over = threading.Event()

    @property
    def reserved(self) -> int:
        """Rows that are taken: answers that run, and questions on their way to one."""
        return self._reserved

    @property
    def room(self) -> int:
        """Rows that nobody has."""
        return self.max_rows - self._reserved

    def reserve(self) -> bool:
        """Take a row, to be filled by `put` or given back by `free`; False if there is none."""
        with self._changed:
            if self._reserved >= self.max_rows:
                return False
            if not self._reserved:
                self._stepped_at = time.monotonic()  # nothing is late as yet
            self._reserved += 1
            return True

    def put(self, prepared: Prepared) -> None:
        """Fill a row that was reserved. Raises ModelError if nothing can be handed over any more."""
        with self._changed:
            if self._closed:
                raise ModelError("the model is shutting down")
            self._prepared.append(prepared)
            self._changed.notify_all()
        self._when_changed()

    def take_all(self) -> list[Prepared]:
        """What has come, in order."""
        with self._changed:
            taken = list(self._prepared)
            self._prepared.clear()
        return taken

    def free(self) -> None:
        """The answer of a row has ended."""
        with self._changed:
            self._reserved -= 1
        self._when_changed()

    def begin_round(self) -> None:
        """A worker looks for what it can prepare."""
        with self._changed:
            self._preparing += 1

    def end_round(self, *, did: bool) -> None:
        """It has done what it does at a time, or found nothing."""
        with self._changed:
            self._preparing -= 1
            self._rounds += did
            self._changed.notify_all()

    @property
    def is_due(self) -> bool:
        """Whether a step comes before the next round of preparation: somebody is to be answered, and since the last
        step two rounds have ended, or one and no other worker prepares anything."""
        return self._reserved > 0 and self._rounds >= (_ROUNDS_A_STEP if self._preparing else 1)

    def keep_pace(self) -> None:
        """Sleep until a round of preparation has ended since the last step, or there is none, but not for long."""
        with self._changed:
            self._changed.wait_for(lambda: self._rounds or not self._preparing or self._closed, _LONGEST_PAUSE_S)

    def stepped(self) -> None:
        """A step was taken."""
        with self._changed:
            self._rounds = 0
            self._stepped_at = time.monotonic()

    def wait_for_overdue(self) -> None:
        """Sleep until somebody is being answered and no step was taken for a while, or nothing can be any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._reserved or self._closed)
        while self._reserved and (left := self._stepped_at + _LONGEST_PAUSE_S - time.monotonic()) > 0:
            if self._over.wait(left):
                return

    def close(self) -> None:
        """Nothing can be handed over any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._over.set()
