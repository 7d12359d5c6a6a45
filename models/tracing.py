"""Traces by OpenTelemetry, off until `export` or `use`. The one file that knows names of its GenAI conventions
(semantic-conventions-genai, "development": they may change). No span carries what people or models say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from visavis.models.errors import ModelError
from visavis.models.generation import Completion, GenerationRequest
from visavis.models.request_trace import RequestTrace, Stage

PROVIDER = "visavis"
PHASES = (
    ("wait", Stage.RECEIVED, Stage.ADMITTED),
    ("encode image", Stage.ENCODING, Stage.ENCODED),
    ("fuse", Stage.ADMITTED, Stage.FUSED),
    ("decode", Stage.FUSED, Stage.ENDED),
)
MISSING = "traces want packages that are not installed: pip install 'visavis[otel]'"


class Tracing:
    """The traces of this process. Every method may be called while it is off; then nothing is done."""

    def __init__(self) -> None:
        self._provider: Any = None
        self._tracer: Any = None

    def export(self, service: str) -> None:
        """Send spans by OTLP over HTTP to where the variables of OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT) say.

        Raises:
            ModelError: its packages are not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise ModelError(MISSING) from error
        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.use(provider)

    def use(self, provider: Any) -> None:
        """Make spans by this provider of OpenTelemetry; None turns traces off."""
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("visavis")

    def end(self) -> None:
        """Send what was not sent yet; for processes that leave without the interpreter's own end."""
        if self._provider is not None:
            self._provider.shutdown()

    @contextlib.contextmanager
    def turn(self, start_s: float, conversation: str, attempt: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """One attempt at a turn that came at `start_s` (epoch); what is given takes further attributes of its end.
        Spans that begin inside, in the same task or in tasks of it, are its children."""
        if self._tracer is None:
            yield lambda attributes: None
            return
        from opentelemetry import trace

        known = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": PROVIDER}
        known |= {"gen_ai.conversation.id": conversation, "visavis.attempt": str(attempt)}
        start_ns = round(start_s * 1e9)
        span = self._tracer.start_span(
            f"invoke_agent {PROVIDER}", kind=trace.SpanKind.SERVER, start_time=start_ns, attributes=known
        )
        with trace.use_span(span, end_on_exit=True, record_exception=False):
            self._tracer.start_span("queue", start_time=start_ns).end()
            yield span.set_attributes

    @contextlib.contextmanager
    def asking(self, request: GenerationRequest, model: str) -> Iterator[Callable[[Completion], None]]:
        """A question to an engine, as who asks it sees it. The request's trace gets what carries it to another process.
        It is no current span: a generator may be closed from anywhere."""
        if self._tracer is None:
            yield lambda completion: None
            return
        from opentelemetry import propagate, trace

        attributes = _asked(request, model)
        span = self._tracer.start_span(f"chat {model}", kind=trace.SpanKind.CLIENT, attributes=attributes)
        propagate.inject(request.trace.headers, trace.set_span_in_context(span))
        try:
            yield lambda completion: span.set_attributes(_answered(completion, model))
        except Exception as error:
            span.set_attribute("error.type", _kind(error))
            raise
        finally:
            span.end()

    @contextlib.contextmanager
    def serving(self, request: GenerationRequest, model: str) -> Iterator[Callable[[Completion], None]]:
        """A question as the engine's process sees it: spans are made at its end, from the stages that it reached."""
        attributes = {} if self._tracer is None else _asked(request, model)
        try:
            yield lambda completion: attributes.update(_answered(completion, model))
        except Exception as error:
            attributes["error.type"] = _kind(error)
            raise
        finally:
            request.trace.mark(Stage.ENDED)
            if self._tracer is not None:
                self._record(request.trace, f"chat {model}", attributes)

    def _record(self, passed: RequestTrace, name: str, attributes: Mapping[str, Any]) -> None:
        from opentelemetry import propagate, trace

        reached, caller = passed.reached, propagate.extract(passed.headers)
        start = {"start_time": reached.get(Stage.RECEIVED), "attributes": attributes}
        whole = self._tracer.start_span(name, caller, trace.SpanKind.SERVER, **start)
        inside = trace.set_span_in_context(whole)
        for phase, begin, end in PHASES:
            if begin in reached and end in reached:
                span = self._tracer.start_span(phase, inside, start_time=reached[begin])
                if phase == "decode" and Stage.FIRST_TOKEN in reached:
                    span.add_event("first token", timestamp=reached[Stage.FIRST_TOKEN])
                    span.set_attribute("visavis.decode_steps", attributes.get("gen_ai.usage.output_tokens", 0))
                span.end(reached[end])
        whole.end(reached[Stage.ENDED])


TRACING = Tracing()


def _asked(request: GenerationRequest, model: str) -> dict[str, Any]:
    sampling = request.sampling
    known = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.max_tokens": sampling.max_new_tokens,
    }
    return {name: value for name, value in known.items() if value is not None}


def _answered(completion: Completion, model: str) -> dict[str, Any]:
    return {
        "gen_ai.response.model": model,
        "gen_ai.response.finish_reasons": [completion.finish_reason.value],
        "gen_ai.usage.input_tokens": completion.input_tokens,
        "gen_ai.usage.output_tokens": completion.output_tokens,
    }


def _kind(error: Exception) -> str:
    """A code of ours or the name of a class, never a message: those may quote what people say."""
    return str(getattr(error, "code", type(error).__name__))
