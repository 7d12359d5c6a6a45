"""How often a channel may be written to: one budget for all answers in it, of which the last place is for final texts.

Plain arithmetic on a clock.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from visavis.bot.adapters.platform import Limited

T = TypeVar("T")
_TRIES, _LONGEST_WAIT_S = 4, 60.0
_BURST = 3.0
_MOST_CHANNELS = 2_000


class Pace:
    """A bucket of `_BURST` calls that gains one each `interval_s`. A draft leaves the last one to a final text."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._left, self._since = _BURST, clock()
        self._cold_until = -math.inf

    def take(self, *, final: bool) -> float:
        """0 when a call may be made now (it is counted), else the seconds after which to ask again."""
        now = self._clock()
        self._left = min(_BURST, self._left + max(now - self._since, 0.0) / self._interval_s)
        self._since = now
        wanted = 1.0 if final else 2.0
        wait_s = max(self._cold_until - now, (wanted - self._left) * self._interval_s)
        if wait_s > 1e-6:
            return wait_s
        self._left -= 1.0
        return 0.0

    async def wait(self) -> None:
        """Until a call for a final text may be made; it is counted."""
        wait_s = self.take(final=True)
        while wait_s:
            await asyncio.sleep(wait_s)
            wait_s = self.take(final=True)

    def cool(self, retry_after_s: float) -> None:
        """The platform wants nothing for so long; afterwards calls begin again one by one."""
        self._cold_until = max(self._cold_until, self._clock() + retry_after_s)
        self._left = min(self._left, 1.0)


class Paces:
    """The budgets of all channels; one that was not used for long is full again and may be forgotten."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._channels: OrderedDict[str, Pace] = OrderedDict()

    def of(self, channel: str) -> Pace:
        """The one budget of a channel."""
        pace = self._channels.setdefault(channel, Pace(self._interval_s))
        self._channels.move_to_end(channel)
        while len(self._channels) > _MOST_CHANNELS:
            self._channels.popitem(last=False)
        return pace


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What a call gives, made again when the platform says that it may, unless that is later than people would wait."""
    for _ in range(_TRIES):
        try:
            return await call()
        except Limited as error:
            if error.retry_after_s > _LONGEST_WAIT_S:
                raise
            await asyncio.sleep(error.retry_after_s)
    return await call()
