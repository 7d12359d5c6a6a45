"""The contract of the store, and conversations, on a cluster of three masters with a replica each."""

import asyncio
import contextlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import version_1_store as version_1
from fake_chat_model import FakeChatModel
from redis.asyncio import RedisCluster
from test_manager import collect
from test_store import *  # noqa: F403 - the same tests, with another server
from test_store_channels import *  # noqa: F403

from visavis.dialogue.commands import TurnCommand
from visavis.dialogue.errors import StoreTooNew, StoreUnavailable
from visavis.dialogue.events import Event, TextDelta, TurnCompleted
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import Store, open_store
from visavis.dialogue.store_client import VERSION
from visavis.dialogue.store_records import SCHEMA

pytestmark = pytest.mark.slow
PATIENCE_S = 90


@dataclass
class Cluster:
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{next(iter(self.processes))}?cluster=true"

    def start(self, binary: str, folder: Path) -> subprocess.Popen[bytes]:
        port = _free_port()
        options = {"port": port, "cluster-enabled": "yes", "cluster-config-file": f"{port}.conf", "save": ""}
        options |= {"dir": str(folder), "cluster-port": _free_port(), "cluster-node-timeout": 2000}
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        self.processes[port] = subprocess.Popen([binary, *words], stdout=subprocess.DEVNULL)
        return self.processes[port]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    binary, cli = shutil.which("redis-server"), shutil.which("redis-cli")
    if binary is None or cli is None:
        pytest.skip("no redis-server on PATH")
    cluster = Cluster()
    with tempfile.TemporaryDirectory(prefix="vv") as folder, contextlib.ExitStack() as ends:
        for _ in range(6):
            ends.callback(_end, cluster.start(binary, Path(folder)))
        nodes = [f"127.0.0.1:{port}" for port in cluster.processes]
        _until(
            [cli, "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"], "All 16384 slots covered"
        )
        for port in cluster.processes:
            _until([cli, "-p", str(port), "cluster", "info"], "cluster_state:ok")
            _until([cli, "-p", str(port), "info", "replication"], "state=online", "master_link_status:up")
        yield cluster


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _until(command: list[str], *words: str) -> None:
    """Run a command until it says one of the words."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if any(word in said for word in words):
            return
        assert time.monotonic() < deadline, command
        time.sleep(0.2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def store_url(cluster: Cluster) -> str:
    return cluster.url


async def test_everything_of_a_person_goes_over_many_slots(store: Store, redis: RedisCluster) -> None:
    manager = DialogueManager(store, FakeChatModel())
    for number in range(12):
        session = await manager.new_session("web:a")
        await collect(manager.run_turn(session, TurnCommand(str(uuid.uuid4()), f"Question {number}?")))
    code = await manager.persons.offer_link("web:a")
    await manager.persons.accept_link("slack:b", code)
    assert (await manager.persons.forget("slack:b")).sessions == 12
    assert await redis.keys() == []


async def test_what_an_earlier_version_kept_is_upgraded_and_a_later_one_refused(
    store: Store, redis: RedisCluster
) -> None:
    sessions = [secrets.token_hex(16) for _ in range(12)]
    for session in sessions:
        await version_1.write(redis, session)  # type: ignore[arg-type]
    assert await store.open() == len(sessions)
    assert [len((await store.sessions.load(session)).exchanges) for session in sessions] == [3] * len(sessions)
    await redis.hset(VERSION, "version", SCHEMA + 1)
    for ask in (Store(redis).open, store.ping):  # type: ignore[arg-type]
        with pytest.raises(StoreTooNew):
            await ask()


async def test_a_conversation_survives_the_death_of_the_master_that_holds_it(cluster: Cluster) -> None:
    store, gate = open_store(cluster.url), asyncio.Semaphore(1)
    model = FakeChatModel(gate=gate)
    redis = store._redis
    assert isinstance(redis, RedisCluster)
    async with DialogueManager(store, model, policy=TurnPolicy(sweep_s=0.5)) as manager:
        session, turn = await manager.new_session(), str(uuid.uuid4())
        log = await manager.submit(session, TurnCommand(turn, "What is it?"))
        seen: list[Event] = []
        async for event in manager.turns.follow(log):
            seen.append(event)
            if isinstance(event, TextDelta) and len(seen) == 2:
                await asyncio.sleep(0.5)  # replication is asynchronous: what was written a moment ago may be lost
                master = redis.get_node_from_key(f"visavis:{{{session}}}:meta")
                assert master is not None
                cluster.processes[int(master.port)].send_signal(signal.SIGKILL)
                gate.release()
                gate.release()
        assert isinstance(seen[-1], TurnCompleted) and seen[-1].text == "A red ball."
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(StoreUnavailable):
                    assert len((await manager.history(session)).exchanges) == 1
                    break
                await asyncio.sleep(0.2)
    await store.aclose()
