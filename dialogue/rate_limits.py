"""How often a person and an address may ask for something: token buckets in this process's memory.

They cost no round trip; with several gateways each counts for itself. Knows no sockets and no commands.
"""

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from visavis.dialogue.errors import RateLimited
from visavis.dialogue.limits import Limits

_MOST_KEYS = 20_000  # the least recent ones are forgotten: their buckets are full again soon


class Action(StrEnum):
    """What is counted apart."""

    TURN = "turn"
    IMAGE = "image"
    REQUEST = "request"


class TokenBuckets:
    """A bucket for each key: holds one minute's worth, fills steadily, and is full at first."""

    def __init__(self, per_minute: int) -> None:
        self._size = float(per_minute)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """0 when there was one to take, else the seconds until there is."""
        now = time.monotonic()
        left, since = self._buckets.pop(key, (self._size, now))
        left = min(self._size, left + (now - since) * self._size / 60)
        wait_s = 0.0 if left >= 1 else (1 - left) * 60 / self._size
        self._buckets[key] = (left if wait_s else left - 1, now)
        while len(self._buckets) > _MOST_KEYS:
            self._buckets.popitem(last=False)
        return wait_s


class RateLimits:
    """What is left for whom. An address (empty: not counted) stands for many people and gets several times as much."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        rates = {
            Action.TURN: limits.turns_per_minute,
            Action.IMAGE: limits.images_per_minute,
            Action.REQUEST: limits.requests_per_minute,
        }
        self._persons = {action: TokenBuckets(rate) for action, rate in rates.items()}
        self._addresses = {action: TokenBuckets(rate * limits.persons_per_address) for action, rate in rates.items()}
        self._sockets: Counter[str] = Counter()

    def take(self, action: Action, name: str, address: str = "") -> None:
        """Count one; `name` is a person's or, of nobody's, the session's. Raises `RateLimited`."""
        wait_s = self._persons[action].take(name) if name else 0.0
        wait_s = max(wait_s, self._addresses[action].take(address) if address else 0.0)
        if wait_s:
            raise RateLimited(
                f"That was too much at a time; please wait {math.ceil(wait_s)} s.", retry_after_s=math.ceil(wait_s)
            )

    @contextmanager
    def socket(self, key: str, most: int) -> Iterator[None]:
        """Count an open socket of an address or a session (`key`, empty: not counted). Raises `RateLimited`."""
        if key and self._sockets[key] >= most:
            raise RateLimited(f"There are {most} connections open already; please close one of them.")
        self._sockets[key] += 1
        try:
            yield
        finally:
            self._sockets[key] -= 1
            if self._sockets[key] <= 0:
                del self._sockets[key]
