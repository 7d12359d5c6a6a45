"""Settings: where they come from and which are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from visavis.bot.settings import SettingsError, load_settings, origin_of


def test_a_store_address_is_checked_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="expected redis://") as refused:
        load_settings(redis_url="http://:secret@store")
    assert "secret" not in str(refused.value)


def test_defaults_bind_to_loopback_and_keep_data_in_the_users_folder(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.url) == ("127.0.0.1", 8080, "http://127.0.0.1:8080")
    assert settings.data_dir == tmp_path / "xdg" / "visavis"


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAVIS_PORT", "9001")
    monkeypatch.setenv("VISAVIS_REDIS_URL", "")
    assert load_settings(port=None).port == 9001
    assert load_settings(port=9002).port == 9002
    assert load_settings().redis_url is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings().port = 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"port": "http"}, ["--port", "VISAVIS_PORT", "'http'"]),
        ({"port": 70_000}, ["--port", "65535", "70000"]),
        ({"device": "tpu"}, ["--device", "'cpu'", "'tpu'"]),
        ({"host": "0.0.0.0"}, ["0.0.0.0", "--allow-public"]),
        ({"allowed_origins": "example.org"}, ["--allowed-origins", "https://example.org", "'example.org'"]),
        ({"public_url": "nowhere"}, ["--public-url", "'nowhere'"]),
    ],
)
def test_what_cannot_be_used_is_named_in_one_sentence(flags: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**flags)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)


def test_a_child_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VISAVIS_DEVICE", "cuda")
    settings = load_settings(
        host="::1",
        allowed_origins="https://a.example, https://b.example/",
        allow_public=True,
        data_dir=tmp_path,
        device="cpu",
    )
    for name, value in settings.child_environment(OMP_WAIT_POLICY="PASSIVE").items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert settings.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Example.org/path?x", "https://example.org"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("null", None),
        ("file:///etc", None),
        ("http://user@host", None),
        ("http://host:port", None),
    ],
)
def test_origin_of(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin
