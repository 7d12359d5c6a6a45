"""Which turns this process runs: those that wait in sessions that no living process works on.

One task a session works off its queue. Knows no sockets and no commands.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Mapping
from typing import Any

from visavis.dialogue.claim_keeper import ClaimKeeper
from visavis.dialogue.claims import Claim, Wish
from visavis.dialogue.context import Budget
from visavis.dialogue.errors import DialogueError, StoreTooNew, StoreUnavailable
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.model_choice import ModelChoice
from visavis.dialogue.observer import Observer
from visavis.dialogue.store import Store
from visavis.dialogue.turn_log import TurnLogs
from visavis.dialogue.turn_run import TurnRun

logger = logging.getLogger(__name__)


def sweep_pause_s(period_s: float, failures: int) -> float:
    """Seconds to the next sweep: half a period after the first failure in a row, then twice as long each time, up to
    eight periods; never quite the same, so that processes whose store comes back do not all ask it at once."""
    return period_s * (2.0 ** (min(failures, 5) - 2) if failures else 1.0) * random.uniform(0.75, 1.25)


class TurnRunner:
    """Works off the queues of sessions; `variation` as in `TurnRun`."""

    def __init__(
        self,
        store: Store,
        logs: TurnLogs,
        choice: ModelChoice,
        policy: TurnPolicy,
        budget: Budget,
        variation: Mapping[str, Any],
        observer: Observer,
    ) -> None:
        self.is_draining = False
        self._store = store
        self._logs = logs
        self._choice = choice
        self._policy = policy
        self._budget = budget
        self._variation = variation
        self._observer = observer
        self._keeper = ClaimKeeper(store.turns, policy)
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._wanted: set[str] = set()
        self._claimed: dict[str, Claim] = {}
        self._handing_over: set[asyncio.Task[None]] = set()
        self._runs: dict[tuple[str, str], TurnRun] = {}

    @property
    def running_turns(self) -> int:
        return len(self._runs)

    def wish(self, session: str) -> Wish | None:
        """What it takes to claim the session's next turn; None while its queue is worked off here."""
        return None if session in self._workers else self._wish()

    def give_up(self, session: str, wish: Wish | Claim | None) -> None:
        """Leave the turn to other processes: that of a claim, or of a wish that may have come true."""
        if wish is not None:
            task = asyncio.create_task(self._hand_over(session, wish.nonce))
            self._handing_over.add(task)
            task.add_done_callback(self._handing_over.discard)

    def want(self, session: str, claim: Claim | None = None) -> None:
        """See that the session's queue is worked off, first the turn that is claimed. No await here nor at the end of
        `_work_off`: none is missed."""
        if self.is_draining:
            return self.give_up(session, claim)
        if claim is not None:
            self._claimed[session] = claim
        self._wanted.add(session)
        if session not in self._workers:
            self._workers[session] = asyncio.create_task(self._work_off(session))

    def cancel(self, session: str, turn: str) -> bool:
        """Stop a turn that runs here; False when it does not."""
        run = self._runs.get((session, turn))
        if run is not None:
            run.cancel()
        return run is not None

    def leave(self, session: str) -> None:
        """Stop working on a session that is gone."""
        self._claimed.pop(session, None)
        if worker := self._workers.get(session):
            worker.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Begin nothing new, let running turns finish for `timeout_s`, hand the others over to another process."""
        self.is_draining = True
        tasks = list(self._workers.values())
        if tasks and timeout_s > 0:
            await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session, claim in self._claimed.items():  # of workers that had not begun
            self.give_up(session, claim)
        await asyncio.gather(*self._handing_over)

    async def sweep(self) -> None:
        """Run turns that wait while no living process holds their session; a store is opened first."""
        await self._store.open()
        for session in await self._store.turns.abandoned_sessions():
            self.want(session)

    async def sweep_forever(self) -> None:
        """`sweep` again and again, whatever happens."""
        failures = 0
        while True:
            try:
                await self.sweep()
                if failures:
                    logger.warning("the store answers again")
                failures = 0
            except StoreUnavailable as error:
                if not failures:
                    logger.warning("the store does not answer (%s); it is tried again and again", _reason(error))
                failures += 1
            except Exception:  # the edge of a task
                logger.exception("the sweep for abandoned turns failed; it goes on")
            await asyncio.sleep(sweep_pause_s(self._policy.sweep_s, failures))

    async def _work_off(self, session: str) -> None:
        try:
            while session in self._wanted and not self.is_draining:
                self._wanted.discard(session)
                while not self.is_draining and await self._run_next(session):
                    pass
        except StoreUnavailable:
            logger.warning("the store does not answer; the turns of a session wait for the next sweep")
        except Exception:  # the edge of a task
            logger.exception("a session's turns could not be run; they wait for the next sweep")
        finally:
            del self._workers[session]

    async def _run_next(self, session: str) -> bool:
        """Run the session's next turn; False when no other waits or another process has the session."""
        claim = self._claimed.pop(session, None) or await self._store.turns.claim(session, self._wish())
        if claim is None:
            return False
        log = self._logs.get(session, claim.turn.id)
        model = self._choice.find(claim.turn.model)
        parts = (claim, log, self._store, self._keeper, model)
        run = TurnRun(*parts, self._policy, self._budget, self._variation, self._observer)
        self._runs[session, claim.turn.id] = run
        try:
            return await run.execute()
        finally:
            del self._runs[session, claim.turn.id]

    def _wish(self) -> Wish:
        return Wish(secrets.token_hex(8), self._policy.lease_s, self._policy.watch_s)

    async def _hand_over(self, session: str, nonce: str) -> None:
        with contextlib.suppress(DialogueError):  # then the lease runs out
            await self._store.turns.hand_over(session, nonce)


def _reason(error: StoreUnavailable) -> BaseException | None:
    return error if isinstance(error, StoreTooNew) else error.__cause__
