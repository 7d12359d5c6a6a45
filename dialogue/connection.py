"""One websocket: receive -> wire -> manager -> send, with bounded waiting on a client that does not read.

Knows sockets only by the `Socket` protocol. Nothing is queued here: each running turn keeps its place in the turn's log
and holds at most one frame, so a slow client costs no memory; one that takes no frame for `send_timeout_s` is cut off.
"""

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import asdict
from enum import IntEnum
from typing import Protocol

from visavis.dialogue import wire
from visavis.dialogue.errors import BadRequest, Busy, DialogueError, InternalError, ReplayExpired, StoreUnavailable
from visavis.dialogue.events import Event
from visavis.dialogue.images import too_many_bytes
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.turn_log import TurnLog

logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 2.0
_STORE_PAUSE_S = 1.0


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
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._explaining: asyncio.Task[None] | None = None
        self._announced: wire.ImageCommand | None = None
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

    async def _carry_out(self, command: wire.Command) -> None:
        match command:
            case wire.Hello():
                await self._hello(command)
            case wire.New():
                self._known_session()
                await self._enter(await self._manager.new_session())
            case wire.ImageCommand():
                self._announce(command)
            case wire.TurnCommand():
                await self._turn(command)
            case wire.Cancel():
                await self._manager.cancel(self._known_session(), command.turn)
            case wire.Explain():
                self._explain(command.turn)
            case wire.HistoryCommand():
                page = await self._manager.history(self._known_session(), command.before, command.limit)
                await self._send(wire.history_frame(*page))
            case wire.Forget():
                receipt = await self._manager.forget(self._known_session())
                await self._send(wire.forgotten_frame(asdict(receipt)))

    def _known_session(self, answered: str | None = None) -> str:
        if self._session is None:
            raise BadRequest("Expected 'hello' before anything else.", id=answered)
        return self._session

    async def _hello(self, hello: wire.Hello) -> None:
        await self._enter(hello.session or await self._manager.new_session(), hello.resume)

    async def _enter(self, session_id: str, resume: wire.Resume | None = None) -> None:
        """Tell what is there, then go on with the turns that run or wait, and the one to be resumed."""
        session = await self._manager.load_session(session_id)
        for watcher in self._watchers.values():
            watcher.cancel()
        self._watchers.clear()
        self._session = session_id
        turns = [*session.turns, *session.waiting]
        await self._send(wire.ready_frame(session_id, self._manager.model_name, self._limits, turns))
        for turn in session.waiting:
            if resume is None or turn.id != resume.turn:
                self._watch(await self._manager.attach(session_id, turn.id))
        if resume is not None:
            self._watch(await self._manager.attach(session_id, resume.turn), resume)

    def _announce(self, command: wire.ImageCommand) -> None:
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

    async def _turn(self, command: wire.TurnCommand) -> None:
        # Submitted in here, not in the watcher: turns keep the order in which they came.
        try:
            log = await self._manager.submit(self._known_session(), command)
        except DialogueError as error:
            error.id = command.id
            raise
        self._watch(log)

    def _explain(self, turn: str) -> None:
        """One at a time for a client: each costs the model about as much as an answer."""
        session = self._known_session(turn)
        if self._explaining is not None and not self._explaining.done():
            raise Busy("Another answer is being explained; please wait for that first.", id=turn)
        self._explaining = self._group.create_task(self._send_explanation(session, turn))

    async def _send_explanation(self, session: str, turn: str) -> None:
        try:
            explanation = await self._manager.explain(session, turn)
        except DialogueError as error:
            return await self._send_error(error, turn)
        await self._send(wire.explanation_frame(explanation))

    def _watch(self, log: TurnLog, resume: wire.Resume | None = None) -> None:
        watcher = self._watchers.get(log.turn)
        if watcher is not None and not watcher.done():
            return
        watcher = self._group.create_task(self._watch_turn(log, resume))
        self._watchers[log.turn] = watcher
        watcher.add_done_callback(lambda task: self._unwatch(log.turn, task))

    def _unwatch(self, turn: str, task: asyncio.Task[None]) -> None:
        if self._watchers.get(turn) is task:
            del self._watchers[turn]

    async def _watch_turn(self, log: TurnLog, resume: wire.Resume | None) -> None:
        place = (0, 0) if resume is None else (resume.attempt, resume.seq)
        checks_gap, is_told = resume is not None, False
        while True:
            try:
                async with aclosing(self._manager.follow(log, *place)) as events:
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
