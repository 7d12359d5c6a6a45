"""DialogueManager: the main path. One turn at a time in a session, in order, over all processes that share the store.

A turn is run by a task of the manager; listeners come and go without touching it. Knows no sockets and no frames.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakValueDictionary

from langchain_core.language_models import BaseChatModel

from visavis.dialogue.context import Budget
from visavis.dialogue.errors import Busy, StoreUnavailable, UnknownTurn
from visavis.dialogue.events import Event, TurnCancelled
from visavis.dialogue.explaining import Explanation, explain_turn
from visavis.dialogue.images import normalise_image
from visavis.dialogue.limits import Limits, TurnPolicy
from visavis.dialogue.store import Glance, ImageStore, SessionStore
from visavis.dialogue.turn_log import TurnLog
from visavis.dialogue.turn_run import TurnRun, first_events
from visavis.dialogue.turns import ImageRef, Role, Session, Status, Turn
from visavis.dialogue.wire import TurnCommand, check_session_id

logger = logging.getLogger(__name__)

_DECODERS = 2  # pictures decoded at a time: each may take some 100 MB


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was deleted; `images` counts pictures that no other conversation shows, `at` is seconds since the epoch."""

    session: str
    turns: int
    images: int
    at: float


class DialogueManager:
    """Conversations over one store and one chat model.

    Use it as a context manager: while entered, a sweep runs turns that a dead process left behind; leaving it hands
    running turns over. All methods raise `DialogueError`s only.
    """

    def __init__(
        self,
        sessions: SessionStore,
        images: ImageStore,
        chat_model: BaseChatModel,
        limits: Limits | None = None,
        *,
        policy: TurnPolicy | None = None,
        budget: Budget | None = None,
        model_name: str = "visavis-embedded",
    ) -> None:
        self.limits = limits or Limits()
        self.model_name = model_name
        self._sessions = sessions
        self._images = images
        self._chat_model = chat_model
        self._policy = policy or TurnPolicy()
        self._budget = budget or Budget()
        self._logs: WeakValueDictionary[tuple[str, str], TurnLog] = WeakValueDictionary()
        self._runners: dict[str, asyncio.Task[None]] = {}
        self._wanted: set[str] = set()
        self._runs: dict[tuple[str, str], TurnRun] = {}
        self._decoding = asyncio.Semaphore(_DECODERS)
        self._is_draining = False
        self._sweeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "DialogueManager":
        self._sweeper = asyncio.create_task(self._sweep_forever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(0)
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    @property
    def running_turns(self) -> int:
        return len(self._runs)

    async def drain(self, timeout_s: float) -> None:
        """Refuse new turns, let running ones finish for `timeout_s`, hand the others over to another process."""
        self._is_draining = True
        tasks = list(self._runners.values())
        if tasks and timeout_s > 0:
            await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def new_session(self) -> str:
        """The id of a new conversation."""
        return await self._sessions.create_session()

    async def load_session(self, session_id: str) -> Session:
        """The latest turns of a conversation and those that wait; raises `UnknownSession`."""
        return await self._sessions.load_session(check_session_id(session_id))

    async def history(self, session_id: str, before: str | None, limit: int) -> tuple[list[Turn], bool]:
        """The `limit` turns (one more to make it even) before `before`, or the latest; and whether older ones exist."""
        return await self._sessions.load_history(check_session_id(session_id), before, limit)

    async def add_image(self, session_id: str, data: bytes) -> ImageRef:
        """Check, normalise and keep a picture for a session.

        Raises:
            UnknownSession, BadImage, ImageTooLarge, UnsupportedImage.
        """
        await self._sessions.check_session(check_session_id(session_id))
        async with self._decoding:
            image = await asyncio.to_thread(normalise_image, data, self.limits.image)
        await self._images.save(session_id, image)
        await self._sessions.add_image(session_id, image.ref)
        return image.ref

    async def read_image(self, session_id: str, sha256: str) -> tuple[ImageRef, bytes]:
        """A picture of the session and its bytes; raises `UnknownSession` or `UnknownImage`."""
        ref = await self._sessions.find_image(check_session_id(session_id), sha256)
        return ref, await self._images.read(sha256)

    async def submit(self, session_id: str, command: TurnCommand) -> TurnLog:
        """Store a turn in the session's queue and see that it is run; a known id is only looked up.

        Returns its log, to be given to `follow`. The turn is stored when this returns.

        Raises:
            UnknownSession, UnknownImage, Busy.
        """
        if self._is_draining:
            raise Busy("The server is restarting; please send this again in a moment.", id=command.id)
        images, at = command.images, time.time()
        turn = Turn(command.id, Role.USER, command.text, images, at, command.region, Status.WAITING)
        session_id = check_session_id(session_id)
        position = await self._sessions.submit_turn(session_id, turn, self.limits.max_waiting_turns)
        log = self._log(session_id, command.id)
        if position is not None:
            if not log.attempt:
                log.begin(1, first_events(session_id, command.id, position))
            self._want(session_id)
        return log

    async def attach(self, session_id: str, turn_id: str) -> TurnLog:
        """The log of a turn that was sent before, to anybody; raises `UnknownTurn`."""
        log = self._log(check_session_id(session_id), turn_id)
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

    async def run_turn(self, session_id: str, command: TurnCommand) -> AsyncGenerator[Event, None]:
        """`submit` and `follow` in one, for callers that need no place to resume from."""
        async with aclosing(self.follow(await self.submit(session_id, command))) as events:
            async for event in events:
                yield event

    async def cancel(self, session_id: str, turn_id: str) -> None:
        """Stop a turn, wherever it runs or waits. One that has ended stays as it is; raises `UnknownTurn`."""
        if run := self._runs.get((check_session_id(session_id), turn_id)):
            return run.cancel()
        glance = await self._sessions.glance(session_id, turn_id)
        if glance.is_finished:
            return
        if glance.position is None:
            raise UnknownTurn("This turn is not known in this conversation.", id=turn_id)
        if not await self._cancel_waiting(session_id, turn_id, glance):
            await self._sessions.request_stop(session_id, turn_id)

    async def explain(self, session_id: str, turn_id: str) -> Explanation:
        """Where in the picture the answer to a turn came from; raises as `explain_turn`, and `UnknownSession`."""
        return await explain_turn(await self.load_session(session_id), turn_id, self._chat_model, self._budget)

    async def forget(self, session_id: str) -> Receipt:
        """Delete a conversation, its running turn and the pictures that no other one shows; raises `UnknownSession`."""
        turns, images = await self._sessions.forget_session(check_session_id(session_id))
        if runner := self._runners.get(session_id):
            runner.cancel()
        released = [await self._images.release(session_id, image) for image in images]
        return Receipt(session_id, turns, sum(released), time.time())

    async def sweep(self) -> None:
        """Run turns that wait while no living process holds their session."""
        for session_id in await self._sessions.abandoned_sessions():
            self._want(session_id)

    async def _sweep_forever(self) -> None:
        while True:
            try:
                await self.sweep()
            except StoreUnavailable:
                logger.warning("the store does not answer; the sweep for abandoned turns goes on trying")
            except Exception:  # the edge of a task
                logger.exception("the sweep for abandoned turns failed; it goes on")
            await asyncio.sleep(self._policy.sweep_s)

    def _log(self, session_id: str, turn_id: str) -> TurnLog:
        log = self._logs.get((session_id, turn_id))
        if log is None:
            log = self._logs[session_id, turn_id] = TurnLog(session_id, turn_id)
        return log

    def _want(self, session_id: str) -> None:
        """See that the session's queue is worked off. No await here nor at the end of `_work_off`: none is missed."""
        if self._is_draining:
            return
        self._wanted.add(session_id)
        if session_id not in self._runners:
            self._runners[session_id] = asyncio.create_task(self._work_off(session_id))

    async def _work_off(self, session_id: str) -> None:
        try:
            while session_id in self._wanted and not self._is_draining:
                self._wanted.discard(session_id)
                while not self._is_draining and await self._run_next(session_id):
                    pass
        except StoreUnavailable:
            logger.warning("the store does not answer; the turns of a session wait for the next sweep")
        except Exception:  # the edge of a task
            logger.exception("a session's turns could not be run; they wait for the next sweep")
        finally:
            del self._runners[session_id]

    async def _run_next(self, session_id: str) -> bool:
        """Run the session's next turn; False when none waits or another process has the session."""
        claim = await self._sessions.claim_turn(session_id, secrets.token_hex(8), self._policy.lease_s)
        if claim is None:
            return False
        log = self._log(session_id, claim.turn.id)
        run = TurnRun(claim, log, self._sessions, self._chat_model, self._policy, self._budget)
        self._runs[session_id, claim.turn.id] = run
        try:
            await run.execute()
        finally:
            del self._runs[session_id, claim.turn.id]
        return True

    async def _pull(self, log: TurnLog) -> None:
        """Bring a log up to date from the store, and see that its turn is run if its process has died."""
        async with log.pulling:
            glance = await self._sessions.glance(log.session, log.turn, log.cursor)
            if log.is_local:
                return
            log.cursor = glance.cursor
            if glance.position is not None and not log.attempt and glance.attempt == 1:
                log.begin(1, first_events(log.session, log.turn, glance.position))
            log.extend(glance.events)
            if glance.is_finished and not log.is_finished:
                await self._pull_final(log)
            elif glance.position is None and not glance.is_finished:
                raise UnknownTurn("This turn is not known in this conversation.", id=log.turn)
            elif not glance.is_leased:
                self._want(log.session)

    async def _pull_final(self, log: TurnLog) -> None:
        final = await self._sessions.load_final(log.session, log.turn)
        if final is None:
            raise UnknownTurn("This turn is not known in this conversation.", id=log.turn)
        log.extend([final])

    async def _cancel_waiting(self, session_id: str, turn_id: str, glance: Glance) -> bool:
        """End a turn that does not run (any more); False when it runs."""
        waiting = (await self.load_session(session_id)).waiting
        turn = next((turn for turn in waiting if turn.id == turn_id), None)
        if turn is None:
            return False
        attempt, seq = 1, len(first_events(session_id, turn_id, glance.position or 0)) + 1
        if glance.is_running:  # its process died: nobody knows how far that attempt was heard
            attempt, seq = glance.attempt + 1, 1
        final = TurnCancelled(session=session_id, turn=turn_id, attempt=attempt, seq=seq, text="")
        if not await self._sessions.finish_waiting(session_id, turn, final):
            return False
        self._log(session_id, turn_id).extend([final])
        return True
