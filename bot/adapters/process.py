"""The process of one platform: conversations of its own on the shared store, an adapter, a connection; and its end.

On SIGTERM nothing more is received, running answers finish or are handed over, and then the process ends. A platform
that is out of reach is tried again and again; one that refuses the tokens ends the process with a sentence.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from typing import Protocol

from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.platform import Limited, PlatformError
from visavis.bot.conversations import Conversations
from visavis.bot.gateway import log_at
from visavis.bot.settings import Settings, load_settings

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
REFUSED = 78  # EX_CONFIG: starting again would not help, and a crash does not end like that


class SetupError(RuntimeError):
    """The platform does not let this app in; the message is one sentence of what to change."""


class Service(Protocol):
    """A platform's connection."""

    adapter: Adapter

    async def connect(self) -> None:
        """Begin to receive; raises `SetupError`, or `PlatformError` when it is worth trying again."""
        ...

    async def disconnect(self) -> None:
        """Receive nothing more; answers can still be shown."""
        ...

    async def aclose(self) -> None:
        """Let go of everything."""
        ...


MakeService = Callable[[Settings, Conversations], Service]


async def run_service(service: Service, conversations: Conversations, stop: asyncio.Event, drain_s: float) -> None:
    """Serve until `stop` is set, then drain; raises `SetupError`."""
    async with conversations:
        try:
            async with service.adapter:
                if await _connected(service, stop):
                    await stop.wait()
                    await service.disconnect()
                    await service.adapter.drain(drain_s)
        finally:
            await service.aclose()


async def _connected(service: Service, stop: asyncio.Event) -> bool:
    """Once the platform lets us in; False when it is time to end."""
    pause_s = _FIRST_PAUSE_S
    while not stop.is_set():
        try:
            await service.connect()
            return True
        except PlatformError as error:
            pause_s = max(pause_s, error.retry_after_s) if isinstance(error, Limited) else pause_s
            log.warning("%s; it is tried again in %.0f s", error, pause_s)
        try:
            await asyncio.wait_for(stop.wait(), pause_s)
        except TimeoutError:
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return False


async def serve_platform(settings: Settings, make: MakeService) -> None:
    """Until SIGTERM or SIGINT; raises `SetupError`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    conversations = Conversations(settings)
    await run_service(make(settings, conversations), conversations, stop, settings.drain_s)


def main(make: MakeService) -> None:
    """Entry of the process that the supervisor starts."""
    settings = load_settings()
    log_at(settings.log_level)
    try:
        asyncio.run(serve_platform(settings, make))
    except SetupError as error:
        print(f"visavis: {error}", file=sys.stderr)
        raise SystemExit(REFUSED) from None
