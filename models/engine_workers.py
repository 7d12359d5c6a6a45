"""The threads that drive an engine's model: who prepares, who answers, when each sleeps, and how they end.

line --Admission (one or several)--> handover --Scheduler--> words
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import torch

from visavis.models.admission import Admission
from visavis.models.answer import Answer
from visavis.models.cuda_graph import GraphedStep
from visavis.models.engine_jobs import EngineCounters, WaitingLine
from visavis.models.generation import SamplingParameters
from visavis.models.handover import Handover
from visavis.models.image_states import ImageStates
from visavis.models.processor import Processor
from visavis.models.scheduler import Scheduler
from visavis.models.visavis_model import VisavisModel

PICTURES_TOGETHER = 8  # on an accelerator
PREPARING = 2  # workers, on a CPU


def start_workers(
    model: VisavisModel,
    processor: Processor,
    images: ImageStates,
    line: WaitingLine,
    handover: Handover,
    counters: EngineCounters,
    *,
    max_new_tokens: int,
    compiled: bool,
    threads: int | None,
    preparing: int | None,
    together: int | None,
) -> tuple[Scheduler, Workers]:
    """The parts of an engine that compute, at work; options as `InferenceEngine` has them."""
    on_cpu = model.device.type == "cpu"
    preparing = (PREPARING if on_cpu else 0) if preparing is None else preparing
    together = (1 if on_cpu else PICTURES_TOGETHER) if together is None else together
    new_answer = partial(_begin, model, processor, max_new_tokens)
    admissions = [
        Admission(model, processor, images, line, counters, handover, new_answer, together=together)
        for _ in range(max(1, preparing))
    ]
    decode = GraphedStep() if compiled and model.device.type == "cuda" else None
    scheduler = Scheduler(model, processor, counters, handover, new_answer=new_answer, decode=decode)
    threads = threads or torch.get_num_threads()
    each = max(1, threads // 2) if preparing else threads
    return scheduler, Workers(line, admissions, handover, scheduler, alone=not preparing, threads=each)


def _begin(model: VisavisModel, processor: Processor, max_new_tokens: int, sampling: SamplingParameters) -> Answer:
    decoder = model.config.decoder
    return Answer(
        sampling,
        max_new_tokens=min(sampling.max_new_tokens or max_new_tokens, decoder.max_positions),
        start_token=decoder.bos_token_id,
        end_token=decoder.eos_token_id,
        first_piece=decoder.first_piece,
        decode=processor.decode_answer,
        device=model.device,
        calibration=model.config.calibration,
    )


class Workers:
    """One thread for the scheduler and one for each admission; or a single thread that does all in turn, with its one
    admission. Each computes with `threads`. They start at once."""

    def __init__(
        self,
        line: WaitingLine,
        admissions: Sequence[Admission],
        handover: Handover,
        scheduler: Scheduler,
        *,
        alone: bool,
        threads: int,
    ) -> None:
        self._line, self._handover, self._scheduler = line, handover, scheduler
        self._ends: tuple[Callable[[], None], ...] = (scheduler.stop, admissions[0].stop)
        steps: list[Callable[[], None]]
        if alone:
            steps = [partial(self._take_turns, admissions[0])]
        else:
            steps = [self._answer, *(partial(self._prepare, admission) for admission in admissions)]
            handover.prepares(len(admissions))
        self._threads = [threading.Thread(target=self._work, args=(step, threads), daemon=True) for step in steps]
        self._at_work = len(steps)
        self._leaving = threading.Lock()
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

    def _work(self, step: Callable[[], None], threads: int) -> None:
        torch.set_num_threads(threads)  # of computations that this thread begins
        with torch.inference_mode():
            try:
                while not self._line.closed:
                    step()
            finally:  # nobody is left waiting, even if a worker broke
                self._close()
                self._leave()

    def _leave(self) -> None:
        """The last one turns off the light: what was handed over by then is failed as well."""
        with self._leaving:
            self._at_work -= 1
            if not self._at_work:
                for end in self._ends:
                    end()

    def _prepare(self, admission: Admission) -> None:
        seen = self._line.changes
        if admission.advance():
            self._handover.round_over()
        else:
            self._handover.prepares(-1)
            self._line.wait(seen)
            self._handover.prepares(1)

    def _answer(self) -> None:
        if self._scheduler.running:
            self._handover.keep_pace()
        else:
            self._handover.wait()
        self._scheduler.advance()

    def _take_turns(self, admission: Admission) -> None:
        seen = self._line.changes
        did = admission.advance()
        if self._handover.reserved:
            self._scheduler.advance()
        elif not did:
            self._line.wait(seen)
