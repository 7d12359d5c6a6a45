"""Gateways as processes of their own on one store and one scripted model server, to be killed by a test."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import uvicorn
from scripted_engine import ScriptedEngine

from visavis.bot.gateway import GatewayServer
from visavis.bot.probes import Address, http_get
from visavis.models.model_server import create_app

PATIENCE_S = 60
GATEWAY = (sys.executable, "-m", "visavis.bot.gateway")


async def until_healthy(address: Address) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await http_get(address, "/healthz")
            if answer is not None and answer[0] == 200:
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def model_server(engine: ScriptedEngine, path: Path) -> AsyncIterator[str]:
    """The real HTTP face of the model server in this event loop, in front of an engine that says what a test wants."""
    server = GatewayServer(uvicorn.Config(create_app(engine), uds=str(path), log_config=None, lifespan="off"))  # type: ignore[arg-type]
    task = asyncio.create_task(server.serve())
    await until_healthy(path)
    try:
        yield f"unix://{path}"
    finally:
        server.should_exit = True
        await task


class GatewayProcess:
    """One gateway on a port that stays the same over its lives."""

    def __init__(self, environment: dict[str, str], command: Sequence[str] = GATEWAY) -> None:
        self._command = command
        self._environment = os.environ | environment
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        descriptor = self._listener.fileno()
        command = (*self._command, "--fd", str(descriptor))
        self.process = await asyncio.create_subprocess_exec(
            *command, env=self._environment, pass_fds=(descriptor,), start_new_session=True
        )

    def resident_kib(self) -> int:
        """Memory of the process that is in use now (Linux)."""
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def descriptors(self) -> int:
        """Open files and sockets (Linux)."""
        assert self.process is not None
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return await self.process.wait()

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.kill()
        self._listener.close()


@contextlib.asynccontextmanager
async def gateways(count: int, environment: dict[str, str]) -> AsyncIterator[list[GatewayProcess]]:
    started = [GatewayProcess(environment) for _ in range(count)]
    try:
        for gateway in started:
            await gateway.start()
        for gateway in started:
            await until_healthy(("127.0.0.1", gateway.port))
        yield started
    finally:
        for gateway in started:
            await gateway.stop()
