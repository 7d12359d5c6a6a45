"""Who a web client is: visitors and embed tokens, which fail closed."""

import time
from typing import Any

import jwt
import pytest
from scripted_chat_model import ScriptedChatModel
from starlette.testclient import TestClient

from visavis.bot.app import create_app
from visavis.bot.auth import Identities
from visavis.bot.settings import Settings, SettingsError, load_settings
from visavis.dialogue.errors import Unauthorized

SECRET = "a secret of two servers, with far more than 32 bytes"
SHOP = "https://shop.example"


def signed(secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    claims = {"sub": "customer 7", "exp": time.time() + 300, "origin": SHOP} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, secret, algorithm)


def test_a_token_that_the_host_page_has_signed_names_the_person() -> None:
    assert Identities(SECRET).person(signed(), SHOP) == "embed:customer 7"


@pytest.mark.parametrize(
    "token",
    [
        signed("another secret, also 32 bytes or more"),
        signed(algorithm="HS384"),
        jwt.encode({"sub": "a", "exp": 2**33, "origin": SHOP}, None, "none"),
        signed(exp=time.time() - 120),
        signed(exp=time.time() + 7 * 86400),
        signed(exp=None),
        signed(exp="soon"),
        signed(origin="https://other.example"),
        signed(origin=None),
        signed(sub=None),
        signed(sub=""),
        signed(sub=7),
        signed(sub="x" * 300),
        signed(sub="half a pair: \ud800"),
        signed()[:-2],
        "..",
        "a.b.c",
        "." * 40,
        None,
        "7f9c24e5-7a0c-4b55-9d2e-0d6b6f1c2a33",
    ],
)
def test_anything_else_fails_closed(token: str | None) -> None:
    with pytest.raises(Unauthorized):
        Identities(SECRET).person(token, SHOP)


@pytest.mark.parametrize("origin", [None, "null", "https://shop.example.evil.example"])
def test_a_token_is_good_on_its_own_page_only(origin: str | None) -> None:
    with pytest.raises(Unauthorized):
        Identities(SECRET).person(signed(), origin)


def test_without_a_secret_visitors_are_told_apart_and_signed_tokens_refused() -> None:
    open_to_all = Identities(None)
    one, other = (open_to_all.person(secret * 32, SHOP) for secret in "ab")
    assert one.startswith("web:") and one != other and "aaaa" not in one
    assert open_to_all.person(None, SHOP) == ""
    with pytest.raises(Unauthorized):
        open_to_all.person(signed(), SHOP)


def test_the_socket_lets_in_who_brings_a_token_and_nobody_else(settings: Settings) -> None:
    app = create_app(
        settings.model_copy(update={"embed_secret": SECRET, "allowed_origins": (SHOP,)}), chat_model=ScriptedChatModel()
    )
    hello = {"type": "hello", "version": 1}
    with (
        TestClient(app, base_url="http://127.0.0.1:8080") as client,
        client.websocket_connect("ws://127.0.0.1:8080/chat", headers={"Origin": SHOP}) as socket,
    ):
        socket.send_json(hello)
        assert socket.receive_json()["code"] == "unauthorized"
        socket.send_json({"type": "turn", "id": "7f9c24e5-7a0c-4b55-9d2e-0d6b6f1c2a33", "text": "Hello?"})
        assert socket.receive_json()["code"] == "bad_request"
        socket.send_json({**hello, "token": signed()})
        assert socket.receive_json()["type"] == "ready"


def test_a_short_secret_is_refused_without_saying_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_EMBED_SECRET", "hunter2")
    with pytest.raises(SettingsError, match="at least 32 bytes") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_a_secret_lets_a_server_listen_beyond_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_EMBED_SECRET", SECRET)
    assert SECRET not in repr(load_settings(host="0.0.0.0"))
