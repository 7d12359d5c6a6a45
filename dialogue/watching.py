"""The turns that one connection follows: each has a task that sends its events, in order and without a gap.

Knows the connection only by a function that sends a frame.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from visavis.dialogue import wire
from visavis.dialogue.commands import Resume
from visavis.dialogue.errors import DialogueError, ReplayExpired, StoreUnavailable
from visavis.dialogue.events import Event
from visavis.dialogue.live_turns import LiveTurns
from visavis.dialogue.turn_log import TurnLog

_STORE_PAUSE_S = 1.0


class Watchers:
    """One task a turn. `send` waits until the client has taken the frame; what it raises ends the group."""

    def __init__(self, turns: LiveTurns, group: asyncio.TaskGroup, send: Callable[[str], Awaitable[None]]) -> None:
        self._turns = turns
        self._group = group
        self._send = send
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, log: TurnLog, resume: Resume | None = None) -> None:
        """Send the events of a turn, after the place of `resume`. One that is followed already goes on as it does."""
        task = self._tasks.get(log.turn)
        if task is not None and not task.done():
            return
        task = self._group.create_task(self._watch(log, resume))
        self._tasks[log.turn] = task
        task.add_done_callback(lambda done: self._unwatch(log.turn, done))

    def clear(self) -> None:
        """Follow no turn any more."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def _unwatch(self, turn: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(turn) is task:
            del self._tasks[turn]

    async def _watch(self, log: TurnLog, resume: Resume | None) -> None:
        place = (0, 0) if resume is None else (resume.attempt, resume.seq)
        checks_gap, is_told = resume is not None, False
        while True:
            try:
                async with aclosing(self._turns.follow(log, *place)) as events:
                    async for event in events:
                        if checks_gap:
                            await self._tell_gap(event, place)
                        checks_gap, place = False, (event.attempt, event.seq)
                        await self._send(wire.event_frame(event))
                return
            except StoreUnavailable as error:
                if not is_told:
                    await self._send_error(error, log.turn)
                is_told = True
                await asyncio.sleep(_STORE_PAUSE_S)
            except DialogueError as error:
                return await self._send_error(error, log.turn)

    async def _tell_gap(self, event: Event, place: tuple[int, int]) -> None:
        expected = place[1] + 1 if event.attempt == place[0] else 1
        if event.seq != expected:
            await self._send_error(ReplayExpired("Some events of this turn are gone; its end follows."), event.turn)

    async def _send_error(self, error: DialogueError, turn: str) -> None:
        error.id = turn
        await self._send(wire.error_frame(error))
