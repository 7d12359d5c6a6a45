"""What a gateway and a platform's process tell Prometheus: codes and channels, and never who or what."""

import hashlib
import io
import socket
import uuid
from typing import Any

import pytest
from fake_platform import FakePlatform
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from scripted_chat_model import ScriptedChatModel
from starlette.testclient import TestClient

from visavis.bot.adapters import process
from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.platform import Incoming
from visavis.bot.app import create_app
from visavis.bot.conversations import Conversations
from visavis.bot.metrics import Metrics
from visavis.bot.probes import http_get
from visavis.bot.settings import Settings, load_settings
from visavis.dialogue.errors import StoreUnavailable
from visavis.dialogue.store import open_store

HERE, CHAT = "http://127.0.0.1:8080", "ws://127.0.0.1:8080/chat"
LABELS = {"outcome", "reason", "kind", "channel", "le"}


def samples(text: str) -> dict[tuple[str, str], float]:
    """Value by name and first label."""
    families = text_string_to_metric_families(text)
    return {(one.name, next(iter(one.labels.values()), "")): one.value for family in families for one in family.samples}


def ask(client: TestClient, text: str, *, cancels: bool = False) -> str:
    """One turn to its end; the session."""
    with client.websocket_connect(CHAT) as chat:
        chat.send_json({"type": "hello", "version": 1})
        session, turn = str(chat.receive_json()["session"]), str(uuid.uuid4())
        chat.send_json({"type": "turn", "id": turn, "text": text})
        while True:
            frame = chat.receive_json()
            if cancels and frame["type"] == "turn.delta":
                chat.send_json({"type": "cancel", "turn": turn})
                cancels = False
            if frame["type"] in ("turn.completed", "turn.failed", "turn.cancelled"):
                return session


def test_turns_are_counted_by_how_they_end(settings: Settings) -> None:
    model = ScriptedChatModel(pause_s=0.01)
    with TestClient(create_app(settings, chat_model=model), base_url=HERE) as client:
        ask(client, "first")
        model.pause_s = 0.5
        ask(client, "second", cancels=True)
        model.error = RuntimeError("broken")
        ask(client, "third")
        told = samples(client.get("/metrics").text)
    assert [told["visavis_turns_total", end] for end in ("completed", "cancelled", "failed")] == [1, 1, 1]
    assert told["visavis_turn_aborts_total", "cancelled"] == told["visavis_turn_aborts_total", "model_error"] == 1
    assert told["visavis_turn_time_to_first_token_seconds_count", ""] == told["visavis_turn_duration_seconds_count", ""]
    assert told["visavis_turn_time_to_first_token_seconds_count", ""] == 1
    assert told["visavis_turn_time_to_first_token_seconds_sum", ""] >= 0.01
    assert told["visavis_turns_running", ""] == told["visavis_ws_connections", ""] == 0


def test_pictures_are_counted_by_why_they_were_refused_whichever_way_they_came(settings: Settings) -> None:
    with TestClient(create_app(settings, chat_model=ScriptedChatModel()), base_url=HERE) as client:
        session = ask(client, "hello")
        data = io.BytesIO()
        Image.new("RGB", (64, 48), "red").save(data, "PNG")
        for body in (data.getvalue(), b"no picture", b"x" * (settings.max_image_bytes + 1)):
            client.post("/v1/images", content=body, headers={"X-Visavis-Session": session})
        with client.websocket_connect(CHAT) as chat:
            chat.send_json({"type": "hello", "version": 1})
            chat.receive_json()
            announced = {"type": "image", "mime": "image/png", "bytes": settings.max_image_bytes + 1}
            chat.send_json({**announced, "id": str(uuid.uuid4())})
            assert chat.receive_json()["code"] == "image_too_large"
        told = samples(client.get("/metrics").text)
    assert told["visavis_images_stored_total", ""] == 1
    assert told["visavis_image_rejects_total", "bad_image"] == 1
    assert told["visavis_image_rejects_total", "image_too_large"] == 2


def test_nobody_and_nothing_that_was_said_is_a_label(settings: Settings, photo: bytes) -> None:
    with TestClient(create_app(settings, chat_model=ScriptedChatModel()), base_url=HERE) as client:
        session = ask(client, "what about my secret")
        client.post("/v1/images", content=photo, headers={"X-Visavis-Session": session})
        text = client.get("/metrics").text
    for private in (session, hashlib.sha256(photo).hexdigest(), "secret", "scripted"):
        assert private not in text
    families = list(text_string_to_metric_families(text))
    assert {label for family in families for one in family.samples for label in one.labels} <= LABELS
    assert {label for name in Metrics().registry._collector_to_names for label in getattr(name, "_labelnames", ())} <= (
        LABELS
    )


async def test_errors_of_the_store_are_counted_by_kind() -> None:
    before = samples(Metrics().render().decode()).get(("visavis_redis_errors_total", "ConnectionError"), 0)
    store = open_store("redis://127.0.0.1:1")
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await store.aclose()
    assert samples(Metrics().render().decode())["visavis_redis_errors_total", "ConnectionError"] == before + 1


async def test_a_platforms_process_tells_how_soon_it_acknowledges(store_url: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers: list[Any] = []

    class Service:
        def __init__(self, settings: Settings, conversations: Conversations) -> None:
            channel = conversations.store.channel("fake")
            self.adapter = Adapter(FakePlatform(), conversations.manager, channel)

        async def connect(self) -> None:
            id = uuid.uuid4().hex
            await self.adapter.accept(Incoming(id, place=id, person="fake:ann", channel="c", text="help", events=(id,)))
            answers.append(await http_get(("127.0.0.1", port), "/metrics"))
            raise process.SetupError("seen enough")

        async def disconnect(self) -> None: ...

        async def aclose(self) -> None: ...

    settings = load_settings(redis_url=store_url, model_url="http://127.0.0.1:1/v1", metrics_port=port)
    with pytest.raises(process.SetupError):
        await process.serve_platform(settings, Service)
    told = samples(answers[0][1].decode())
    assert told["visavis_channel_ack_seconds_count", "fake"] == 1
