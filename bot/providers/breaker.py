"""A circuit breaker: who has failed again and again is left alone for a while, then tried by one caller at a time.

After M. Nygard, Release It! (2007). For one event loop; no locks.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens after `failures` in a row, for `rest_s` seconds."""

    def __init__(self, failures: int, rest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = failures
        self._rest_s = rest_s
        self._clock = clock
        self._failures = 0
        self._closed_at = 0.0

    def wait_s(self) -> float:
        """Seconds until somebody may try; 0 lets the caller try, and of an open circuit only this one."""
        now = self._clock()
        if now < self._closed_at:
            return self._closed_at - now
        if self._failures >= self._most:
            self._closed_at = now + self._rest_s
        return 0.0

    def succeeded(self) -> None:
        """All is well again."""
        self._failures = 0
        self._closed_at = 0.0

    def failed(self, rest_s: float = 0.0) -> None:
        """One more failure; with `rest_s`, as the other side asked to be left alone for so long."""
        self._failures += 1
        rest_s = max(rest_s, self._rest_s if self._failures >= self._most else 0.0)
        self._closed_at = max(self._closed_at, self._clock() + rest_s)
