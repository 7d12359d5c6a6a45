"""One websocket: receive -> wire -> manager -> send, with bounded waiting on a client that does not read.

Knows sockets only by the `Socket` protocol. Nothing is queued here: each running turn keeps its place in the turn's log
and holds at most one frame, so a slow client costs no memory; one that takes no frame for `send_timeout_s` is cut off.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import asdict
from enum import IntEnum
from typing import Protocol

from visavis.dialogue import commands, wire
from visavis.dialogue.errors import BadRequest, Busy, DialogueError, InternalError, Unauthorized
from visavis.dialogue.images import too_many_bytes
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.turn_log import TurnLog
from visavis.dialogue.turns import Feedback
from visavis.dialogue.watching import Watchers

logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 2.0


class SocketClosed(Exception):
    """The other side has left."""


class Socket(Protocol):
    """What a connection needs of a websocket; each method raises `SocketClosed` when the other side has left."""

    async def receive(self) -> str | bytes: ...

    async def send(self, text: str) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class CloseCode(IntEnum):
    """Why this side closes a socket."""

    POLICY = 1008
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013


class _Closing(Exception):
    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


async def serve_connection(socket: Socket, manager: DialogueManager) -> None:
    """Talk to one client until it leaves or is cut off. Its turns go on without it. Raises nothing but cancellation."""
    try:
        async with asyncio.TaskGroup() as group:
            await _Connection(socket, manager, group).talk()
    except* SocketClosed:
        pass
    except* _Closing as closings:
        closing = closings.exceptions[0]
        assert isinstance(closing, _Closing)
        await _close(socket, closing.code, str(closing))
    except* Exception:  # the edge of a connection
        logger.exception("a connection failed")
        await _close(socket, CloseCode.INTERNAL_ERROR, "internal error")


async def _close(socket: Socket, code: CloseCode, reason: str) -> None:
    with suppress(SocketClosed, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await socket.close(code, reason)


class _Connection:
    def __init__(self, socket: Socket, manager: DialogueManager, group: asyncio.TaskGroup) -> None:
        self._socket = socket
        self._manager = manager
        self._limits = manager.limits
        self._group = group
        self._sending = asyncio.Lock()
        self._session: str | None = None
        self._person = ""
        self._watchers = Watchers(manager.turns, group, self._send)
        self._explaining: asyncio.Task[None] | None = None
        self._announced: commands.ImageCommand | None = None
        self._skips_binary = False

    async def talk(self) -> None:
        """Answer frames until the other side leaves."""
        while True:
            frame = await self._receive()
            try:
                await self._answer(frame)
            except DialogueError as error:
                await self._send(wire.error_frame(error))
            except (SocketClosed, _Closing):
                raise
            except Exception:  # the edge of a command: this client's next one may well work
                logger.exception("a command failed")
                await self._send(wire.error_frame(InternalError("Something went wrong here; the details are logged.")))

    async def _receive(self) -> str | bytes:
        if self._session is not None:
            return await self._socket.receive()
        try:
            async with asyncio.timeout(self._limits.hello_timeout_s):
                return await self._socket.receive()
        except TimeoutError:
            raise _Closing(CloseCode.POLICY, "no hello came") from None

    async def _send(self, frame: str) -> None:
        """Send in order; whoever cannot take a frame in time is cut off (and can resume)."""
        try:
            async with asyncio.timeout(self._limits.send_timeout_s), self._sending:
                await self._socket.send(frame)
        except TimeoutError:
            raise _Closing(CloseCode.TRY_AGAIN_LATER, "frames were not read in time") from None

    async def _answer(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            return await self._take_binary(frame)
        announced, self._announced, self._skips_binary = self._announced, None, False
        if announced is not None:
            error = BadRequest("Expected the picture's binary frame after 'image', got a text frame.", id=announced.id)
            await self._send(wire.error_frame(error))
        await self._carry_out(wire.parse_command(frame, self._limits))

    async def _carry_out(self, command: commands.Command) -> None:
        if isinstance(command, commands.Hello):
            return await self._hello(command)
        if isinstance(command, commands.ImageCommand):
            return self._announce(command)
        session, manager = self._known_session(), self._manager
        match command:
            case commands.New():
                await self._enter(await manager.new_session(self._person))
            case commands.TurnCommand():
                await self._begin(manager.submit(session, command), command.id)
            case commands.Regenerate():
                await self._begin(manager.regenerate(session, command), command.id)
            case commands.Edit():
                await self._begin(manager.edit(session, command), command.id)
            case commands.Select():
                await self._send(wire.history_frame(await manager.select(session, command.turn)))
            case commands.Cancel():
                await manager.turns.cancel(session, command.turn)
            case commands.Explain():
                self._explain(session, command.turn)
            case commands.FeedbackCommand():
                feedback = Feedback(command.score, command.consent)
                await manager.set_feedback(session, command.turn, feedback)
                await self._send(wire.feedback_frame(command.turn, feedback))
            case commands.HistoryCommand():
                await self._send(wire.history_frame(await manager.history(session, command.before, command.limit)))
            case commands.SessionsCommand():
                await self._send(wire.sessions_frame(await manager.sessions(self._known_person(), command.query)))
            case commands.TitleCommand():
                await manager.set_title(session, command.text)
                await self._send(wire.title_frame(session, command.text))
            case commands.Forget():
                await self._send(wire.forgotten_frame(asdict(await manager.forget(session))))

    def _known_session(self, answered: str | None = None) -> str:
        if self._session is None:
            raise BadRequest("Expected 'hello' before anything else.", id=answered)
        return self._session

    def _known_person(self) -> str:
        if not self._person:
            raise Unauthorized("Expected a 'token' in 'hello', to know whose conversations are meant.")
        return self._person

    async def _hello(self, hello: commands.Hello) -> None:
        person = "" if hello.token is None else visitor(hello.token)
        session = hello.session or await self._manager.new_session(person)
        await self._enter(session, hello.resume, person)
        self._person = person

    async def _enter(self, session_id: str, resume: commands.Resume | None = None, person: str | None = None) -> None:
        """Tell what is there, then go on with the turns that run or wait, and the one to be resumed."""
        session = await self._manager.open_session(session_id, self._person if person is None else person)
        self._watchers.clear()
        self._session = session_id
        await self._send(wire.ready_frame(session, self._manager.model_name, self._limits))
        for turn in session.waiting:
            if resume is None or turn.id != resume.turn:
                self._watchers.watch(await self._manager.turns.attach(session_id, turn.id))
        if resume is not None:
            self._watchers.watch(await self._manager.turns.attach(session_id, resume.turn), resume)

    def _announce(self, command: commands.ImageCommand) -> None:
        self._skips_binary = True  # until it is found acceptable
        self._known_session(command.id)
        if command.bytes > self._limits.image.max_bytes:
            error = too_many_bytes(command.bytes, self._limits.image)
            error.id = command.id
            raise error
        self._announced, self._skips_binary = command, False

    async def _take_binary(self, data: bytes) -> None:
        announced, self._announced = self._announced, None
        if announced is None:
            if self._skips_binary:  # the picture of an announcement that was refused
                self._skips_binary = False
                return
            raise BadRequest("Expected an 'image' command before a binary frame.")
        try:
            if len(data) != announced.bytes:
                raise BadRequest(f"Expected {announced.bytes:,} bytes in the picture's frame, got {len(data):,}.")
            ref = await self._manager.add_image(self._known_session(), data)
        except DialogueError as error:
            error.id = announced.id
            raise
        await self._send(wire.image_stored_frame(announced.id, ref))

    async def _begin(self, submitting: Awaitable[TurnLog], id: str) -> None:
        """Submitted in here, not in the watcher: turns keep the order in which they came."""
        try:
            log = await submitting
        except DialogueError as error:
            error.id = id
            raise
        self._watchers.watch(log)

    def _explain(self, session: str, turn: str) -> None:
        """One at a time for a client: each costs the model about as much as an answer."""
        if self._explaining is not None and not self._explaining.done():
            raise Busy("Another answer is being explained; please wait for that first.", id=turn)
        self._explaining = self._group.create_task(self._send_explanation(session, turn))

    async def _send_explanation(self, session: str, turn: str) -> None:
        try:
            explanation = await self._manager.explain(session, turn)
        except DialogueError as error:
            error.id = turn
            return await self._send(wire.error_frame(error))
        await self._send(wire.explanation_frame(explanation))


def visitor(token: str) -> str:
    """The person behind the secret that a web client has made up. The secret itself is kept nowhere."""
    return f"web:{hashlib.sha256(token.encode()).hexdigest()[:32]}"
