"""What an engine tells Prometheus: its counters, and how long requests took, under the names that model servers use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from visavis.models.errors import UnknownImage
from visavis.models.generation import Completion, GenerationRequest
from visavis.models.request_trace import RequestTrace, Stage

if TYPE_CHECKING:
    from visavis.models.engine import InferenceEngine
    from visavis.models.transformers_engine import TransformersEngine

LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
OUTCOMES = ("completed", "failed", "cancelled", "rejected")
STEPS = ("encoder_forwards", "fusion_forwards", "decode_steps", "rows_freed")


class _EngineState(Collector):
    """The engine's counters and gauges, read when they are scraped."""

    def __init__(self, engine: InferenceEngine | TransformersEngine, pictures: Mapping[str, int]) -> None:
        self._engine = engine
        self._pictures = pictures

    def collect(self) -> Iterable[Metric]:
        """All families, in a stable order."""
        engine, counts = self._engine, self._engine.counters
        yield GaugeMetricFamily("visavis_requests_waiting", "Questions in the line", value=engine.waiting)
        yield GaugeMetricFamily("visavis_requests_running", "Questions being answered", value=engine.running)
        ended = CounterMetricFamily("visavis_requests", "Questions, by how they ended", labels=["outcome"])
        for outcome in OUTCOMES:
            ended.add_metric([outcome], getattr(counts, outcome))
        yield ended
        for name in STEPS:
            yield CounterMetricFamily(f"visavis_engine_{name}", name.replace("_", " "), value=getattr(counts, name))
        for result in ("hits", "misses"):
            family = CounterMetricFamily(f"visavis_cache_{result}", f"Cache {result} by kind", labels=["kind"])
            family.add_metric(["image_state"], getattr(counts, f"image_{result}"))
            family.add_metric(["picture"], self._pictures[result])
            yield family
        cached = engine.images.cached_bytes
        yield GaugeMetricFamily("visavis_cache_bytes", "Kept of what was computed from pictures", value=cached)


class EngineMetrics:
    """The metrics of one engine behind HTTP.

    Caches have kinds: `image_state` is what the model computed from a picture, `picture` the picture's own bytes, which
    a gateway has to send when they are missing.
    """

    content_type = "text/plain; version=0.0.4"

    def __init__(self, engine: InferenceEngine | TransformersEngine) -> None:
        self._pictures = {"hits": 0, "misses": 0}
        self.registry = CollectorRegistry()
        mine: Any = {"registry": self.registry}
        ProcessCollector(**mine)
        self.registry.register(_EngineState(engine, self._pictures))
        latency: Any = {"buckets": LATENCY_BUCKETS_S, **mine}
        self._queue = Histogram("visavis_request_queue_time_seconds", "From request to its admission", **latency)
        self._first = Histogram("visavis_time_to_first_token_seconds", "From request to the first token", **latency)
        self._whole = Histogram("visavis_request_duration_seconds", "From request to the end of its answer", **latency)
        self._token = Histogram(
            "visavis_time_per_output_token_seconds", "Between two tokens", buckets=TOKEN_BUCKETS_S, **mine
        )
        self._read = Counter("visavis_prompt_tokens", "Tokens of questions and pictures", **mine)
        self._said = Counter("visavis_generation_tokens", "Tokens of answers", **mine)

    @contextlib.contextmanager
    def answering(self, request: GenerationRequest) -> Iterator[Callable[[Completion], None]]:
        """A request, from here on; what is given is to be called with its completion before anybody else sees it."""

        def ended(completion: Completion) -> None:
            request.trace.mark(Stage.ENDED)
            self._pictures["hits"] += request.image is not None
            self._observe(request.trace, completion)

        try:
            yield ended
        except UnknownImage:
            self._pictures["misses"] += 1
            raise

    def _observe(self, trace: RequestTrace, completion: Completion) -> None:
        said = completion.output_tokens
        self._read.inc(completion.input_tokens)
        self._said.inc(said)
        speaking_s = trace.seconds(Stage.FIRST_TOKEN, Stage.ENDED)
        times = (
            (self._queue, trace.seconds(Stage.RECEIVED, Stage.ADMITTED)),
            (self._first, trace.seconds(Stage.RECEIVED, Stage.FIRST_TOKEN)),
            (self._whole, trace.seconds(Stage.RECEIVED, Stage.ENDED)),
            (self._token, speaking_s / (said - 1) if speaking_s is not None and said > 1 else None),
        )
        for histogram, seconds in times:
            if seconds is not None:
                histogram.observe(seconds)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)
