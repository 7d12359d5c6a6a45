"""The HTTP side of a gateway: page, pictures, health, headers, refusals; on a real store with a fake model."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from scripted_chat_model import ScriptedChatModel
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from visavis.bot.app import create_app, gateway_of
from visavis.bot.settings import Settings, load_settings

HERE = "http://127.0.0.1:8080"
CHAT = "ws://127.0.0.1:8080/chat"


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings, chat_model=ScriptedChatModel()), base_url=HERE) as client:
        yield client


@pytest.fixture
def session(client: TestClient) -> str:
    return new_session(client)


def new_session(client: TestClient) -> str:
    with client.websocket_connect(CHAT) as socket:
        socket.send_text(json.dumps({"type": "hello", "version": 1}))
        return str(socket.receive_json()["session"])


def upload(client: TestClient, session: str, data: bytes) -> Any:
    return client.post("/v1/images", content=data, headers={"X-Visavis-Session": session, "Content-Type": "image/png"})


def test_the_page_and_its_modules_come_with_strict_headers(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    script = client.get("/widget.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/widget.css").headers["content-type"] == "text/css; charset=utf-8"
    assert client.get("/example-cat.jpg").headers["content-type"] == "image/jpeg"


def test_a_browser_that_has_a_file_is_told_so(client: TestClient) -> None:
    etag = client.get("/widget.js").headers["etag"]
    again = client.get("/widget.js", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/__init__.py", "/..%2f__init__.py", "/CREDITS.txt", "/nothing"])
def test_only_files_of_the_page_are_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "bad_request"


def test_a_picture_is_stored_and_read_by_its_session_alone(client: TestClient, session: str, photo: bytes) -> None:
    stored = upload(client, session, photo)
    assert stored.status_code == 201
    assert (stored.json()["width"], stored.json()["height"]) == (64, 48)
    address = f"/v1/images/{stored.json()['image']}"
    picture = client.get(address, params={"session": session})
    assert picture.status_code == 200
    assert picture.headers["content-type"].startswith("image/")
    assert picture.headers["cache-control"] == "private, max-age=86400, immutable"
    assert client.get(address, params={"session": new_session(client)}).json()["error"]["code"] == "unknown_image"
    assert client.get(address, params={"session": "0" * 32}).status_code == 404
    assert client.get(address).json()["error"]["code"] == "bad_request"


def test_bad_pictures_get_a_code_and_a_sentence(client: TestClient, session: str, photo: bytes) -> None:
    for data, status, code in [(b"text", 400, "bad_image"), (photo[:60], 400, "bad_image"), (b"%PDF-1.7", 415, None)]:
        answer = upload(client, session, data)
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == (code or "unsupported_image")
        assert answer.json()["error"]["message"].endswith(".")
    assert upload(client, session, photo).status_code == 201


def test_too_many_bytes_are_refused_without_being_kept(client: TestClient, session: str) -> None:
    limit = gateway_of(client.app)._manager.limits.image.max_bytes  # type: ignore[arg-type]
    answer = upload(client, session, b"x" * (limit + 1))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "image_too_large"


def test_a_picture_for_an_unknown_session_is_refused(client: TestClient, photo: bytes) -> None:
    assert upload(client, "f" * 32, photo).json()["error"]["code"] == "unknown_session"
    assert client.post("/v1/images", content=photo).json()["error"]["code"] == "bad_request"


def test_health_readiness_and_metrics(client: TestClient, session: str, photo: bytes) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {
        "status": "ready",
        "parts": {"gateway": True, "store": True, "model": True},
    }
    upload(client, session, photo)
    upload(client, session, b"text")
    text = client.get("/metrics").text
    assert "visavis_images_stored_total 1.0" in text
    assert 'visavis_image_rejects_total{reason="bad_image"} 1.0' in text
    assert session not in text


def test_a_store_that_is_down_makes_the_gateway_not_ready_but_alive() -> None:
    settings = load_settings(redis_url="redis://127.0.0.1:1")
    with TestClient(create_app(settings, chat_model=ScriptedChatModel()), base_url=HERE) as client:
        assert client.get("/healthz").status_code == 200
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["parts"] == {"gateway": True, "store": False, "model": True}
        answer = client.get(f"/v1/images/{'0' * 64}", params={"session": "0" * 32})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")


def test_a_model_server_that_is_down_makes_the_gateway_not_ready(settings: Settings) -> None:
    settings = settings.model_copy(update={"model_url": "unix:///nowhere/model.sock"})
    with TestClient(create_app(settings), base_url=HERE) as client:
        assert client.get("/readyz").json()["parts"]["model"] is False


def test_a_draining_gateway_takes_no_new_socket(client: TestClient) -> None:
    client.portal.call(gateway_of(client.app).drain, 0)  # type: ignore[union-attr, arg-type]
    assert client.get("/readyz").status_code == 503
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(CHAT):
        pass


def test_a_picture_is_described_once_and_for_its_session_alone(settings: Settings, photo: bytes) -> None:
    model = ScriptedChatModel()
    with TestClient(create_app(settings, chat_model=model), base_url=HERE) as client:
        session = new_session(client)
        image = upload(client, session, photo).json()["image"]
        texts = [client.get(f"/v1/images/{image}/alt", params={"session": session}).json() for _ in range(2)]
        assert texts == [{"alt": "a red square on white"}] * 2
        assert client.get(f"/v1/images/{image}/alt", params={"session": "0" * 32}).status_code == 404
    assert len(model.asked) == 1


def test_the_operators_persona_reaches_clients_and_the_model(settings: Settings) -> None:
    model = ScriptedChatModel()
    persona = {"assistant_name": "Vera", "greeting": "Show me something.", "instructions": "You are Vera."}
    app = create_app(settings.model_copy(update=persona), chat_model=model)
    with (
        TestClient(app, base_url="http://127.0.0.1:8080") as client,
        client.websocket_connect("ws://127.0.0.1:8080/chat") as socket,
    ):
        socket.send_json({"type": "hello", "version": 1})
        assert socket.receive_json()["persona"] == {"name": "Vera", "greeting": "Show me something."}
        socket.send_json({"type": "turn", "id": "7f9c24e5-7a0c-4b55-9d2e-0d6b6f1c2a33", "text": "Who are you?"})
        while socket.receive_json()["type"] != "turn.completed":
            pass
    assert [message.content for message in model.asked[0]] == ["You are Vera.", "Who are you?"]
