"""Traces: one of a question, over a socket, down to its decode steps; in the names of the conventions; no content."""

from collections.abc import Iterator

import pytest
from langchain_core.messages import BaseMessage, HumanMessage
from tiny_checkpoint import drawn_picture, until

from visavis.models.chat_model import VisavisChatModel
from visavis.models.engine import InferenceEngine
from visavis.models.errors import Busy, ModelError
from visavis.models.images import image_id
from visavis.models.tracing import TRACING

sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
attributes = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")

PICTURE = drawn_picture()
SECRET = "what colour is my secret?"


class Pictures:
    async def read(self, sha256: str) -> bytes:
        return PICTURE


@pytest.fixture
def spans() -> Iterator[memory.InMemorySpanExporter]:
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    TRACING.use(provider)
    yield exporter
    TRACING.use(None)


def question() -> list[BaseMessage]:
    picture = {"type": "image", "file_id": image_id(PICTURE)}
    return [HumanMessage(content=[picture, {"type": "text", "text": SECRET}])]


async def test_a_question_is_one_trace_from_who_asks_to_the_decode_steps(
    served: str, spans: memory.InMemorySpanExporter
) -> None:
    model = VisavisChatModel(base_url=served, model_name="tiny", image_source=Pictures(), seed=7)
    with TRACING.turn(0.0, "conversation", 1) as ended:
        answer = await model.ainvoke(question())
        ended({"visavis.outcome": "completed"})
    await until(lambda: any(span.name == "decode" for span in spans.get_finished_spans()))
    await model.aclose()
    found = {span.name: span for span in spans.get_finished_spans() if "error.type" not in span.attributes}
    assert len({span.context.trace_id for span in found.values()}) == 1
    turn, server = found["invoke_agent visavis"], found["chat visavis-embedded"]
    client = found["chat tiny"]
    assert client.parent.span_id == turn.context.span_id
    assert server.parent.span_id == client.context.span_id and server.parent.is_remote
    for phase in ("wait", "encode image", "fuse", "decode"):
        assert found[phase].parent.span_id == server.context.span_id
        assert server.start_time <= found[phase].start_time <= found[phase].end_time <= server.end_time
    assert found["wait"].end_time <= found["decode"].start_time
    assert [event.name for event in found["decode"].events] == ["first token"]
    assert found["decode"].attributes["visavis.decode_steps"] == answer.usage_metadata["output_tokens"]


async def test_spans_have_the_names_of_the_conventions_and_nothing_that_was_said(
    served: str, spans: memory.InMemorySpanExporter
) -> None:
    model = VisavisChatModel(base_url=served, model_name="tiny", image_source=Pictures(), temperature=0.5)
    answer = await model.ainvoke(question())
    await until(lambda: any(span.name == "decode" for span in spans.get_finished_spans()))
    await model.aclose()
    client = next(span for span in spans.get_finished_spans() if span.name == "chat tiny")
    assert client.attributes["gen_ai.operation.name"] == attributes.GenAiOperationNameValues.CHAT.value
    assert client.attributes["gen_ai.request.temperature"] == 0.5
    assert client.attributes["gen_ai.usage.input_tokens"] == answer.usage_metadata["input_tokens"]
    assert client.attributes["gen_ai.response.finish_reasons"] in (("stop",), ("length",))
    known = {value for name, value in vars(attributes).items() if name.startswith("GEN_AI_")}
    known |= {"gen_ai.request.stream"}  # younger than the package of names
    told = {name for span in spans.get_finished_spans() for name in span.attributes if name.startswith("gen_ai.")}
    assert told and told <= known
    everything = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "secret" not in everything and (not answer.text or answer.text not in everything)


async def test_a_refusal_is_told_by_its_code(
    engine: InferenceEngine, spans: memory.InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Busy(4)

    monkeypatch.setattr(engine._line, "append", full)
    model = VisavisChatModel(engine=engine, model_name="tiny", image_source=Pictures())
    with pytest.raises(ModelError):
        await model.ainvoke(question())
    (span,) = spans.get_finished_spans()
    assert span.attributes["error.type"] == "busy"


async def test_without_traces_nothing_is_sent_along(engine: InferenceEngine) -> None:
    seen: list[dict[str, str]] = []
    stream = engine.stream

    def listening(request):  # type: ignore[no-untyped-def]
        seen.append(dict(request.trace.headers))
        return stream(request)

    engine.stream = listening  # type: ignore[method-assign]
    await VisavisChatModel(engine=engine, image_source=Pictures()).ainvoke(question())
    assert seen == [{}, {}], "once without the picture, once with it"
