"""Turns that wait or run, in whatever process: submitted, followed from any place, stopped.

A turn that runs here is followed by its log; one that runs elsewhere by looking at the store again and again. Knows no
sockets and no frames.
"""

import asyncio
from collections.abc import AsyncGenerator

from visavis.dialogue.claims import Glance
from visavis.dialogue.errors import Busy, StoreUnavailable
from visavis.dialogue.events import Event, TurnCancelled
from visavis.dialogue.limits import Limits, TurnPolicy
from visavis.dialogue.store import Store
from visavis.dialogue.store_turns import unknown_turn
from visavis.dialogue.turn_log import TurnLog, TurnLogs, first_events
from visavis.dialogue.turn_runner import TurnRunner
from visavis.dialogue.turns import Turn
from visavis.dialogue.wire_fields import check_session_id


class LiveTurns:
    """All methods raise `DialogueError`s only."""

    def __init__(self, store: Store, logs: TurnLogs, runner: TurnRunner, policy: TurnPolicy, limits: Limits) -> None:
        self._store = store
        self._logs = logs
        self._runner = runner
        self._policy = policy
        self._limits = limits

    async def submit(self, session_id: str, turn: Turn) -> TurnLog:
        """Store a turn in the session's queue and see that it is run; a known id is only looked up.

        Raises:
            UnknownSession, UnknownImage, UnknownTurn (the one to be replaced), Busy.
        """
        if self._runner.is_draining:
            raise Busy("The server is restarting; please send this again in a moment.", id=turn.id)
        most, wish = self._limits.max_waiting_turns, self._runner.wish(check_session_id(session_id))
        try:
            submitted = await self._store.turns.submit(session_id, turn, most, wish)
        except (asyncio.CancelledError, StoreUnavailable):  # the claim may have been made
            self._runner.give_up(session_id, wish)
            raise
        log = self._logs.get(session_id, turn.id)
        if submitted.position is not None:
            log.wait_in_line(submitted.position, submitted.position)
            self._runner.want(session_id, submitted.claim)
        return log

    async def attach(self, session_id: str, turn_id: str) -> TurnLog:
        """The log of a turn that was sent before, to anybody; raises `UnknownTurn`."""
        log = self._logs.get(check_session_id(session_id), turn_id)
        if not log.is_local:
            await self._pull(log)
        return log

    async def follow(self, log: TurnLog, attempt: int = 0, seq: int = 0) -> AsyncGenerator[Event, None]:
        """The events after (attempt, seq), as they come, up to the final one. Leaving early does not touch the turn.

        A later attempt begins with its seq 1; then the events of the earlier one are void.

        Raises:
            UnknownTurn: the session was forgotten meanwhile. StoreUnavailable: follow again from the last place.
        """
        is_pulled = log.attempt > 0
        log.followers += 1
        try:
            while True:
                for event in log.after(attempt, seq):
                    attempt, seq = event.attempt, event.seq
                    yield event
                    if event.is_final:
                        return
                if log.is_finished:
                    return
                if log.after(attempt, seq):
                    continue
                if is_pulled:
                    await log.wait(None if log.is_local else self._policy.poll_s)
                if not log.is_local and not log.is_finished:
                    await self._pull(log)
                is_pulled = True
        finally:
            log.followers -= 1

    async def cancel(self, session_id: str, turn_id: str) -> None:
        """Stop a turn, wherever it runs or waits. One that has ended stays as it is; raises `UnknownTurn`."""
        if self._runner.cancel(check_session_id(session_id), turn_id):
            return
        glance = await self._store.turns.glance(session_id, turn_id, "-", self._policy.watch_s)
        if glance.is_finished:
            return
        if glance.position is None:
            raise unknown_turn(turn_id)
        if not await self._cancel_waiting(session_id, turn_id, glance):
            await self._store.turns.request_stop(session_id, turn_id)

    async def _pull(self, log: TurnLog) -> None:
        """Bring a log up to date from the store, and see that its turn is run if its process has died."""
        async with log.pulling:
            glance = await self._store.turns.glance(log.session, log.turn, log.cursor, self._policy.watch_s)
            if log.is_local:
                return
            log.cursor = glance.cursor
            if glance.position is not None and glance.ahead is not None and glance.attempt == 1:
                log.wait_in_line(glance.position, glance.ahead)
            log.extend(glance.events)
            if glance.is_finished:
                if not log.is_finished:
                    await self._pull_final(log)
            elif glance.position is None:
                raise unknown_turn(log.turn)
            elif not glance.is_leased:
                self._runner.want(log.session)

    async def _pull_final(self, log: TurnLog) -> None:
        final = await self._store.turns.load_final(log.session, log.turn)
        if final is None:
            raise unknown_turn(log.turn)
        log.end(final)

    async def _cancel_waiting(self, session_id: str, turn_id: str, glance: Glance) -> bool:
        """End a turn that does not run (any more); False when it runs."""
        waiting = (await self._store.sessions.load(session_id, exchanges=0)).waiting
        turn = next((turn for turn in waiting if turn.id == turn_id), None)
        if turn is None:
            return False
        # As if it had come to its turn: others may have seen it move up meanwhile.
        attempt, seq = 1, len(first_events(session_id, turn_id, glance.position or 0, 0)) + 1
        if glance.is_running:  # its process died: nobody knows how far that attempt was heard
            attempt, seq = glance.attempt + 1, 1
        final = TurnCancelled(session=session_id, turn=turn_id, attempt=attempt, seq=seq, text="")
        if not await self._store.turns.finish_waiting(session_id, turn, final):
            return False
        self._logs.get(session_id, turn_id).end(final)
        return True
