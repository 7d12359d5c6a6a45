"""A process of `visavis serve` that is started again when it ends by itself. Knows nothing of what it does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from dataclasses import dataclass, field

from visavis.bot.preparation import ServeError

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0
STEADY_AFTER_S = 30.0
START_ATTEMPTS = 3
ENDED_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)  # that says nothing of the child
TOLD_WHY = 1  # the exit code of a child that has said what is wrong: trying again would not help
REFUSED = 78  # the exit code (EX_CONFIG) of a platform's process that was not let in, whenever that was


@dataclass
class Child:
    """A process that is started again, later and later, when it ends by itself. One that is not vital may stay away."""

    name: str
    command: list[str]
    environment: dict[str, str]
    pass_fds: tuple[int, ...] = ()
    was_ready: bool = False
    vital: bool = True
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

    async def run(self) -> None:
        """Keep the process alive until `stop`.

        Raises:
            ServeError: when it ends again and again before it was ever ready.
        """
        delay, attempts = FIRST_DELAY_S, 0
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once()
            attempts += code not in ENDED_BY_OTHERS
            if self._stopping.is_set():
                return
            if code == REFUSED and not self.vital:
                log.error("the %s stays away; its reason is above", self.name)
                return
            if code == REFUSED:
                raise ServeError(f"{self.name.capitalize()} does not let visavis in; its reason is above.")
            if self.vital and not self.was_ready and (code == TOLD_WHY or attempts >= START_ATTEMPTS):
                raise ServeError(f"The {self.name} ended with code {code} before it was ready; its reason is above.")
            delay = FIRST_DELAY_S if time.monotonic() - started > STEADY_AFTER_S else min(2 * delay, LONGEST_DELAY_S)
            log.error("the %s ended with code %s; it starts again in %.1f s", self.name, code, delay)
            await asyncio.sleep(delay)

    async def _run_once(self) -> int:
        """In a session of its own, so that Ctrl-C reaches the supervisor alone; standard input is its lifeline."""
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            pass_fds=self.pass_fds,
            start_new_session=True,
        )
        try:
            return await self._process.wait()
        finally:
            self._kill()

    async def stop(self, timeout_s: float) -> None:
        """Ask the process to finish its work, and end it after `timeout_s`."""
        self._stopping.set()
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), timeout_s)
        self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
