"""One claimed turn: the model speaks, while a `ClaimKeeper` keeps up the claim and the replay; the end is recorded.

Knows the store and the chat model, not the sockets that listen and not the order of turns.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel

from visavis.dialogue.answering import DIED_TWICE, Answer
from visavis.dialogue.claim_keeper import ClaimKeeper
from visavis.dialogue.claims import READ, Claim, Record, Renewal
from visavis.dialogue.context import Budget, build_messages
from visavis.dialogue.errors import ErrorCode, StoreUnavailable, UnknownTurn
from visavis.dialogue.events import Event, FinalEvent, TurnRestarted
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.observer import Ended, Observer
from visavis.dialogue.picture_choice import choose_pictures
from visavis.dialogue.store import Store
from visavis.dialogue.suggestions import suggestions
from visavis.dialogue.turn_log import TurnLog, first_events

logger = logging.getLogger(__name__)
T = TypeVar("T")

_READERS_STAY_S = 1.0


class _Stop(Enum):
    CANCELLED = auto()
    LOST = auto()


class TurnRun:
    """Runs a claimed turn once. The claim is kept up while the model speaks; losing it ends the run silently.

    `variation` are options of the model that let it answer the same question in another way.
    """

    def __init__(
        self,
        claim: Claim,
        log: TurnLog,
        store: Store,
        keeper: ClaimKeeper,
        model: BaseChatModel,
        policy: TurnPolicy,
        budget: Budget,
        variation: Mapping[str, Any],
        observer: Observer,
    ) -> None:
        self._observer = observer
        self._claim = claim
        self._turn = claim.turn
        self._log = log
        self._store = store
        self._keeper = keeper
        self._model = model
        self._policy = policy
        self._budget = budget.of(model)
        varies = variation and claim.turn.seed is not None
        self._options = {**variation, "seed": claim.turn.seed} if varies else {}
        self._answer = Answer(log, claim.attempt, claim.turn.at)
        self._owner = ""
        self._others_wait = True  # unless it is known that they do not
        self._renewed = self._read = float("-inf")
        self._stop: _Stop | None = None
        self._answering: asyncio.Task[FinalEvent] | None = None

    async def execute(self) -> bool:
        """Answer and record the turn; False when none waits after it. Cancelling this hands the turn over to another
        process."""
        with self._observer.turn(self._claim) as ended:
            await self._execute(ended)
        return self._others_wait

    async def _execute(self, ended: Ended) -> None:
        self._begin()
        self._answering = asyncio.create_task(self._run())
        self._keeper.add(self)
        try:
            await asyncio.wait([self._answering])
            await self._keeper.leave(self)
            if self._stop is not _Stop.LOST:
                await self._finish(self._end_of(self._answering), ended)
        except asyncio.CancelledError:
            await self._hand_over()
            raise
        finally:
            self._keeper.drop(self)
            self._log.is_local = False
            self._log.wake()

    def _end_of(self, answering: asyncio.Task[FinalEvent]) -> FinalEvent:
        """A task that is cancelled before its first step never gets to say so."""
        return self._answer.cancelled() if answering.cancelled() and self._stop else answering.result()

    def cancel(self) -> None:
        """Stop the answer; what was said by then is kept."""
        self._end(_Stop.CANCELLED)

    def _end(self, reason: _Stop) -> None:
        if self._stop is None and self._answering is not None and not self._answering.done():
            self._stop = reason
            self._answering.cancel()

    def _begin(self) -> None:
        claim = self._claim
        first: list[Event] = first_events(claim.session, claim.turn.id, claim.position, 0)
        if claim.attempt > 1:
            first = [TurnRestarted(session=claim.session, turn=claim.turn.id, attempt=claim.attempt, seq=1)]
        self._log.is_local = True
        self._log.begin(claim.attempt, first)
        self._answer.unsaved = first

    async def _run(self) -> FinalEvent:
        """The event that ends the turn, whatever happens, unless the claim is lost."""
        try:
            if self._claim.deaths >= self._policy.max_deaths:
                return self._answer.failed(ErrorCode.MODEL_ERROR, DIED_TWICE)
            async with asyncio.timeout(self._policy.turn_timeout_s):
                return await self._ask()
        except asyncio.CancelledError:
            if self._stop is not _Stop.CANCELLED:
                raise
            return self._answer.cancelled()
        except Exception as error:  # the edge of the turn: any model may raise anything
            if self._stop is _Stop.CANCELLED:
                return self._answer.cancelled()
            logger.warning("turn %s failed", self._claim.turn.id, exc_info=True)
            return self._answer.failure(error)

    async def _ask(self) -> FinalEvent:
        turn = self._turn
        session = self._claim.before
        if session is None:
            session = await self._patiently(lambda: self._store.sessions.load(self._claim.session, turn.replaces))
        if turn.replaces is not None and session.target is None:
            raise UnknownTurn("The turn in whose place this one was to stand is gone.")
        self._owner = session.owner
        about = await self._patiently(lambda: choose_pictures(session, turn, self._model, self._store.images))
        self._turn = replace(turn, about=about)
        context = build_messages(session, self._turn, self._budget)
        final = await self._answer.stream(self._model, context, self._options)
        asked = [one.question.text for one in session.exchanges if final.image in one.answer.images]
        return replace(final, suggestions=suggestions(final, [*asked, turn.text]))

    def renewal(self) -> Renewal | None:
        """What the claim needs now, if anything: new pieces of the replay, or a longer lease."""
        now, policy = time.monotonic(), self._policy
        flush_s = policy.flush_s if now - self._read < _READERS_STAY_S else policy.unread_flush_s
        if now - self._renewed < (flush_s if self._answer.unsaved else policy.renew_s):
            return None
        self._renewed = now
        watch_s = self._policy.watch_s if self._log.followers else None
        return Renewal(self._claim, tuple(self._answer.unsaved), watch_s)

    def take_renewed(self, renewal: Renewal, answer: int) -> None:
        """The store has answered a renewal, as `TurnStore.renew` tells."""
        del self._answer.unsaved[: len(renewal.events)]
        if answer == READ:
            self._read = time.monotonic()
        elif answer:
            self._end(_Stop.LOST if answer < 0 else _Stop.CANCELLED)

    async def _finish(self, final: FinalEvent, ended: Ended) -> None:
        """Record first, tell then: nobody sees an answer that a crash could take back."""
        events, claim = [*self._answer.unsaved, final], replace(self._claim, turn=self._turn)
        record = await self._patiently(lambda: self._store.turns.finish(claim, events, final, self._owner))
        self._others_wait = record is not Record.LAST
        if record is not Record.REFUSED:
            self._log.extend([final])
            ended(final)

    async def _hand_over(self) -> None:
        assert self._answering is not None
        self._answering.cancel()
        await asyncio.gather(self._answering, self._keeper.leave(self), return_exceptions=True)
        try:
            await self._store.turns.hand_over(self._claim.session, self._claim.nonce)
        except StoreUnavailable:
            logger.warning("turn %s waits for its lease to run out", self._claim.turn.id)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call while the store is away, for as long as the policy allows."""
        deadline, pause_s = time.monotonic() + self._policy.finish_patience_s, 0.1
        while True:
            try:
                return await call()
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(pause_s)
                pause_s = min(2.0, pause_s * 2)
