"""The process of one platform: conversations of its own on the shared store, an adapter, a connection; and its end.

On SIGTERM nothing more is received, running answers finish or are handed over, and then the process ends. A platform
that is out of reach is tried again and again; one that refuses the tokens ends the process with a sentence.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from urllib.parse import urlsplit

from prometheus_client import start_http_server

from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.platform import Limited, PlatformError
from visavis.bot.conversations import Conversations, refuse_newer_store
from visavis.bot.gateway import observe
from visavis.bot.settings import Settings, is_loopback, load_settings
from visavis.models.tracing import TRACING

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
LEAVE_S = 3.0  # for saying goodbye to a platform that may not answer
REFUSED = 78  # EX_CONFIG: starting again would not help, and a crash does not end like that


class SetupError(RuntimeError):
    """The platform does not let this app in; the message is one sentence of what to change."""


def keeps_tokens(url: str) -> bool:
    """Whether tokens may be sent there: it is encrypted, or on this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (parts.scheme in ("https", "wss") or is_loopback(parts.hostname or ""))


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
                    await _within(LEAVE_S, service.disconnect())
                    await service.adapter.drain(drain_s)
        finally:
            await _within(LEAVE_S, service.aclose())


async def _within(limit_s: float, step: Coroutine[Any, Any, None]) -> None:
    """Do it, or leave it: the process ends anyway."""
    try:
        async with asyncio.timeout(limit_s):
            await step
    except TimeoutError:
        log.warning("the platform does not answer; its connection is left behind")


async def _connected(service: Service, stop: asyncio.Event) -> bool:
    """Once the platform lets us in; False when it is time to end."""
    pause_s = _FIRST_PAUSE_S
    while not stop.is_set():
        try:
            return await _unless(stop, service.connect())
        except PlatformError as error:
            pause_s = max(pause_s, error.retry_after_s) if isinstance(error, Limited) else pause_s
            log.warning("%s; it is tried again in %.0f s", error, pause_s)
        try:
            await asyncio.wait_for(stop.wait(), pause_s)
        except TimeoutError:
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return False


async def _unless(stop: asyncio.Event, step: Coroutine[Any, Any, None]) -> bool:
    """Do it; False when it was time to end before it was done."""
    doing, stopping = asyncio.create_task(step), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([doing, stopping], return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            await doing
        return doing.done()
    finally:
        for task in (doing, stopping):
            task.cancel()
        await asyncio.wait([doing, stopping], timeout=LEAVE_S)


async def serve_platform(settings: Settings, make: MakeService) -> None:
    """Until SIGTERM or SIGINT; raises `SetupError`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    conversations = Conversations(settings)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.host, registry=conversations.metrics.registry)
    await run_service(make(settings, conversations), conversations, stop, settings.drain_s)
    TRACING.end()


def main(make: MakeService) -> None:
    """Entry of the process that the supervisor starts."""
    settings = load_settings()
    observe(settings)
    asyncio.run(refuse_newer_store(settings))
    try:
        asyncio.run(serve_platform(settings, make))
    except SetupError as error:
        print(f"visavis: {error}", file=sys.stderr)
        raise SystemExit(REFUSED) from None
