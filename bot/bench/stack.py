"""The whole of visavis as processes of their own, as `visavis serve` starts them: store, model server, gateways."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from visavis.bot.preparation import prepared
from visavis.bot.settings import Settings, load_settings
from visavis.bot.supervisor import Supervisor

START_TIMEOUT_S = 120.0
PLENTY = 1_000_000


@dataclass(frozen=True)
class RunningStack:
    """The address, and the process above all others."""

    url: str
    supervisor: int


@contextlib.asynccontextmanager
async def running_stack(settings: Settings) -> AsyncIterator[RunningStack]:
    """Start it, say where it is, stop it. Raises RuntimeError if it does not start."""
    with tempfile.TemporaryDirectory(prefix="visavis-bench-") as folder:
        own = settings.model_copy(
            update={
                "host": "127.0.0.1",
                "port": 0,
                "data_dir": Path(folder),
                "redis_url": None,
                "model_url": None,
                **dict.fromkeys(("turns_per_minute", "images_per_minute", "sockets_per_address"), PLENTY),
            }
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "visavis.bot.lifeline", "visavis.bot.bench.stack"),
            env=own.child_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield RunningStack(await asyncio.wait_for(_address(process), START_TIMEOUT_S), process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async for line in process.stdout:
        for word in line.decode().split():
            if word.startswith("http://"):
                return word
    raise RuntimeError("the servers of the benchmark did not start; the reason is above")


def main() -> None:
    """Run the servers until SIGTERM; their settings come from the environment."""
    settings = load_settings()
    with prepared(settings) as listener:
        supervisor = Supervisor(settings, listener, _announce, "visavis.bot.bench.gateway")
        asyncio.run(supervisor.run())


def _announce(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
