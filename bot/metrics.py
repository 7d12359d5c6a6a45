"""Prometheus metrics of one process that holds conversations: a gateway, or a chat platform's.

Labels are codes and names of channels, never ids of people, sessions, turns or pictures.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from visavis.dialogue.claims import Claim
from visavis.dialogue.events import FinalEvent, TurnCompleted, TurnFailed
from visavis.dialogue.store_client import ERRORS as STORE_ERRORS

FIRST_TOKEN_BUCKETS_S = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
ACK_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)  # platforms want it within three seconds
LOST = "lost"  # the attempt ended without an end: another process goes on with the turn


class StoreErrors(Collector):
    """What the store's client has counted, read when it is scraped."""

    def collect(self) -> Iterable[Metric]:
        """One family, a sample for each kind of error."""
        family = CounterMetricFamily("visavis_redis_errors", "Calls of the store that failed", labels=["kind"])
        for kind, count in STORE_ERRORS.items():
            family.add_metric([kind], count)
        yield family


class Metrics:
    """A registry of its own, so that several apps can live in one process. It is an `Observer` of the dialogue."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        mine: Any = {"registry": self.registry}
        ProcessCollector(**mine)
        self.registry.register(StoreErrors())
        self.ws_connections = Gauge("visavis_ws_connections", "Open chat sockets", **mine)
        self._running = Gauge("visavis_turns_running", "Turns that this process is answering", **mine)
        self._turns = Counter("visavis_turns", "Turns that have ended here, by outcome", ["outcome"], **mine)
        self._aborts = Counter("visavis_turn_aborts", "Turns without a whole answer, by reason", ["reason"], **mine)
        self._first_token = Histogram(
            "visavis_turn_time_to_first_token_seconds",
            "From acceptance to the first words",
            buckets=FIRST_TOKEN_BUCKETS_S,
            **mine,
        )
        self._queue = Histogram(
            "visavis_turn_queue_time_seconds", "From acceptance to start", buckets=FIRST_TOKEN_BUCKETS_S, **mine
        )
        self._duration = Histogram("visavis_turn_duration_seconds", "From acceptance to the end of the answer", **mine)
        self._stored = Counter("visavis_images_stored", "Pictures taken in", **mine)
        self._rejects = Counter("visavis_image_rejects", "Pictures refused, by error code", ["reason"], **mine)
        self._acks = Histogram(
            "visavis_channel_ack_seconds",
            "From a platform's event to its acknowledgement",
            ["channel"],
            buckets=ACK_BUCKETS_S,
            **mine,
        )

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    @contextlib.contextmanager
    def turn(self, claim: Claim) -> Iterator[Callable[[FinalEvent], None]]:
        """As in `Observer`."""
        finals: list[FinalEvent] = []
        try:
            with self._running.track_inprogress():
                yield finals.append
        finally:
            if finals:
                self._count(finals[-1])
            else:
                self._aborts.labels(LOST).inc()

    def image_stored(self) -> None:
        """As in `Observer`."""
        self._stored.inc()

    def image_refused(self, code: str) -> None:
        """As in `Observer`."""
        self._rejects.labels(str(code)).inc()

    @contextlib.contextmanager
    def acknowledging(self, channel: str) -> Iterator[None]:
        """As in `Observer`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._acks.labels(channel).observe(time.perf_counter() - started)

    def _count(self, final: FinalEvent) -> None:
        outcome = str(final.name).removeprefix("turn.")
        self._turns.labels(outcome).inc()
        if isinstance(final, TurnCompleted):
            timings = final.timings
            self._queue.observe(timings.queue_ms / 1000)
            self._first_token.observe((timings.queue_ms + timings.first_ms) / 1000)
            self._duration.observe(timings.total_ms / 1000)
        else:
            self._aborts.labels(final.code if isinstance(final, TurnFailed) else outcome).inc()
