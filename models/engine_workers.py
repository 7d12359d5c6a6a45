"""The threads that drive an engine's model: who prepares, who answers, when each sleeps, and how they end.

line --Admission--> handover --Scheduler--> words
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from visavis.models.admission import Admission
from visavis.models.engine_jobs import WaitingLine
from visavis.models.handover import Handover
from visavis.models.scheduler import Scheduler


class Workers:
    """Two threads, one for the admission and one for the scheduler, or one that does both in turn. `threads` of a
    computation are shared among them. They start at once."""

    def __init__(
        self,
        line: WaitingLine,
        admission: Admission,
        handover: Handover,
        scheduler: Scheduler,
        *,
        two: bool,
        threads: int,
    ) -> None:
        self._line, self._admission, self._handover, self._scheduler = line, admission, handover, scheduler
        work: tuple[tuple[Callable[[], None], tuple[Callable[[], None], ...]], ...]
        if two:
            work = (self._prepare, (admission.stop,)), (self._answer, (scheduler.stop,))
        else:
            work = ((self._take_turns, (scheduler.stop, admission.stop)),)
        each = max(1, threads // len(work))
        self._threads = [threading.Thread(target=self._work, args=(*steps, each), daemon=True) for steps in work]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """False once one of them has ended: nothing will be answered any more."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """End them within a step each. May be called twice."""
        self._close()
        for thread in self._threads:
            thread.join()

    def _close(self) -> None:
        self._line.close()
        self._handover.close()

    def _work(self, step: Callable[[], None], stops: tuple[Callable[[], None], ...], threads: int) -> None:
        torch.set_num_threads(threads)  # of computations that this thread begins
        with torch.inference_mode():
            try:
                while not self._line.closed:
                    step()
            finally:  # nobody is left waiting, even if a worker broke
                self._close()
                for stop in stops:
                    stop()

    def _prepare(self) -> None:
        seen = self._line.changes
        did = self._admission.advance()
        self._handover.preparing(did)
        if not did:
            self._line.wait(seen)
            self._handover.preparing(True)

    def _answer(self) -> None:
        if self._scheduler.running:
            self._handover.keep_pace()
        else:
            self._handover.wait()
        self._scheduler.advance()

    def _take_turns(self) -> None:
        seen = self._line.changes
        did = self._admission.advance()
        if self._handover.reserved:
            self._scheduler.advance()
        elif not did:
            self._line.wait(seen)
