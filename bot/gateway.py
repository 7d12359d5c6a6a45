"""The process of one gateway: a Starlette app under uvicorn on a socket it inherits.

    python -m visavis.bot.gateway --fd N

Holds the settings of the server and how it ends: on SIGTERM no new turn begins, running ones finish, and only then does
uvicorn close the sockets (by itself it would send 1012 to every one of them first). Knows no routes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from visavis.bot.app import create_app, gateway_of
from visavis.bot.conversations import refuse_newer_store
from visavis.bot.server_protocols import PunctualHttp, WholesaleSockets
from visavis.bot.settings import Settings, load_settings
from visavis.models.errors import ModelError
from visavis.models.log_lines import log_to_stderr
from visavis.models.tracing import TRACING

CLOSE_TIMEOUT_S = 5


class GatewayServer(uvicorn.Server):
    """uvicorn without signal handlers of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to `run_gateway`."""
        yield


def server_config(app: Starlette, settings: Settings) -> uvicorn.Config:
    """No compression (it costs an idle socket 40 KiB), few queued frames (each may be a picture), no access log
    (addresses of pictures carry session ids)."""
    return uvicorn.Config(
        app,
        http=PunctualHttp,
        ws=WholesaleSockets,
        ws_per_message_deflate=False,
        ws_max_size=2 * max(settings.max_image_bytes, settings.max_frame_bytes),
        ws_max_queue=4,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=CLOSE_TIMEOUT_S,
        lifespan="on",
    )


async def run_gateway(app: Starlette, settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then drain for at most `settings.drain_s`."""
    server = GatewayServer(server_config(app, settings))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def drain_when_told() -> None:
        await stop.wait()
        await gateway_of(app).drain(settings.drain_s)
        server.should_exit = True

    drain = asyncio.create_task(drain_when_told())
    try:
        await server.serve(sockets=[listener])
    finally:
        drain.cancel()


TALKATIVE = (
    *("openai", "anthropic", "google", "google_genai", "ollama", "httpx", "httpcore"),
    *("slack_bolt", "slack_sdk", "aiohttp", "discord"),
)
"""Loggers of libraries that write down requests at `debug`."""
CLIENTS_FAULTS = ("without completing handshake", "Invalid UTF-8 sequence")
"""Words of uvicorn's complaints about a handshake that it has refused, and a frame that is no text."""


def observe(settings: Settings) -> None:
    """Log, and send traces if they are wanted; ends the process with a sentence when what that needs is missing."""
    log_at(settings.log_level, settings.log_format)
    if settings.traces:
        try:
            TRACING.export("visavis")
        except ModelError as error:
            print(f"visavis: VISAVIS_TRACES: {error}", file=sys.stderr)
            raise SystemExit(1) from None


def log_at(level: str, form: str = "text") -> None:
    """Log to standard error, but never what people say: at `debug`, uvicorn would write down every frame, and
    clients of other people's models every request. uvicorn also complains of what is a client's fault alone."""
    log_to_stderr(level, form)
    server = logging.getLogger("uvicorn.error")
    server.setLevel(max(server.getEffectiveLevel(), logging.INFO))
    for talkative in TALKATIVE:
        logging.getLogger(talkative).setLevel(logging.WARNING)
    server.addFilter(lambda record: not any(fault in record.getMessage() for fault in CLIENTS_FAULTS))


def main(make_app: Callable[[Settings], Starlette] = create_app) -> None:
    """Entry of the process that the supervisor starts."""
    parser = argparse.ArgumentParser(prog="visavis gateway", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a listening socket")
    descriptor = parser.parse_args().fd
    settings = load_settings()
    observe(settings)
    asyncio.run(refuse_newer_store(settings))
    app = make_app(settings)
    gc.freeze()  # what was imported stays: to look through it for garbage would stop everybody for a fifth of a second
    with socket.socket(fileno=descriptor) as listener:
        asyncio.run(run_gateway(app, settings, listener))
    TRACING.end()


if __name__ == "__main__":
    main()
