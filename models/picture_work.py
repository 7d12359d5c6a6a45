"""Which picture a worker encodes next, for whom, and who is told when it is ready or broken.

Several workers may do this on one line: who claims a picture first has it alone. It knows no rows and no words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from visavis.models.engine_jobs import EngineCounters, Job, WaitingLine, failure_of
from visavis.models.errors import ModelError
from visavis.models.handover import Handover
from visavis.models.image_states import Encoding, ImageStates
from visavis.models.looks import Look
from visavis.models.request_trace import Stage
from visavis.models.visavis_model import ImageState

ENCODED_AHEAD = 2  # pictures made ready while all rows are taken


class PictureWork:
    """Of one worker. Up to `together` pictures are encoded in one forward; more than one only where no other worker
    encodes. `fail` tells jobs of an error, which ends them."""

    def __init__(
        self,
        images: ImageStates,
        line: WaitingLine,
        counters: EngineCounters,
        handover: Handover,
        fail: Callable[[Sequence[Job], ModelError], None],
        *,
        together: int,
    ) -> None:
        self._images = images
        self._line = line
        self._counters = counters
        self._handover = handover
        self._fail = fail
        self._together = together
        self._encoding: Encoding | None = None

    @property
    def in_hand(self) -> Look | None:
        """The picture that this worker has begun and not finished."""
        return None if self._encoding is None else self._encoding.look

    def advance(self) -> bool:
        """A slice of the first picture that somebody waits for, or all of it while more people wait for pictures than
        get words; one that nobody wants any more is given up. On an accelerator several at once. False if there was
        nothing to do."""
        waiting = [job for job in self._line.jobs() if job.looks]
        wanted = [job.look for job in waiting if not (job.image or self._images.is_ready(job.look))]
        if self._encoding is not None and self._encoding.look not in wanted:
            self._let_go()
        ready = len(waiting) - len(wanted)
        if not wanted or ready >= self._handover.room + ENCODED_AHEAD:
            return False
        together = list(dict.fromkeys(look for look in wanted if not look.read))[: self._together]
        if len(together) < 2:
            return self._encode_one(wanted)
        self._mark(Stage.ENCODING, *together)
        for look, made in self._images.encode_together(together).items():
            self._give(look, made)
        return True

    def _encode_one(self, wanted: Sequence[Look]) -> bool:
        """The one in hand, or the first that nobody has in hand."""
        encoding = self._encoding = self._encoding or self._claim(wanted)
        if encoding is None:
            return False
        state: ImageState | None = None
        try:
            state = encoding.advance()
            while state is None and len(wanted) > self._handover.reserved:
                state = encoding.advance()
        except Exception as error:
            self._give(encoding.look, failure_of(error))
            self._let_go()
        if state is not None:
            self._give(encoding.look, state)
            self._let_go()
        return True

    def _claim(self, wanted: Sequence[Look]) -> Encoding | None:
        for look in wanted:
            if (encoding := self._images.claim(look)) is not None:
                if self._is_wanted(look):
                    self._mark(Stage.ENCODING, look)
                    return encoding
                encoding.let_go()  # whoever had it in hand has just given it to all
        return None

    def _mark(self, stage: Stage, *looks: Look) -> None:
        for job in self._line.jobs():
            if job.look in looks:
                job.request.trace.mark(stage)

    def _is_wanted(self, look: Look) -> bool:
        jobs = self._line.jobs()
        return not self._images.is_ready(look) and any(job.look == look and job.image is None for job in jobs)

    def _let_go(self) -> None:
        assert self._encoding is not None
        self._encoding.let_go()
        self._encoding = None

    def _give(self, look: Look, made: ImageState | ModelError) -> None:
        """To all who wait for it, and to whoever comes after them."""
        with self._line.still():
            askers = [job for job in self._line.jobs() if job.look == look and job.image is None]
            if isinstance(made, ImageState):
                self._images.keep(look, made)
                self._counters.add("image_hits", max(0, len(askers) - 1))
                for job in askers:
                    job.image = made
                    job.request.trace.mark(Stage.ENCODED)
        if isinstance(made, ModelError):
            self._fail(askers, made)
        self._line.wake()  # for other workers: there may be more to do than this one does at a time
