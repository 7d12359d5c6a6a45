"""Shared by the tests of the bot package: one embedded store, and real gateways on it."""

import asyncio
import contextlib
import io
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from fake_chat_model import FakeChatModel
from PIL import Image

from visavis.bot.app import create_app, gateway_of
from visavis.bot.embedded_store import EmbeddedStore, find_engine
from visavis.bot.gateway import GatewayServer, server_config
from visavis.bot.settings import Settings, load_settings

RunGateway = Callable[..., AbstractAsyncContextManager[str]]


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
    """`async with run_gateway(model, port=..., **settings) as url`: a gateway on a real socket in this event loop."""

    @contextlib.asynccontextmanager
    async def run(model: FakeChatModel | None = None, port: int = 0, **changes: Any) -> AsyncIterator[str]:
        used = settings.model_copy(update=changes)
        app = create_app(used, chat_model=model or FakeChatModel())
        server = GatewayServer(server_config(app, used))
        with socket.create_server(("127.0.0.1", port)) as listener:
            task = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                await gateway_of(app).drain(1)
                server.should_exit = True
                await task

    return run
