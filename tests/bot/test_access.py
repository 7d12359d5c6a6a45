"""Who may come in from a browser: Origin at the handshake, Host, CORS."""

from collections.abc import Callable, Iterator

import pytest
from scripted_chat_model import ScriptedChatModel
from starlette.testclient import TestClient, WebSocketDenialResponse

from visavis.bot.access import AccessRules
from visavis.bot.app import create_app
from visavis.bot.settings import Settings, load_settings

HERE = "http://127.0.0.1:8080"
CHAT = "ws://127.0.0.1:8080/chat"
OpenClient = Callable[..., TestClient]


@pytest.fixture
def open_client(settings: Settings) -> Iterator[OpenClient]:
    def open_client(base_url: str = HERE, **changes: object) -> TestClient:
        app = create_app(settings.model_copy(update=changes), chat_model=ScriptedChatModel())
        return TestClient(app, base_url=base_url)

    yield open_client


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1:8080.evil.example"]
)
def test_a_foreign_origin_is_refused_at_the_handshake(open_client: OpenClient, origin: str) -> None:
    with (
        open_client() as client,
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect(CHAT, headers={"Origin": origin}),
    ):
        pass
    assert refused.value.status_code == 403
    assert refused.value.json()["error"]["code"] == "unauthorized"


@pytest.mark.parametrize("headers", [{}, {"Origin": HERE}, {"Origin": "https://shop.example"}])
def test_programs_this_page_and_allowed_pages_come_in(open_client: OpenClient, headers: dict[str, str]) -> None:
    open_to_shop = open_client(allowed_origins=("https://shop.example",))
    with open_to_shop as client, client.websocket_connect(CHAT, headers=headers):
        pass


def test_a_foreign_page_cannot_upload(open_client: OpenClient) -> None:
    with open_client() as client:
        answer = client.post("/v1/images", content=b"x", headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_an_allowed_page_gets_cors_headers(open_client: OpenClient) -> None:
    with open_client(allowed_origins=("https://shop.example",)) as client:
        asked = client.options("/v1/images", headers={"Origin": "https://shop.example"})
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == "https://shop.example"
        allowed = asked.headers["access-control-allow-headers"].split(", ")
        assert {"X-Visavis-Session", "Authorization", "*"} <= set(allowed)
        assert (
            client.get("/widget.js", headers={"Origin": "https://evil.example"}).headers.get(
                "access-control-allow-origin"
            )
            is None
        )


def test_a_rebound_name_is_not_answered_behind_a_loopback_bind(open_client: OpenClient) -> None:
    with open_client("http://evil.example:8080") as client:
        assert client.get("/").status_code == 421
        assert client.get("/", headers={"Host": "["}).status_code == 421
    with open_client("http://localhost:8080") as client:
        assert client.get("/").status_code == 200
    with open_client("https://chat.example", public_url="https://chat.example/") as client:
        assert client.get("/").status_code == 200


def test_any_name_is_ours_on_a_public_bind() -> None:
    rules = AccessRules(load_settings(host="0.0.0.0", allow_public=True))
    assert rules.host_is_ours("chat.example")
    assert rules.origin_is_allowed("https://chat.example", "chat.example")
    assert not rules.origin_is_allowed("https://evil.example", "chat.example")
