"""Shared by the tests of the bot package: one embedded store, and real gateways on it."""

import asyncio
import functools
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from running_gateway import RunGateway, running_gateway

from visavis.bot.embedded_store import EmbeddedStore, find_engine
from visavis.bot.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("VISAVIS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("store")
    store = EmbeddedStore(find_engine(), folder, folder / "s.sock")
    asyncio.run(store.start())
    yield store.url
    asyncio.run(store.stop())


@pytest.fixture
def settings(store_url: str) -> Settings:
    return load_settings(redis_url=store_url, drain_s=5)


@pytest.fixture
def photo() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def run_gateway(settings: Settings) -> RunGateway:
    """`async with run_gateway(model, port=...) as url`: a gateway on a real socket in this event loop."""
    return functools.partial(running_gateway, settings)
