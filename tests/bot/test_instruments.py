"""A turn is one trace, from the socket over the gateway to the model server; it leads nobody into a conversation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_processes import model_server
from running_gateway import serving
from scripted_engine import ScriptedEngine
from wire_client import WireClient

from visavis.bot.app import create_app
from visavis.bot.gateway import observe
from visavis.bot.instruments import conversation_name
from visavis.bot.settings import load_settings
from visavis.models import tracing
from visavis.models.tracing import TRACING

sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")


@pytest.fixture
def spans() -> Iterator[memory.InMemorySpanExporter]:
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    TRACING.use(provider)
    yield exporter
    TRACING.use(None)


async def test_a_turn_is_one_trace_from_the_socket_to_the_model_server(
    store_url: str, tmp_path: Path, spans: memory.InMemorySpanExporter
) -> None:
    async with model_server(ScriptedEngine(), tmp_path / "m.sock") as model_url:
        settings = load_settings(redis_url=store_url, model_url=model_url, data_dir=tmp_path)
        async with serving(create_app(settings), settings) as url:
            client = WireClient([int(url.rpartition(":")[2])])
            await client.connect()
            completed = await client.ask("what about my secret?")
            await client.close()
    found = {(span.name, span.kind.name): span for span in spans.get_finished_spans()}
    turn = found["invoke_agent visavis", "SERVER"]
    asking, answering = found["chat visavis-embedded", "CLIENT"], found["chat scripted", "SERVER"]
    assert {span.context.trace_id for span in found.values()} == {turn.context.trace_id}
    assert (asking.parent.span_id, answering.parent.span_id) == (turn.context.span_id, asking.context.span_id)
    assert found["queue", "INTERNAL"].start_time == turn.start_time < asking.start_time
    assert turn.attributes["visavis.outcome"] == "completed"
    assert turn.attributes["gen_ai.conversation.id"] == conversation_name(str(client.session))
    everything = "".join(span.to_json() for span in spans.get_finished_spans())
    for private in (str(client.session), completed["text"].strip(), "secret"):
        assert private not in everything


def test_traces_without_their_packages_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> None:
        raise tracing.ModelError(tracing.MISSING)

    monkeypatch.setattr(TRACING, "export", missing)
    with pytest.raises(SystemExit):
        observe(load_settings(traces=True))
    assert "VISAVIS_TRACES: " in (told := capsys.readouterr().err) and "visavis[otel]" in told
