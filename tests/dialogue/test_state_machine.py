"""The life of turns as rules: accept, deliver, drop, resume, cancel, kill, expire, over several processes and tabs.

A tab may see of each turn only what the protocol allows: every event of an attempt once, in order, one end, and the end
that the history tells.
"""

import asyncio
import contextlib
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_chat_model import FakeChatModel
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from store_servers import start_valkey

from visavis.dialogue.commands import TurnCommand
from visavis.dialogue.errors import DialogueError, UnknownTurn
from visavis.dialogue.events import Event, TextDelta, TurnCancelled, TurnCompleted, TurnFailed, TurnRestarted
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import Store
from visavis.dialogue.store_client import connect, session_key

POLICY = TurnPolicy(lease_s=0.4, renew_s=0.05, flush_s=0.01, poll_s=0.01, sweep_s=0.05, watch_s=60)
PATIENCE_S = 60


@dataclass
class Tab:
    """Follows one turn in one process and checks what it sees; `place` outlives a lost connection."""

    turn: str
    place: tuple[int, int] = (0, 0)
    text: str = ""
    end: Event | None = None
    task: "asyncio.Task[None] | None" = None
    expired: bool = False

    def see(self, event: Event) -> None:
        attempt, seq = self.place
        assert self.end is None, "nothing follows the end"
        expected = seq + 1 if event.attempt == attempt else 1
        assert event.attempt >= attempt
        # Of a turn that was stopped while it waited nothing but its end is kept.
        may_skip = self.expired or (isinstance(event, TurnCancelled) and not event.text)
        assert event.seq == expected or (event.is_final and may_skip), (self.place, event)
        self.place = (event.attempt, event.seq)
        if isinstance(event, TurnRestarted):
            self.text = ""
        if isinstance(event, TextDelta):
            self.text += event.text
        if event.is_final:
            self.end = event
            if not isinstance(event, TurnFailed) and not self.expired:
                assert isinstance(event, TurnCompleted | TurnCancelled) and event.text == self.text


@dataclass
class Process:
    """One gateway's manager. Killed: its tasks stop without a word to the store."""

    manager: DialogueManager
    model: FakeChatModel
    tabs: list[Tab] = field(default_factory=list)


class Conversations(RuleBasedStateMachine):
    store_url = ""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.clients: list[Any] = []
        self.gate = asyncio.Semaphore(0)
        self.processes: list[Process] = []
        self.tabs: list[Tab] = []
        self.turns: list[str] = []
        self.expired: set[str] = set()
        self.do(self._begin())

    def do(self, work: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(PATIENCE_S):
                return await work

        return self.loop.run_until_complete(bounded())

    async def _begin(self) -> None:
        for _ in range(2):
            await self._start()
        self.session = await self.processes[0].manager.new_session()

    async def _start(self) -> None:
        model, redis = FakeChatModel(gate=self.gate), connect(self.store_url)
        self.clients.append(redis)
        manager = DialogueManager(Store(redis), model, policy=POLICY)
        await manager.__aenter__()
        self.processes.append(Process(manager, model))

    @rule(where=st.integers(0, 1), again=st.booleans())
    def accept(self, where: int, again: bool) -> None:
        """A new turn, or an old one sent again."""
        turn = self.turns[-1] if again and self.turns else str(uuid.uuid4())
        self.do(self._accept(self.processes[where], turn))

    async def _accept(self, process: Process, turn: str) -> None:
        try:
            log = await process.manager.submit(self.session, TurnCommand(turn, "What is it?"))
        except DialogueError as error:
            assert error.code == "busy"
            return
        if turn not in self.turns:
            self.turns.append(turn)
        tab = Tab(turn, expired=turn in self.expired)
        self._follow(process, tab, log)

    def _follow(self, process: Process, tab: Tab, log: Any) -> None:
        async def watch() -> None:
            async for event in process.manager.turns.follow(log, *tab.place):
                tab.see(event)

        tab.task = asyncio.create_task(watch())
        process.tabs.append(tab)
        self.tabs.append(tab)

    @rule(pieces=st.integers(1, 4))
    def deliver(self, pieces: int) -> None:
        for _ in range(pieces):
            self.gate.release()
        self.do(asyncio.sleep(0.03))

    @rule(which=st.integers(0, 20), where=st.integers(0, 1))
    def drop_and_resume(self, which: int, where: int) -> None:
        if following := [tab for tab in self.tabs if tab.task and not tab.task.done()]:
            self.do(self._resume(following[which % len(following)], self.processes[where]))

    async def _resume(self, tab: Tab, process: Process) -> None:
        await self._drop(tab)
        self._follow(process, tab, await process.manager.turns.attach(self.session, tab.turn))

    async def _drop(self, tab: Tab) -> None:
        assert tab.task is not None
        tab.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tab.task
        self.tabs.remove(tab)

    @rule(which=st.integers(0, 20), where=st.integers(0, 1))
    def cancel(self, which: int, where: int) -> None:
        if self.turns:
            turns = self.processes[where].manager.turns
            self.do(turns.cancel(self.session, self.turns[which % len(self.turns)]))

    @rule(where=st.integers(0, 1), hands_over=st.booleans())
    def kill(self, where: int, hands_over: bool) -> None:
        """A process goes, with or without a word; its tabs come back to the other one."""
        self.do(self._kill(where, hands_over))

    async def _kill(self, where: int, hands_over: bool) -> None:
        process = self.processes.pop(where)
        if not hands_over:
            await process.manager._store.aclose()  # what it still tries to write goes nowhere
            process.manager._store.turns.hand_over = _nothing  # type: ignore[method-assign,assignment]
        left = [tab for tab in process.tabs if tab in self.tabs and tab.task and not tab.task.done()]
        await process.manager.__aexit__(None, None, None)
        await self._start()
        for tab in left:
            await self._resume(tab, self.processes[0])

    @rule()
    def expire(self) -> None:
        """The replay is gone, as it is some time after the turns have ended."""
        if all(tab.end is not None for tab in self.tabs):
            self.expired |= set(self.turns)
            self.do(self.clients[-1].delete(session_key(self.session, "live")))

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.do(self._end())
        finally:
            self.loop.close()

    async def _end(self) -> None:
        for _ in range(1000):
            self.gate.release()
        for tab in self.tabs:
            assert tab.task is not None
            with contextlib.suppress(UnknownTurn):
                await tab.task
            assert tab.end is not None
        answers = {
            one.question.id: one.answer for one in (await self.processes[0].manager.history(self.session)).exchanges
        }
        for turn in self.turns:
            if turn not in answers:
                await self._until_answered(turn)
        page = await self.processes[0].manager.history(self.session, limit=200)
        answers = {one.question.id: one.answer for one in page.exchanges}
        assert sorted(answers) == sorted(self.turns), "each turn once, and none that was not sent"
        assert all(answers[tab.turn].final == tab.end for tab in self.tabs)
        for process in self.processes:
            await process.manager.__aexit__(None, None, None)
        for client in self.clients:
            await client.aclose()

    async def _until_answered(self, turn: str) -> None:
        turns = self.processes[0].manager.turns
        async for _ in turns.follow(await turns.attach(self.session, turn)):
            pass


async def _nothing(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="vv") as folder:
        yield from start_valkey(Path(folder))


@pytest.mark.parametrize("examples", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_what_may_be_seen_is_what_is_seen(server: str, examples: int) -> None:
    Conversations.store_url = server
    health = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    few = settings(max_examples=examples, stateful_step_count=15, deadline=None, suppress_health_check=health)
    run_state_machine_as_test(Conversations, settings=few)  # type: ignore[no-untyped-call]
