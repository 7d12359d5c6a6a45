"""DialogueManager: the main path. One turn at a time in a session, in order, over all processes that share the store.

A turn is run by a task of the `TurnRunner`; listeners come and go without touching it. Knows no sockets and no frames.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Any

from langchain_core.language_models import BaseChatModel

from visavis.dialogue.commands import Edit, Regenerate, TurnCommand
from visavis.dialogue.context import Budget
from visavis.dialogue.errors import DialogueError, UnknownSession
from visavis.dialogue.events import Event
from visavis.dialogue.explaining import Explanation, explain_turn
from visavis.dialogue.images import NormalisedImage, normalise_image
from visavis.dialogue.limits import ImageLimits, Limits, Persona, TurnPolicy
from visavis.dialogue.live_turns import LiveTurns
from visavis.dialogue.model_choice import ModelChoice
from visavis.dialogue.observer import Observer, Unobserved
from visavis.dialogue.persons import Persons, Receipt
from visavis.dialogue.rate_limits import RateLimits
from visavis.dialogue.store import Store
from visavis.dialogue.turn_log import TurnLog, TurnLogs
from visavis.dialogue.turn_runner import TurnRunner
from visavis.dialogue.turns import Feedback, ImageRef, Region, Role, Session, Status, Turn, as_they_came
from visavis.dialogue.wire_fields import check_session_id

Normalise = Callable[[bytes, ImageLimits], Awaitable[NormalisedImage]]


class DialogueManager:
    """Conversations over one store and a chat model, or a choice of them (`model_name` is what the only one is called).

    Use it as a context manager: while entered, a sweep runs turns that a dead process left behind; leaving it hands
    running turns over. All methods raise `DialogueError`s only. `variation` are options of the model (such as a
    temperature) that let it answer the same question in another way; it then gets a `seed` as well. `normalise` decodes
    pictures, by default in a thread; a server does it in `ImageWorkers`. `on_forget` (blocking) is told each session
    that was deleted; `observer` hears of turns and pictures.
    """

    def __init__(
        self,
        store: Store,
        chat_model: BaseChatModel | ModelChoice,
        limits: Limits | None = None,
        *,
        policy: TurnPolicy | None = None,
        budget: Budget | None = None,
        variation: Mapping[str, Any] | None = None,
        model_name: str = "visavis-embedded",
        normalise: Normalise | None = None,
        on_forget: Callable[[str], None] | None = None,
        persona: Persona | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.choice = ModelChoice({model_name: chat_model}) if isinstance(chat_model, BaseChatModel) else chat_model
        self.persona = persona or Persona()
        self.observer = observer or Unobserved()
        self._store = store
        self._budget = budget or Budget()
        logs, policy = TurnLogs(), policy or TurnPolicy()
        self._runner = TurnRunner(store, logs, self.choice, policy, self._budget, variation or {}, self.observer)
        self.turns = LiveTurns(store, logs, self._runner, policy, self.limits)
        self.persons = Persons(store, self.forget)
        self.rates = RateLimits(self.limits)
        self._normalise = normalise or _in_a_thread
        self._on_forget = on_forget
        self._sweeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "DialogueManager":
        self._sweeper = asyncio.create_task(self._runner.sweep_forever())
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
        return self._runner.running_turns

    async def drain(self, timeout_s: float) -> None:
        """Refuse new turns, let running ones finish for `timeout_s`, hand the others over to another process."""
        await self._runner.drain(timeout_s)

    async def new_session(self, person: str = "") -> str:
        """The id of a new conversation, which `person` finds again by `persons.sessions`."""
        return await self._store.sessions.create(person)

    async def open_session(self, session_id: str, person: str = "") -> Session:
        """The latest turns of a conversation and those that wait. One that is nobody's becomes the person's.

        Raises:
            UnknownSession: also when it is another person's.
        """
        session = await self._store.sessions.load(check_session_id(session_id), alternatives=True)
        await self.persons.let_in(session, person)
        return session

    async def history(self, session_id: str, before: str | None = None, limit: int = 50) -> Session:
        """The `limit` turns (one more to make it even) before `before`, or the latest."""
        exchanges = (limit + 1) // 2
        session = await self._store.sessions.load(check_session_id(session_id), before, exchanges, alternatives=True)
        return replace(session, exchanges=as_they_came(session.exchanges, session.more))

    async def set_title(self, session_id: str, title: str) -> None:
        """Name a conversation; raises `UnknownSession`."""
        await self._store.sessions.set_title(check_session_id(session_id), title)

    async def set_feedback(self, session_id: str, turn_id: str, feedback: Feedback) -> None:
        """Keep what a person thinks of an answer; raises `UnknownTurn`."""
        await self._store.sessions.set_feedback(check_session_id(session_id), turn_id, feedback)

    async def select(self, session_id: str, turn_id: str) -> Session:
        """Go back to the branch with a turn, an alternative in the current one; its latest part.

        Raises:
            UnknownTurn. Busy: turns run or wait.
        """
        await self._store.sessions.select(check_session_id(session_id), turn_id)
        return await self.history(session_id)

    async def add_image(self, session_id: str, data: bytes) -> ImageRef:
        """Check, normalise and keep a picture for a session.

        Raises:
            UnknownSession, BadImage, ImageTooLarge, UnsupportedImage.
        """
        try:
            ref = await self._add_image(check_session_id(session_id), data)
        except DialogueError as error:
            self.observer.image_refused(error.code)
            raise
        self.observer.image_stored()
        return ref

    async def _add_image(self, session_id: str, data: bytes) -> ImageRef:
        await self._store.sessions.check(session_id)
        image = await self._normalise(data, self.limits.image)
        await self._store.images.save(session_id, image)
        try:
            for gone in await self._store.sessions.add_image(session_id, image.ref):
                await self._store.images.release(session_id, gone)
        except UnknownSession:  # forgotten meanwhile
            await self._store.images.release(session_id, image.ref.sha256)
            raise
        return image.ref

    async def read_image(self, session_id: str, sha256: str) -> tuple[ImageRef, bytes]:
        """A picture of the session and its bytes; raises `UnknownSession` or `UnknownImage`."""
        ref = await self._store.sessions.find_image(check_session_id(session_id), sha256)
        return ref, await self._store.images.read(sha256)

    async def submit(self, session_id: str, command: TurnCommand) -> TurnLog:
        """Store a turn in the session's queue and see that it is run; a known id is only looked up.

        Returns its log, to be given to `follow`. The turn is stored when this returns.

        Raises:
            UnknownSession, UnknownImage, Busy. BadRequest: no such model.
        """
        asked = _question(command.id, command.text, command.images, command.region)
        return await self.turns.submit(session_id, replace(asked, model=self.choice.check(command.model)))

    async def regenerate(self, session_id: str, command: Regenerate) -> TurnLog:
        """Ask the question of an ended turn again, in its place; the earlier answer stays as an alternative.

        Raises:
            UnknownTurn: no such turn in the current branch. As `submit`.
        """
        seed = secrets.randbits(31)  # kept with the turn, so that another attempt says the same
        return await self._replace(session_id, command, lambda earlier: earlier.text, seed)

    async def edit(self, session_id: str, command: Edit) -> TurnLog:
        """Ask another question about the same pictures in the place of an ended turn; raises as `regenerate`."""
        return await self._replace(session_id, command, lambda earlier: command.text)

    async def run_turn(self, session_id: str, command: TurnCommand) -> AsyncGenerator[Event, None]:
        """`submit` and `follow` in one, for callers that need no place to resume from."""
        async with aclosing(self.turns.follow(await self.submit(session_id, command))) as events:
            async for event in events:
                yield event

    async def explain(self, session_id: str, turn_id: str) -> Explanation:
        """Where in the picture the answer to a turn came from; raises as `explain_turn`, and `UnknownSession`."""
        session = await self._store.sessions.load(check_session_id(session_id), turn_id)
        return await explain_turn(session, turn_id, self.choice, self._budget)

    async def forget(self, session_id: str) -> Receipt:
        """Delete a conversation, its running turn and the pictures that no other one shows; raises `UnknownSession`."""
        exchanges, images = await self._store.sessions.forget(check_session_id(session_id))
        self._runner.leave(session_id)
        if self._on_forget is not None:
            await asyncio.to_thread(self._on_forget, session_id)
        released = [await self._store.images.release(session_id, image) for image in images]
        return Receipt(session_id, 1, 2 * exchanges, sum(released), time.time())

    async def _replace(
        self, session_id: str, command: Regenerate | Edit, words: Callable[[Turn], str], seed: int | None = None
    ) -> TurnLog:
        session = await self._store.sessions.load(check_session_id(session_id), command.turn, 0)
        if session.target is None:  # unless it was asked for before, and its branch has been left since
            return await self.turns.attach(session_id, command.id)
        earlier = session.target.question
        asked = _question(command.id, words(earlier), earlier.images, earlier.region, command.turn, seed)
        model = self.choice.check(command.model) or earlier.model
        return await self.turns.submit(session_id, replace(asked, model=model))


async def _in_a_thread(data: bytes, limits: ImageLimits) -> NormalisedImage:
    return await asyncio.to_thread(normalise_image, data, limits)


def _question(
    id: str,
    text: str,
    images: tuple[str, ...],
    region: Region | None,
    replaces: str | None = None,
    seed: int | None = None,
) -> Turn:
    at = time.time()
    return Turn(id, Role.USER, text, images, at, region, Status.WAITING, replaces=replaces, seed=seed)
