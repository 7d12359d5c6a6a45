"""`visavis serve` as real processes: start, one-sentence refusals, kill -9 of every part, drain."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from visavis.bot import doctor
from visavis.bot.child_process import Child
from visavis.bot.client import ChatClient
from visavis.bot.preparation import ServeError
from visavis.bot.probes import http_get, ping
from visavis.bot.settings import load_settings
from visavis.bot.supervisor import local_models
from visavis.dialogue.store_client import VERSION
from visavis.dialogue.store_records import SCHEMA

VISAVIS = [sys.executable, "-c", "from visavis.bot.cli import main; main()"]
Serve = Callable[[], AbstractAsyncContextManager[asyncio.subprocess.Process]]
PATIENCE_S = 60


@pytest.fixture
async def model_url(tmp_path: Path) -> AsyncIterator[str]:
    """A model server that is healthy and answers nothing: these tests are about processes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "model.sock"):
        yield f"unix://{tmp_path / 'model.sock'}"


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def serve(tmp_path: Path, model_url: str, port: int) -> Iterator[Serve]:
    environment = os.environ | {"VISAVIS_MODEL_URL": model_url, "VISAVIS_DATA_DIR": str(tmp_path / "data")}

    @contextlib.asynccontextmanager
    async def run() -> AsyncIterator[asyncio.subprocess.Process]:
        command = [*VISAVIS, "serve", "--port", str(port)]
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE_S):
                line = (await process.stdout.readline()).decode()
            assert line == f"visavis is ready: http://127.0.0.1:{port}  (Ctrl-C stops it)\n"
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()

    yield run


def children_of(pid: int) -> dict[str, int]:
    """Process ids by what they run."""
    said = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in said.splitlines():
        child, parent, command = line.split(None, 2)
        if int(parent) == pid:
            name = "gateway" if "visavis.bot.gateway" in command else "store" if "-server" in command else command
            found[name] = int(child)
    return found


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


async def until(happens: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if happens():
                return
            await asyncio.sleep(0.05)


async def until_ready(port: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await http_get(("127.0.0.1", port), "/readyz")
            if answer is not None and answer[0] == 200:
                return
            await asyncio.sleep(0.05)


async def test_a_conversation_survives_every_kind_of_end(serve: Serve, port: int, tmp_path: Path) -> None:
    store_socket = tmp_path / "data" / "run" / "store.sock"
    async with serve() as process, ChatClient(f"http://127.0.0.1:{port}") as client:
        session = client.session
        for part in ("gateway", "store"):
            before = children_of(process.pid)[part]
            os.kill(before, signal.SIGKILL)
            await until(lambda part=part, before=before: children_of(process.pid).get(part, before) != before)  # type: ignore[misc]
            await until_ready(port)
            async with ChatClient(f"http://127.0.0.1:{port}", session=session):
                pass
        left = children_of(process.pid)
        process.kill()
        await process.wait()
        await until(lambda: not is_running(left["gateway"]))
    assert await ping(store_socket) == "PONG", "the store outlives a killed supervisor"
    async with serve() as process:
        async with ChatClient(f"http://127.0.0.1:{port}", session=session):
            pass
        process.terminate()
        assert await process.wait() == 0
    assert await ping(store_socket) is None, "an orderly end stops the store, adopted or not"


async def test_a_second_serve_is_told_who_holds_the_data_folder(serve: Serve, tmp_path: Path) -> None:
    async with serve() as process:
        second = await asyncio.to_thread(_refused, ["--data-dir", str(tmp_path / "data"), "--port", "0"])
    assert re.search(rf"data folder .* in use by another `visavis serve` \(process {process.pid}\)", second)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--model", "/nowhere"], "Unknown model '/nowhere'"),
        (["--data-dir", "/proc/visavis"], "The data folder /proc/visavis cannot be written"),
        (["--host", "0.0.0.0"], "--allow-public"),
        (["--host", "203.0.113.1", "--allow-public"], "Cannot listen on 203.0.113.1"),
    ],
)
def test_what_stops_a_start_is_one_sentence(flags: list[str], sentence: str) -> None:
    assert sentence in _refused(flags)


def test_a_model_whose_server_is_elsewhere_wants_none_here() -> None:
    elsewhere = load_settings(model_urls={"embedded": "http://model:9000/v1"})
    assert local_models(elsewhere) == []
    assert local_models(load_settings(fallback="embedded", model="http://a/v1#b")) == ["embedded"]


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "visavis"}')
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}')
    assert f"The model file {tmp_path}/one.safetensors is missing" in _refused(
        ["--model", str(tmp_path), "--port", "0"]
    )


def test_a_busy_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert f"Port {port} of 127.0.0.1 is taken" in _refused(["--port", str(port)])


def _refused(flags: list[str]) -> str:
    """What `serve` says on standard error when it ends with exit code 2."""
    done = subprocess.run([*VISAVIS, "serve", *flags], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1
    return done.stderr


async def test_a_store_of_a_later_version_ends_the_start_with_a_sentence(
    store_url: str, model_url: str, tmp_path: Path
) -> None:
    environment = os.environ | {"VISAVIS_MODEL_URL": model_url, "VISAVIS_DATA_DIR": str(tmp_path / "data")}
    command = [*VISAVIS, "serve", "--port", "0", "--redis-url", store_url]
    redis = Redis.from_url(store_url)
    await redis.hset(VERSION, "version", SCHEMA + 1)
    try:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
        _, said = await process.communicate()
        found = await doctor.examine(load_settings(redis_url=store_url))
    finally:
        await redis.delete(VERSION)
        await redis.aclose()
    assert process.returncode == 2 and b"visavis: A newer visavis has kept conversations in this store" in said
    assert [one.verdict for one in found if one.subject == "store" and "newer" in one.detail] == ["missing"]


async def test_a_child_that_never_gets_ready_is_given_up() -> None:
    child = Child("model server", ["/bin/sh", "-c", "exit 3"], {})
    with pytest.raises(ServeError, match="The model server ended with code 3 before it was ready"):
        await child.run()


async def test_a_child_that_says_what_is_wrong_is_not_tried_again(tmp_path: Path) -> None:
    child = Child("model server", ["/bin/sh", "-c", f"echo no >> {tmp_path}/said; exit 1"], {})
    with pytest.raises(ServeError, match="its reason is above"):
        await child.run()
    assert (tmp_path / "said").read_text() == "no\n"


async def test_a_child_that_others_kill_comes_back_however_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.bot.child_process.LONGEST_DELAY_S", 0.05)
    said = tmp_path / "said"
    child = Child("gateway 1", ["/bin/sh", "-c", f"echo here >> {said}; kill -9 $$"], {})
    task = asyncio.create_task(child.run())
    await until(lambda: said.exists() and len(said.read_text().splitlines()) > 4)
    await child.stop(timeout_s=5)
    await task


async def test_a_child_that_will_not_go_is_killed() -> None:
    child = Child("stubborn", ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], dict(os.environ))
    task = asyncio.create_task(child.run())
    await until(lambda: child._process is not None)
    await asyncio.sleep(0.2)
    await child.stop(timeout_s=0.3)
    await task
    assert child._process is not None
    assert child._process.returncode == -signal.SIGKILL


async def test_a_child_leaves_when_its_lifeline_ends() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "visavis.bot.lifeline", "http.server", "--bind", "127.0.0.1", "0"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 1)
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 1
