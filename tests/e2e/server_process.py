"""A real `visavis serve` as a test sees it: start, wait, restart, kill a part. Knows nothing of what is asked of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

START_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 40.0
PASSED_ON = ("VISAVIS_MODEL", "VISAVIS_DEVICE", "VISAVIS_THREADS")
PROCESSES = {"gateway": "visavis.bot.gateway", "model server": "visavis.models.model_server"}


@dataclass
class Server:
    """One `visavis serve`, with `settings` by variable; `restart` and `kill` are what happens to it in real life."""

    data_dir: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the processes have written so far."""
        return self._log_file.read_text(errors="replace")

    @property
    def _log_file(self) -> Path:
        return self.data_dir.with_suffix(".log")

    def start(self) -> None:
        """Start and wait until a turn could be answered."""
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith("VISAVIS_") or k in PASSED_ON
        } | self.settings
        run = "from visavis.bot.cli import main; main()"
        command = [sys.executable, "-c", run, "serve", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        with open(self._log_file, "ab") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        self.wait_until_ready()

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                pytest.fail(f"visavis serve {'ended' if ended else 'is not ready'}:\n{self.log[-4000:]}")
            time.sleep(0.1)

    def is_ready(self) -> bool:
        with suppress(URLError, OSError), urlopen(f"{self.base_url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the supervisor and wait for its end; children follow by themselves."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self.process = None

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop, with SIGKILL as by the kernel, and start again on the same port and data."""
        self.stop(number)
        self.start()

    def pid_of(self, name: str) -> int | None:
        """The process id of a part ("gateway", "model server", "store") of this server."""
        assert self.process is not None
        if name == "store":  # may be adopted, and is then nobody's child
            return int((self.data_dir / "store" / "store.pid").read_text())
        listing = ["ps", "-axwwo", "pid=,ppid=,command="]
        for line in subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines():
            pid, parent, command = line.split(maxsplit=2)
            if int(parent) == self.process.pid and PROCESSES[name] in command:
                return int(pid)
        return None

    def kill(self, name: str) -> int:
        """`kill -9` a part, in the middle of whatever it does; the supervisor starts it again. Returns the old id."""
        pid = self.pid_of(name)
        assert pid is not None, f"no {name} is running"
        os.kill(pid, signal.SIGKILL)
        return pid


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
