"""What waits and what is running in an engine: questions on their way, the bounded line they wait in, word to readers.

The line is shared between the callers' threads and the workers; everything else here belongs to one side. It knows no
tensors.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from visavis.models.errors import Busy, ModelError
from visavis.models.generation import GenerationRequest
from visavis.models.image_states import ImageCounters
from visavis.models.looks import Look
from visavis.models.mailbox import Event, Mailbox
from visavis.models.visavis_model import ImageState

logger = logging.getLogger(__name__)


@dataclass
class EngineCounters(ImageCounters):
    """What the engine has done since it was made; only ever grows."""

    fusion_forwards: int = 0
    decode_steps: int = 0
    rows_freed: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    rejected: int = 0


@dataclass(eq=False)
class Job:
    """A question on its way with its `look` at a picture, an `answer` to be explained, or something that it `embeds`:
    the picture, or a text without one. The worker fills `events` and holds the `image` that it encoded for it; the
    reader sets `abandoned` when it leaves."""

    request: GenerationRequest
    look: Look
    deadline: float
    loop: asyncio.AbstractEventLoop
    events: Mailbox
    answer: str | None = None
    embeds: bool = False
    abandoned: bool = False
    image: ImageState | None = None
    position: int | None = None

    @property
    def takes_row(self) -> bool:
        """True if words are to be decoded for it beside those of others."""
        return self.answer is None and not self.embeds and self.request.sampling.beams == 1

    @property
    def looks(self) -> bool:
        """True if it is about a picture."""
        return self.request.image is not None

    @property
    def over(self) -> bool:
        """True if nobody waits for it any more."""
        return self.abandoned or time.monotonic() > self.deadline


_LOOK_AGAIN_S = 0.05


class WaitingLine:
    """Jobs in the order in which they came. Any thread may use it; the workers sleep on it."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self._jobs: list[Job] = []
        self._closed = False
        self.changes = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    def append(self, job: Job) -> None:
        """Raises Busy when the line is full, ModelError when it is closed."""
        with self._changed:
            if self._closed:
                raise ModelError("the model is shutting down")
            if len(self._jobs) >= self.max_length:
                raise Busy(len(self._jobs))
            self._jobs.append(job)
        self.wake()

    def take(self, job: Job) -> bool:
        """Take a job out; False if it is not there any more."""
        with self._changed:
            if job not in self._jobs:
                return False
            self._jobs.remove(job)
            return True

    def jobs(self) -> list[Job]:
        """Those that wait now."""
        with self._changed:
            return list(self._jobs)

    def still(self) -> AbstractContextManager[object]:
        """While this is held nobody joins or is taken out."""
        return self._changed

    def wake(self) -> None:
        """Something has changed that the workers should look at."""
        with self._changed:
            self.changes += 1
            self._changed.notify_all()

    def wait(self, seen: int) -> None:
        """Sleep until there are other `changes` than those seen, the line is closed, or somebody who waits may have
        waited long enough."""
        with self._changed:
            self._changed.wait_for(lambda: self.changes != seen or self._closed, _LOOK_AGAIN_S if self._jobs else None)

    @property
    def closed(self) -> bool:
        """True once nobody may join."""
        return self._closed

    def close(self) -> None:
        """Let nobody join any more and wake the worker."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def failure_of(error: Exception) -> ModelError:
    """What whoever asked is told of an error; one that is not ours goes to the log."""
    if isinstance(error, ModelError):
        return error
    logger.error("a question failed", exc_info=error)
    return ModelError("the model failed on this question")


class Outbox:
    """What the worker has to tell: one wake-up of each event loop for all its readers, however many rows there are."""

    def __init__(self) -> None:
        self._letters: dict[asyncio.AbstractEventLoop, list[tuple[Job, Event]]] = {}

    def put(self, job: Job, event: Event) -> None:
        """Keep an event for the job's reader."""
        self._letters.setdefault(job.loop, []).append((job, event))

    def send(self) -> None:
        """Hand everything over."""
        letters, self._letters = self._letters, {}
        for loop, batch in letters.items():
            try:
                loop.call_soon_threadsafe(_deliver, batch)
            except RuntimeError:  # the loop was closed: nobody reads any more
                for job, _ in batch:
                    job.abandoned = True


def _deliver(batch: Iterable[tuple[Job, Event]]) -> None:
    for job, event in batch:
        job.events.put(event)
