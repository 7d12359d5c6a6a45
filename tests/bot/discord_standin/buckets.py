"""Rate limits as Discord keeps them: a bucket a route and place, one for everything, headers that tell, storms."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

MOST_A_SECOND = 50
UNBOUND = ("callback", "webhook")  # an interaction's routes are not bound to the global limit
IMPATIENCE_S = 0.05  # what two clocks may differ by


@dataclass
class Bucket:
    size: int
    window_s: float
    used: int = 0
    since: float = 0.0
    closed_until: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """Whether a request passes, and what its headers say."""

    headers: dict[str, str]
    retry_after_s: float = 0.0
    scope: str = ""


@dataclass
class Buckets:
    """`sizes` gives a route's limit; others have a wide one. A request within `Retry-After` counts as impatient."""

    sizes: dict[str, tuple[int, float]] = field(
        default_factory=lambda: {"create": (5, 5.0), "edit": (5, 5.0), "webhook": (5, 2.0)}
    )
    refused: int = 0
    impatient: int = 0
    storms: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    _buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    _everything: Bucket = field(default_factory=lambda: Bucket(MOST_A_SECOND, 1.0))
    _unbound: Bucket = field(default_factory=lambda: Bucket(1_000_000, 1.0))

    def storm(self, route: str, times: int, retry_after_s: float, scope: str = "user") -> None:
        """Refuse the next requests of a route whatever its bucket holds."""
        self.storms[route] += [(retry_after_s, scope)] * times

    def take(self, route: str, place: str) -> Verdict:
        """One request to a route at a place (a channel, a webhook's token)."""
        bucket = self._buckets.setdefault((route, place), Bucket(*self.sizes.get(route, (1_000, 1.0))))
        now, everything = time.monotonic(), self._unbound if route in UNBOUND else self._everything
        for one in (bucket, everything):
            if now >= one.since + one.window_s:
                one.since, one.used = now, 0
        if now < max(bucket.closed_until, everything.closed_until) - IMPATIENCE_S:
            self.impatient += 1
        if self.storms[route]:
            return self._refuse(bucket, *self.storms[route].pop(0))
        if everything.used >= everything.size:
            return self._refuse(bucket, everything.since + 1.0 - now, "global")
        if bucket.used >= bucket.size:
            return self._refuse(bucket, bucket.since + bucket.window_s - now, "user")
        bucket.used += 1
        everything.used += 1
        left_s = bucket.since + bucket.window_s - now
        return Verdict({} if route == "callback" else self._headers(route, place, bucket, left_s))

    def _refuse(self, bucket: Bucket, retry_after_s: float, scope: str) -> Verdict:
        self.refused += 1
        closed = self._everything if scope == "global" else bucket
        closed.closed_until = time.monotonic() + retry_after_s
        headers = {"Retry-After": str(max(1, round(retry_after_s))), "X-RateLimit-Scope": scope}
        return Verdict(headers | ({"X-RateLimit-Global": "true"} if scope == "global" else {}), retry_after_s, scope)

    @staticmethod
    def _headers(route: str, place: str, bucket: Bucket, left_s: float) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(bucket.size),
            "X-RateLimit-Remaining": str(bucket.size - bucket.used),
            "X-RateLimit-Reset": f"{time.time() + left_s:.3f}",
            "X-RateLimit-Reset-After": f"{left_s:.3f}",
            "X-RateLimit-Bucket": f"{route}-{bucket.size}",
        }
