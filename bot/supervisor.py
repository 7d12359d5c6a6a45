"""`visavis serve`: one store, one model server and the gateways as processes of one machine.

Starts them together, says when the page is there, starts again what dies, and drains in order (gateways, model server,
store). Knows nothing of dialogues or tensors; children read the same settings from their environment.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from visavis.bot.chat_models import model_place, named_models, remote, shown_name, told_at_start
from visavis.bot.child_process import FIRST_DELAY_S, LONGEST_DELAY_S, Child
from visavis.bot.embedded_store import EmbeddedStore, StoreError, find_engine
from visavis.bot.preparation import ServeError, socket_folder
from visavis.bot.probes import Address, http_get
from visavis.bot.settings import EMBEDDED, Settings

log = logging.getLogger(__name__)

GATEWAY = "visavis.bot.gateway"
PLATFORM_LIBRARIES = {"slack": "slack_bolt", "discord": "discord"}
STORE_WATCH_S = 0.25
LICENCE_NOTE = "The embedded model's weights may be used for research only (models/weights/LICENSE-WEIGHTS)."


def gateway_child(settings: Settings, number: int, listener: socket.socket, module: str = GATEWAY) -> Child:
    """A gateway that accepts from the listening socket it inherits."""
    descriptor = listener.fileno()
    command = _module(module, "--fd", str(descriptor))
    return Child(f"gateway {number}", command, settings.child_environment(), pass_fds=(descriptor,))


def platform_child(settings: Settings, name: str, number: int, *, vital: bool) -> Child:
    """The process of a chat platform; each tells its metrics on a port of its own, if it does."""
    port = settings.metrics_port and settings.metrics_port + number
    environment = settings.model_copy(update={"metrics_port": port}).child_environment()
    return Child(name, _module(f"visavis.bot.{name}.process"), environment, vital=vital)


def wanted_platforms(settings: Settings) -> list[str]:
    """Those whose tokens are there, unless a library is missing, of which a sentence is logged."""
    tokens = {"slack": settings.slack_bot_token, "discord": settings.discord_token}
    wanted = [name for name, token in tokens.items() if token]
    missing = [name for name in wanted if importlib.util.find_spec(PLATFORM_LIBRARIES[name]) is None]
    for name in missing:
        log.error("the %s stays away: its library is not installed; pip install 'visavis[%s]'", name, name)
    return [name for name in wanted if name not in missing]


def model_server_child(settings: Settings, name: str, socket_path: Path) -> Child:
    """The process of a model's engine. Spinning threads would starve the gateway beside it, hence the wait policy."""
    options = ["--model", model_place(name), "--name", shown_name(name)]
    options += ["--uds", str(socket_path), "--device", settings.device, "--precision", settings.precision]
    options += [] if settings.compiled else ["--no-compile"]
    options += ["--threads", str(settings.threads)] if settings.threads else []
    options += ["--log-level", settings.log_level, "--log-format", settings.log_format]
    options += ["--traces"] if settings.traces else []
    environment = settings.child_environment(OMP_WAIT_POLICY="PASSIVE")
    return Child(f"model server of {shown_name(name)}", _module("visavis.models.model_server", *options), environment)


def local_models(settings: Settings) -> list[str]:
    """Those that want a model server here: ours that no address is given for."""
    return [name for name in named_models(settings) if remote(name) is None and settings.model_address(name) is None]


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "visavis.bot.lifeline", name, *arguments]


class Supervisor:
    """The processes of one `visavis serve`; `gateway_module` is what runs as a gateway.

    With `platform`, those of a platform by itself: no gateway, and no `listener`.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket | None,
        announce: Callable[[str], None],
        gateway_module: str = GATEWAY,
        platform: str = "",
    ) -> None:
        self._listener = listener
        self._announce = announce
        self._stop = asyncio.Event()
        sockets = socket_folder(settings.data_dir)
        self._store = _embedded_store(settings, sockets)
        self._models = {name: sockets / f"model-{number}.sock" for number, name in enumerate(local_models(settings))}
        model_servers = [model_server_child(settings, name, place) for name, place in self._models.items()]
        self._told = told_at_start(settings)
        self._settings = settings.model_copy(
            update={
                "port": listener.getsockname()[1] if listener else settings.port,
                "redis_url": self._store.url if self._store else settings.redis_url,
                "model_urls": settings.model_urls | {name: f"unix://{place}" for name, place in self._models.items()},
            }
        )
        numbers = range(1, settings.gateways + 1)
        self._gateways = [
            gateway_child(self._settings, number, listener, gateway_module) for number in numbers if listener
        ]
        self._model_servers = model_servers
        names = [platform] if platform else wanted_platforms(settings)
        self._platforms = [
            platform_child(self._settings, name, number, vital=bool(platform)) for number, name in enumerate(names)
        ]
        self._stages = [[*self._gateways, *self._platforms], model_servers]

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP, then drain.

        Raises:
            ServeError, StoreError: when a part cannot be started.
        """
        self._listen_to_signals()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(child.run()) for stage in self._stages for child in stage]
                tasks += [group.create_task(self._run_store()), group.create_task(self._announce_when_ready())]
                await self._stop.wait()
                await self._drain()
                for task in tasks:
                    task.cancel()
        except* (ServeError, StoreError) as failures:
            raise failures.exceptions[0] from None
        finally:
            if self._store is not None:
                await self._store.stop()

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    async def _drain(self) -> None:
        """Nobody new comes in, then turns end, then the engine, then (in `run`) what remembers them."""
        if self._listener:
            self._listener.close()
        for stage in self._stages:
            await asyncio.gather(*(child.stop(self._settings.drain_s + 5) for child in stage))

    async def _run_store(self) -> None:
        if self._store is None:
            return
        await self._store.start()
        delay = FIRST_DELAY_S
        while True:
            await asyncio.sleep(STORE_WATCH_S)
            if not await self._store.is_alive():
                log.error("the store ended; it starts again")
                try:
                    await self._store.start()
                    delay = FIRST_DELAY_S
                except StoreError as error:
                    log.error("%s", error)
                    delay = min(2 * delay, LONGEST_DELAY_S)
                    await asyncio.sleep(delay)

    async def _announce_when_ready(self) -> None:
        gateways = self._gateways
        host = "127.0.0.1" if self._settings.host in ("0.0.0.0", "::") else self._settings.host
        if gateways:
            await _until_ok((host, self._settings.port), "/healthz", gateways)
        for address, server in zip(self._models.values(), self._model_servers, strict=True):
            await _until_ok(address, "/healthz", [server])
        for platform in self._platforms:
            platform.was_ready = True
        if not gateways:
            return self._tell(f"visavis is ready for {self._platforms[0].name.capitalize()}  (Ctrl-C stops it)")
        async with asyncio.TaskGroup() as group:
            complaint = group.create_task(self._complain_of_the_store((host, self._settings.port)))
            await _until_ok((host, self._settings.port), "/readyz", gateways)
            complaint.cancel()
        self._tell(f"visavis is ready: {self._settings.url}  (Ctrl-C stops it)")

    def _tell(self, ready: str) -> None:
        self._announce(ready)
        for line in [*self._told, *([LICENCE_NOTE] if EMBEDDED in self._models else [])]:
            self._announce(line)

    async def _complain_of_the_store(self, gateway: Address) -> None:
        """Say once that a store of somebody else's does not answer; the gateways go on trying."""
        if self._store is not None:
            return
        answer = await http_get(gateway, "/readyz", timeout_s=30)
        if answer is not None and b'"store":false' in answer[1]:
            place = (self._settings.redis_url or "").rpartition("@")[2].removeprefix("redis://")
            log.error("The store at %s does not answer; visavis waits for it and goes on trying.", place)


def _embedded_store(settings: Settings, sockets: Path) -> EmbeddedStore | None:
    if settings.redis_url is not None:
        return None
    return EmbeddedStore(find_engine(), settings.data_dir, sockets / "store.sock")


async def _until_ok(address: Address, path: str, children: list[Child]) -> None:
    while True:
        answer = await http_get(address, path)
        if answer is not None and answer[0] == 200:
            break
        await asyncio.sleep(0.05)
    for child in children:
        child.was_ready = True
