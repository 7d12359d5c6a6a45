"""The pretended Discord on a port of this machine, for as long as a test wants it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from discord_standin.gateway import Gateway
from discord_standin.people import People
from discord_standin.platform import Platform
from discord_standin.rest import API, Rest


@dataclass(frozen=True)
class Discord:
    """All parts of it."""

    platform: Platform
    gateway: Gateway
    rest: Rest
    people: People

    @property
    def api(self) -> str:
        """The address that takes the place of https://discord.com/api/v10."""
        return self.platform.url + API


@contextlib.asynccontextmanager
async def running_discord(platform: Platform | None = None) -> AsyncIterator[Discord]:
    platform = platform or Platform()
    gateway = Gateway(platform)
    rest = Rest(platform, gateway)
    runner = web.AppRunner(rest.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        platform.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield Discord(platform, gateway, rest, People(platform))
    finally:
        for connection in list(gateway.connections):
            await connection.close(1001)
        await runner.cleanup()
