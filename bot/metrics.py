"""Prometheus metrics of one gateway. Labels are codes and never ids of people, sessions or pictures."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest


class GatewayMetrics:
    """A registry of its own, so that several apps can live in one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, running_turns: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.connections = Gauge("visavis_connections", "Open chat sockets", registry=self._registry)
        self.images_stored = Counter("visavis_images_stored", "Pictures taken in over HTTP", registry=self._registry)
        self.images_rejected = Counter(
            "visavis_images_rejected", "Pictures refused over HTTP, by error code", ["code"], registry=self._registry
        )
        running = Gauge("visavis_turns_running", "Turns that this gateway is answering", registry=self._registry)
        running.set_function(running_turns)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)
