"""One websocket: receive -> wire -> manager -> send, with bounded waiting on a client that does not read.

Knows sockets only by the protocol `Socket`. Nothing is queued here: each running turn keeps its place in the turn's log
and holds at most one frame, so a slow client costs no memory; one that takes no frame for `send_timeout_s` is cut off.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import asdict

from visavis.dialogue import commands, wire
from visavis.dialogue.errors import BadRequest, Busy, DialogueError, InternalError, RateLimited, Unauthorized
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.rate_limits import Action
from visavis.dialogue.sockets import CloseCode, Closing, Patience, Socket, SocketClosed, close_quietly
from visavis.dialogue.store_persons import LINK_TTL_S
from visavis.dialogue.turn_log import TurnLog
from visavis.dialogue.turns import Feedback
from visavis.dialogue.uploads import PictureInbox
from visavis.dialogue.watching import Watchers

logger = logging.getLogger(__name__)

_SLOW_DOWN_S = 0.5  # whoever sends too much is read more slowly


Identify = Callable[[str | None], str]


async def serve_connection(socket: Socket, manager: DialogueManager, identify: Identify) -> None:
    """Talk to one client until it leaves or is cut off. Its turns go on without it. Raises nothing but cancellation.

    `identify` gives the person's name for the `token` of `hello`, empty for nobody, or raises `Unauthorized`.
    """
    try:
        with ExitStack() as counted:
            async with asyncio.TaskGroup() as group:
                await _Connection(socket, manager, identify, group, counted).talk()
    except* SocketClosed:
        pass
    except* Closing as closings:
        closing = closings.exceptions[0]
        assert isinstance(closing, Closing)
        await close_quietly(socket, closing.code, str(closing))
    except* Exception:  # the edge of a connection
        logger.exception("a connection failed")
        await close_quietly(socket, CloseCode.INTERNAL_ERROR, "internal error")


async def _cut_off() -> None:
    raise Closing(CloseCode.TRY_AGAIN_LATER, "frames were not read in time")


class _Connection:
    def __init__(
        self,
        socket: Socket,
        manager: DialogueManager,
        identify: Identify,
        group: asyncio.TaskGroup,
        counted: ExitStack,
    ) -> None:
        self._socket = socket
        self._manager = manager
        self._identify = identify
        self._counted = counted
        self._limits = manager.limits
        self._group = group
        self._sending = asyncio.Lock()
        self._patience = Patience(manager.limits.send_timeout_s, lambda: group.create_task(_cut_off()))
        self._hello_by = asyncio.get_running_loop().time() + self._limits.hello_timeout_s
        self._session: str | None = None
        self._person = ""
        self._watchers = Watchers(manager.turns, group, self._send)
        self._explaining: asyncio.Task[None] | None = None
        self._inbox = PictureInbox(self._limits.image)

    async def talk(self) -> None:
        """Answer frames until the other side leaves."""
        try:
            await self._talk()
        finally:
            self._patience.end()

    async def _talk(self) -> None:
        while True:
            frame = await self._receive()
            try:
                await self._answer(frame)
            except RateLimited as error:
                await self._send(wire.error_frame(error))
                await asyncio.sleep(_SLOW_DOWN_S)
            except DialogueError as error:
                await self._send(wire.error_frame(error))
            except (SocketClosed, Closing):
                raise
            except Exception:  # the edge of a command: this client's next one may well work
                logger.exception("a command failed")
                await self._send(wire.error_frame(InternalError("Something went wrong here; the details are logged.")))

    async def _receive(self) -> str | bytes:
        if self._session is not None:
            return await self._socket.receive()
        try:
            async with asyncio.timeout_at(self._hello_by):  # frames that are refused give no more time
                return await self._socket.receive()
        except TimeoutError:
            raise Closing(CloseCode.POLICY, "no hello came") from None

    async def _send(self, frame: str) -> None:
        """Send in order; whoever cannot take a frame in time is cut off (and can resume)."""
        async with self._sending:
            with self._patience:
                await self._socket.send(frame)

    async def _answer(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            return await self._take_binary(frame)
        if (missing := self._inbox.interrupt()) is not None:
            error = BadRequest("Expected the picture's binary frame after 'image', got a text frame.", id=missing)
            await self._send(wire.error_frame(error))
        try:
            self._count(Action.REQUEST, self._person or f"socket:{id(self)}")
            command = wire.parse_command(frame, self._limits)
        except DialogueError:
            if wire.announces_picture(frame):
                self._inbox.refuse()
            raise
        try:
            await self._carry_out(command)
        except DialogueError as error:
            error.id = error.id or getattr(command, "id", None)
            raise

    async def _carry_out(self, command: commands.Command) -> None:
        if isinstance(command, commands.Hello):
            return await self._hello(command)
        if isinstance(command, commands.ImageCommand):
            return self._announce(command)
        session, manager = self._known_session(), self._manager
        match command:
            case commands.New():
                await self._enter(await manager.new_session(self._person), self._person)
            case commands.TurnCommand():
                await self._begin(lambda: manager.submit(session, command))
            case commands.Regenerate():
                await self._begin(lambda: manager.regenerate(session, command))
            case commands.Edit():
                await self._begin(lambda: manager.edit(session, command))
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
                found = await manager.persons.sessions(self._known_person(), command.query)
                await self._send(wire.sessions_frame(found))
            case commands.TitleCommand():
                await manager.set_title(session, command.text)
                await self._send(wire.title_frame(session, command.text))
            case commands.Forget(everything=True):
                await self._send(wire.forgotten_frame(asdict(await manager.persons.forget(self._known_person()))))
            case commands.Forget():
                await self._send(wire.forgotten_frame(asdict(await manager.forget(session))))
            case commands.Link():
                await self._link(command.code)

    def _known_session(self) -> str:
        if self._session is None:
            raise BadRequest("Expected 'hello' before anything else.")
        return self._session

    def _known_person(self) -> str:
        if not self._person:
            raise Unauthorized("Expected a 'token' in 'hello', to know whose conversations are meant.")
        return self._person

    async def _hello(self, hello: commands.Hello) -> None:
        person = self._identify(hello.token)
        session = hello.session or await self._manager.new_session(person)
        await self._enter(session, person, hello.resume)

    async def _enter(self, session_id: str, person: str, resume: commands.Resume | None = None) -> None:
        """Tell what is there, then go on with the turns that run or wait, and the one to be resumed."""
        session = await self._manager.open_session(session_id, person)
        if session_id != self._session:
            counting = ExitStack()
            counting.enter_context(self._manager.rates.socket(session_id, self._limits.sockets_per_session))
            self._counted.close()
            self._counted.push(counting)
        self._watchers.clear()
        self._session, self._person = session_id, person  # before anything that may fail
        await self._send(wire.ready_frame(session, self._manager.choice, self._limits, person, self._manager.persona))
        for turn in session.waiting:
            if resume is None or turn.id != resume.turn:
                self._watchers.watch(await self._manager.turns.attach(session_id, turn.id))
        if resume is not None:
            self._watchers.watch(await self._manager.turns.attach(session_id, resume.turn), resume)

    def _announce(self, command: commands.ImageCommand) -> None:
        self._inbox.refuse()  # until it is found acceptable
        session = self._known_session()
        try:
            self._count(Action.IMAGE, self._person or session)
            self._inbox.announce(command)
        except DialogueError as error:
            self._manager.observer.image_refused(error.code)
            raise

    async def _take_binary(self, data: bytes) -> None:
        if self._inbox.announced is None:
            self._count(Action.REQUEST, self._person or f"socket:{id(self)}")
        announced = self._inbox.take(data)
        if announced is None:
            return
        try:
            ref = await self._manager.add_image(self._known_session(), data)
        except DialogueError as error:
            error.id = announced
            raise
        await self._send(wire.image_stored_frame(announced, ref))

    def _count(self, action: Action, name: str) -> None:
        self._manager.rates.take(action, name, self._socket.address)

    async def _link(self, code: str | None) -> None:
        persons, person = self._manager.persons, self._known_person()
        if code is None:
            return await self._send(wire.link_frame(await persons.offer_link(person), LINK_TTL_S))
        await self._send(wire.linked_frame(await persons.accept_link(person, code)))

    async def _begin(self, submit: Callable[[], Awaitable[TurnLog]]) -> None:
        """Submitted in here, not in the watcher: turns keep the order in which they came."""
        self._count(Action.TURN, self._person or self._known_session())
        self._watchers.watch(await submit())

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
