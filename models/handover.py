"""Between the workers that prepare questions and the one that says answers: memories, and who may have a row.

A row is reserved before its memory is made, so that nothing is computed for which there is no place.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from visavis.models.engine_jobs import Job
from visavis.models.errors import ModelError
from visavis.models.visavis_model import Memory

_ROUNDS_A_STEP = 2  # of each worker that prepares
_LONGEST_PAUSE_S = 0.1


@dataclass(frozen=True)
class Prepared:
    """What an answer is decoded from."""

    job: Job
    memory: Memory
    text_tokens: int
    image_tokens: int


class Handover:
    """A queue of prepared questions for at most `max_rows` rows; `when_free` is called when one is free again."""

    def __init__(self, max_rows: int, when_free: Callable[[], None]) -> None:
        self.max_rows = max_rows
        self._when_free = when_free
        self._prepared: deque[Prepared] = deque()
        self._reserved = 0
        self._closed = False
        self._preparing = 0
        self._rounds = self._seen_rounds = 0
        self._changed = threading.Condition()

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
            self._reserved += 1
            return True

    def put(self, prepared: Prepared) -> None:
        """Fill a row that was reserved. Raises ModelError if nothing can be handed over any more."""
        with self._changed:
            if self._closed:
                raise ModelError("the model is shutting down")
            self._prepared.append(prepared)
            self._changed.notify_all()

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
        self._when_free()

    def prepares(self, more: int) -> None:
        """So many more workers prepare something now; less than none when one rests."""
        with self._changed:
            self._preparing += more
            self._changed.notify_all()

    def round_over(self) -> None:
        """A worker has done what it does at a time."""
        with self._changed:
            self._rounds += 1
            self._changed.notify_all()

    def keep_pace(self) -> None:
        """Sleep until there is somebody new to answer, or whoever prepares has got on by a few rounds since the last
        call, but not for long. A step for few rows costs nearly as much as one for many, and takes a processor from
        those who prepare: whoever waits for first words waits for these, and the answers that run are read slower than
        they are made."""
        with self._changed:
            self._changed.wait_for(lambda: self._prepared or self._is_due or self._closed, _LONGEST_PAUSE_S)
            self._seen_rounds = self._rounds

    @property
    def _is_due(self) -> bool:
        return self._rounds - self._seen_rounds >= _ROUNDS_A_STEP * self._preparing

    def wait(self) -> None:
        """Sleep until something comes, or nothing will any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._prepared or self._closed)

    def close(self) -> None:
        """Nothing can be handed over any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
