"""The core of all platform adapters: messages are taken over once, answered, and left to others when this process ends.

A message is in Redis before `accept` returns and leaves it when its answer has been shown. Knows no platform; what is
done for one message is `message_run`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from visavis.bot.adapters.heat_sheet import heat_sheet
from visavis.bot.adapters.message_run import LEASE_S, HandOver, MessageRun
from visavis.bot.adapters.pace import Paces
from visavis.bot.adapters.platform import (
    Incoming,
    Limited,
    Platform,
    PlatformError,
    Refused,
    incoming_from_json,
    incoming_to_json,
)
from visavis.bot.adapters.screen import LostLease
from visavis.dialogue.errors import Busy, DialogueError, RateLimited, StoreUnavailable, UnknownTurn
from visavis.dialogue.limits import Persona
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.rate_limits import Action
from visavis.dialogue.store_channels import ChannelStore
from visavis.dialogue.store_jobs import Job
from visavis.dialogue.turns import Feedback

log = logging.getLogger(__name__)

RENEW_S = 3.0
ACK_S = 2.0  # platforms want to hear within three seconds that a message has arrived
SHOW_S = 5.0  # for a last edit while the process goes down
LEAVE_S = 3.0  # for giving unfinished messages back to a store that may be slow
MOST_AT_ONCE = 1_000  # messages; more are left to other processes, or to the platform to bring again
MOST_DEATHS = 3  # a message that has ended three processes is the likeliest reason


class Adapter:
    """Answers the messages of one platform. Use it as a context manager: while entered, messages that another process
    has left behind are taken up; leaving it hands the unfinished ones over."""

    def __init__(self, platform: Platform, manager: DialogueManager, channel: ChannelStore) -> None:
        self.is_draining = False
        self._platform = platform
        self._manager = manager
        self._channel = channel
        self._paces = Paces(platform.edit_interval_s)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._keeper: asyncio.Task[None] | None = None

    @property
    def persona(self) -> Persona:
        """Whom the operator lets the assistant be."""
        return self._manager.persona

    async def __aenter__(self) -> Adapter:
        self._keeper = asyncio.create_task(self._keep_forever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(0)

    async def accept(self, incoming: Incoming) -> bool:
        """Take a message over and begin with it; False when it is a repeat. Quick, whatever the model is doing.

        Raises:
            StoreUnavailable, Busy: it is not taken, and the platform should bring it again. RateLimited: too many wait
                in its place, and it is dropped; that is said once in a while, otherwise it is False.
        """
        if self.is_draining:
            raise Busy("This process is going down.")
        if len(self._tasks) >= MOST_AT_ONCE:
            raise Busy("Too much is being asked at the moment; please try again later.")
        job = Job(incoming.id, incoming_to_json(incoming))
        try:
            with self._manager.observer.acknowledging(self._platform.name):
                async with asyncio.timeout(ACK_S):
                    taken = await self._channel.take(job, incoming.events or (incoming.id,), LEASE_S, incoming.place)
        except TimeoutError:
            raise StoreUnavailable("The conversation store does not answer in time.") from None
        if taken is None:
            return await self._drop(incoming)
        if taken:
            self._begin(incoming)
        return taken

    async def _drop(self, incoming: Incoming) -> bool:
        log.warning("a message is dropped: too many wait in its place")
        if await self.once(f"full:{incoming.place}"):
            raise RateLimited("Too many messages wait here for an answer; please ask again later.")
        return False

    async def once(self, event: str) -> bool:
        """Whether an event that is no message is new; it counts as seen from now on. Raises `StoreUnavailable`."""
        if not await self._channel.take(Job(event, ""), [event], LEASE_S):
            return False
        with contextlib.suppress(StoreUnavailable):  # then its lease runs out; it is seen, and must not be lost
            await self._channel.done(event)
        return True

    async def has_place(self, place: str) -> bool:
        """Whether a place has a conversation already."""
        return await self._channel.session_at(place) is not None

    async def find(self, post: str) -> tuple[str, str]:
        """The session and the turn of which a message (one of `Reply.posts`) is the answer; raises `UnknownTurn`."""
        found = await self._channel.recall(post)
        if found is None:
            raise UnknownTurn("This is no answer that is still known here.")
        return found

    async def stop(self, post: str, person: str = "") -> None:
        """Stop the answer that stands in a message; raises `UnknownTurn`. If a `person` is given, also `UnknownSession`
        for one who takes no part in the conversation, and `RateLimited`."""
        if person:
            self._manager.rates.take(Action.REQUEST, person)
        session, turn = await self.find(post)
        if person:
            await self._manager.open_session(session, person)
        await self._manager.turns.cancel(session, turn)

    async def feedback(self, post: str, person: str, score: int, *, withdrawn: bool = False) -> None:
        """Keep what somebody thinks of an answer (-1, 1), or no longer does; the sign of all votes is the feedback.
        Raises `UnknownTurn`, `UnknownSession` for a `person` who takes no part in the conversation, `RateLimited`."""
        self._manager.rates.take(Action.REQUEST, person)
        session, turn = await self.find(post)
        await self._manager.open_session(session, person)
        total = await self._channel.vote(session, turn, person, score, withdrawn=withdrawn)
        await self._manager.set_feedback(session, turn, Feedback((total > 0) - (total < 0)))

    async def explain(self, post: str, person: str = "") -> bytes:
        """Where in the picture an answer came from, as a PNG; raises as `DialogueManager.explain`.

        It counts as a request of `person`, if that is given; raises `RateLimited`, too, then.
        """
        self._manager.rates.take(Action.REQUEST, person)
        return await heat_sheet(self._manager, *await self.find(post))

    async def explain_latest(self, place: str, person: str = "") -> bytes:
        """The same for the latest answer of a place."""
        self._manager.rates.take(Action.REQUEST, person)
        session = await self._channel.session_at(place)
        latest = (await self._manager.history(session, limit=1)).exchanges if session else ()
        if session is None or not latest:
            raise UnknownTurn("There is no answer here yet.")
        return await heat_sheet(self._manager, session, latest[-1].question.id)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, let answers finish for `timeout_s`, hand the others over."""
        self.is_draining = True
        await self._manager.drain(timeout_s)
        tasks = list(self._tasks.values())
        if tasks and timeout_s > 0:
            await asyncio.wait(tasks, timeout=min(SHOW_S, timeout_s))
        leaving = [*tasks, *([self._keeper] if self._keeper else [])]
        for task in leaving:
            task.cancel()
        if leaving:  # a store that does not answer cannot be told; leases run out by themselves
            await asyncio.wait(leaving, timeout=LEAVE_S)

    def _begin(self, incoming: Incoming, *, adopted: bool = False, given_up: bool = False) -> None:
        pace = self._paces.of(incoming.channel)
        run = MessageRun(incoming, self._platform, self._manager, self._channel, pace, adopted=adopted)
        work = run.give_up() if given_up else run.execute(lambda: self.is_draining)
        task = asyncio.create_task(self._answer(run, work, incoming.id, incoming.place))
        self._tasks[incoming.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(incoming.id, None))

    async def _answer(self, run: MessageRun, work: Coroutine[Any, Any, None], id: str, place: str) -> None:
        """The edge of a message: afterwards it is done, or another process has it."""
        try:
            await work
            await self._done(id, place)
        except (HandOver, asyncio.CancelledError):
            with contextlib.suppress(StoreUnavailable):  # its lease runs out
                await self._channel.release(id)
        except LostLease:
            log.warning("a message has gone to another process, for this one was silent too long")
        except Refused as error:
            log.warning("an answer is not wanted on %s: %s", self._platform.name, error)
            await self._done(id, place)
        except Limited as error:
            log.error("an answer waits for %s: %s", self._platform.name, error)
            with contextlib.suppress(StoreUnavailable):
                await self._channel.renew([id], max(error.retry_after_s, LEASE_S))
        except (PlatformError, StoreUnavailable) as error:
            log.error("an answer could not be shown on %s and is tried again: %s", self._platform.name, error)
        except Exception:
            log.exception("a message could not be answered on %s", self._platform.name)
            with contextlib.suppress(Exception):  # perhaps for the same reason
                await run.give_up()
            await self._done(id, place)

    async def _done(self, id: str, place: str) -> None:
        """The answer is shown: a store that is away is waited for, or it would be shown again."""
        while True:
            try:
                return await self._channel.done(id, place)
            except StoreUnavailable:
                await asyncio.sleep(RENEW_S)

    async def _keep_forever(self) -> None:
        """Keep what is being answered, and take up what others have left behind."""
        while True:
            try:
                for lost in await self._channel.renew(list(self._tasks), LEASE_S):
                    if lost in self._tasks:  # else it has ended meanwhile
                        self._tasks[lost].cancel()
                for job in await self._channel.adopt(LEASE_S) if len(self._tasks) < MOST_AT_ONCE else ():
                    await self._adopt(job)
            except DialogueError:
                log.debug("the store does not answer; messages are kept as soon as it does")
            except Exception:  # the edge of a task
                log.exception("messages could not be kept; it is tried again")
            await asyncio.sleep(RENEW_S)

    async def _adopt(self, job: Job) -> None:
        if job.id in self._tasks:
            return
        try:
            if job.deaths > MOST_DEATHS + 1:
                raise ValueError("it was begun too often")
            self._begin(incoming_from_json(job.record), adopted=True, given_up=job.deaths > MOST_DEATHS)
        except (ValueError, TypeError) as error:
            log.error("a message is given up: %s", error)
            await self._channel.done(job.id)
