"""What is done for one message to the assistant: its place's session, its pictures, its turn, and the answer shown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from visavis.bot.adapters.files import check_file
from visavis.bot.adapters.pace import Pace, patiently
from visavis.bot.adapters.places import open_place
from visavis.bot.adapters.platform import (
    Ending,
    FileLink,
    Incoming,
    NotPermitted,
    Outcome,
    Platform,
    PlatformError,
    incoming_to_json,
)
from visavis.bot.adapters.screen import LostLease, Screen
from visavis.bot.adapters.text_commands import answer_command
from visavis.dialogue.commands import Regenerate, TurnCommand
from visavis.dialogue.errors import (
    BadImage,
    BadRequest,
    Busy,
    DialogueError,
    ImageTooLarge,
    StoreUnavailable,
    UnknownSession,
    UnknownTurn,
    UnsupportedImage,
)
from visavis.dialogue.events import TextDelta, TurnCancelled, TurnCompleted, TurnFailed, TurnQueued
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.rate_limits import Action
from visavis.dialogue.store_channels import ChannelStore
from visavis.dialogue.turn_log import TurnLog
from visavis.dialogue.wire_fields import clean_text

log = logging.getLogger(__name__)

THINKING = "is looking …"
SORRY = "This could not be answered; please ask again."
LEASE_S = 15.0
_STORE_PAUSE_S = 1.0
_LINE_PAUSE_S, _LONGEST_LINE_PAUSE_S, _LONGEST_LINE_S = 0.1, 2.0, 120.0
_TURNS = uuid.UUID("7b0f4a2e-6f0c-5b3a-9d6e-2c1f0e8a4d51")
Ended = tuple[str, Outcome]


class HandOver(Exception):
    """This process goes down before the message has become a turn."""


def turn_id(platform: str, message: str) -> str:
    """The same for every process that is brought the message: a turn is never run twice."""
    return str(uuid.uuid5(_TURNS, f"{platform}:{message}"))


class MessageRun:
    """Messages of a place become turns in the order in which they came. `adopted`: another process may have begun."""

    def __init__(
        self,
        incoming: Incoming,
        platform: Platform,
        manager: DialogueManager,
        channel: ChannelStore,
        pace: Pace,
        *,
        adopted: bool,
    ) -> None:
        self._incoming = incoming
        self._platform = platform
        self._manager = manager
        self._channel = channel
        self._adopted = adopted
        self._reply = platform.reply(incoming)
        self._screen = Screen(self._reply, pace, platform.message_limit, self._keep)
        self._turn = turn_id(platform.name, incoming.id)
        self._session = ""
        self._note = ""
        self._remembered: set[str] = set()

    async def execute(self, is_draining: Callable[[], bool]) -> None:
        """Answer the message.

        Raises:
            HandOver, LostLease. PlatformError: the platform does not show the answer. StoreUnavailable.
        """
        async with self._screen.drafting():
            try:
                text, outcome = await self._outcome()
            except StoreUnavailable:
                raise
            except DialogueError as error:
                if isinstance(error, Busy) and is_draining():
                    raise HandOver from error
                text, outcome = str(error), Outcome(Ending.FAILED, private=True)
        await self._screen.finish(f"{text}\n\n{self._note}" if self._note else text, outcome)

    async def give_up(self) -> None:
        """Say that there will be no answer; raises as `execute`."""
        await self._screen.finish(SORRY, Outcome(Ending.FAILED, private=True))

    async def _outcome(self) -> Ended:
        async with self._in_order():
            told = await answer_command(self._incoming, self._manager, self._channel)
            if told is not None:
                return told
            self._screen.tell("", THINKING)
            turn = await self._known_turn() or await self._submitted()
            if self._reply.posts:  # shown before it was known which turn they belong to
                await self._keep()
        return await self._followed(turn)

    @asynccontextmanager
    async def _in_order(self) -> AsyncIterator[None]:
        """While it is this message's turn in its place, over all processes."""
        id, place, pause_s = self._incoming.id, self._incoming.place, _LINE_PAUSE_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_LINE_S):
                while not await self._channel.is_first(id, place):  # the one before may be another process's
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_LINE_PAUSE_S)
        try:
            yield
        except Busy:  # perhaps because the process goes down: the next one gets the message, and its place in line
            raise
        except DialogueError:
            await self._channel.passed(id, place)
            raise
        await self._channel.passed(id, place)

    async def _known_turn(self) -> TurnLog | None:
        """The turn, if another process has made it before."""
        session = await self._channel.session_at(self._incoming.place) if self._adopted else None
        if session is None:
            return None
        try:
            turn = await self._manager.turns.attach(session, self._turn)
        except (UnknownTurn, UnknownSession):
            return None
        self._session = session
        return turn

    async def _submitted(self) -> TurnLog:
        incoming, manager = self._incoming, self._manager
        manager.rates.take(Action.TURN, incoming.person)
        text = clean_text(incoming.text, manager.limits)
        opened = await patiently(self._reply.open)
        session = await open_place(incoming, manager, self._channel)
        self._session = session
        if opened:
            await self._keep()
            await self._channel.bind(opened, session)
        if incoming.replaces:
            return await manager.regenerate(session, Regenerate(incoming.replaces, self._turn))
        images = await self._pictures(session)
        return await manager.submit(session, TurnCommand(self._turn, text, images))

    async def _pictures(self, session: str) -> tuple[str, ...]:
        """Those that were posted before and belong to the question, then the message's own, which have to be good."""
        most = self._manager.limits.max_images
        own: Sequence[FileLink] = self._incoming.files
        if not own:
            own = await patiently(lambda: self._platform.own_files(self._incoming))
        if len(own) > most:
            raise BadRequest(f"A message may show at most {most} pictures; this one has {len(own)}.")
        images = []
        earlier = await patiently(lambda: self._platform.more_files(self._incoming))
        for link in earlier[max(len(earlier) - most + len(own), 0) :]:
            try:
                images.append(await self._picture(session, link))
            except NotPermitted as error:
                self._note = str(error)
            except (BadImage, ImageTooLarge, UnsupportedImage) as error:
                log.info("an earlier picture is passed over: %s", error)
        for link in own:
            images.append(await self._picture(session, link))
        return tuple(dict.fromkeys(images))[-most:]

    async def _picture(self, session: str, link: FileLink) -> str:
        limits = self._manager.limits.image
        self._manager.rates.take(Action.IMAGE, self._incoming.person)
        check_file(link, limits)
        try:
            data = await patiently(lambda: self._platform.fetch(link, limits))
        except PlatformError as error:
            raise BadImage("The picture could not be fetched; please post it again.") from error
        return (await self._manager.add_image(session, data)).sha256

    async def _followed(self, turn: TurnLog) -> Ended:
        """The end of the turn; what is said until then is shown. A store that is away is waited for."""
        text, place = "", (0, 0)
        while True:
            try:
                async with aclosing(self._manager.turns.follow(turn, *place)) as events:
                    async for event in events:
                        text = text if event.attempt == place[0] else ""
                        place = (event.attempt, event.seq)
                        if isinstance(event, TurnCompleted | TurnFailed | TurnCancelled):
                            return _ended(event)
                        if isinstance(event, TextDelta):
                            text += event.text
                        waits = isinstance(event, TurnQueued) and event.position > 0
                        self._screen.tell(text, f"waits; ahead: {event.position}" if waits else THINKING)  # type: ignore[union-attr]
            except StoreUnavailable:
                log.warning("the store does not answer; an answer waits for it")
            await asyncio.sleep(_STORE_PAUSE_S)

    async def _keep(self) -> None:
        """What has been shown, for another process and for the buttons below it."""
        state = dict(self._reply.state)
        record = incoming_to_json(replace(self._incoming, state=state))
        if await self._channel.renew([self._incoming.id], LEASE_S, record):
            raise LostLease
        for post in set(self._reply.posts) - self._remembered if self._session else ():
            await self._channel.remember(post, self._session, self._turn)
            self._remembered.add(post)


def _ended(event: TurnCompleted | TurnFailed | TurnCancelled) -> Ended:
    match event:
        case TurnCompleted():
            seen = event.image is not None
            return event.text, Outcome(Ending.ANSWERED, event.turn, can_explain=seen, suggestions=event.suggestions)
        case TurnFailed():
            return event.message, Outcome(Ending.FAILED, event.turn)
    return f"{event.text}\n\n(stopped)".strip(), Outcome(Ending.STOPPED, event.turn)
