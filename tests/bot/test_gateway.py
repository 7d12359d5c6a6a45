"""The process of a gateway: what its log holds. How it drains is tested with the supervisor."""

import asyncio
import contextlib
import gc
import logging
import socket
import sys
from collections.abc import Coroutine, Iterator

import pytest
from raw_socket import RawSocket, frame
from running_gateway import RunGateway
from starlette.applications import Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from visavis.bot import gateway
from visavis.bot.client import ChatClient
from visavis.bot.gateway import log_at, server_config
from visavis.bot.settings import load_settings


async def test_the_log_holds_neither_what_people_say_nor_a_complaint_for_each_refusal(
    run_gateway: RunGateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = logging.getLogger("uvicorn.error")
    monkeypatch.setattr(server, "filters", [])
    monkeypatch.setattr(server, "level", logging.NOTSET)
    caplog.set_level(logging.DEBUG)
    log_at("debug")
    async with run_gateway() as url:
        async with ChatClient(url) as client, contextlib.aclosing(client.ask("My secret is blue.")) as events:
            assert [event async for event in events]
        with pytest.raises(InvalidStatus):
            await connect(url.replace("http", "ws") + "/chat", origin=Origin("https://evil.example"), proxy=None)
        async with RawSocket(url) as socket:
            await socket.send(frame(b"\xff\xfe"))
            assert await socket.receive() == 1007
    records = [record for record in caplog.records if record.name.startswith(("uvicorn", "visavis"))]
    assert records
    assert not [record for record in records if "secret" in record.getMessage() or record.levelno >= logging.ERROR]


@pytest.mark.parametrize("library", ["openai._base_client", "anthropic._base_client", "httpx", "httpcore.http11"])
def test_requests_to_other_peoples_models_are_not_logged(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = logging.getLogger(library.split(".")[0])
    monkeypatch.setattr(family, "level", logging.NOTSET)
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "filters", [])
    monkeypatch.setattr(logging.root, "level", logging.DEBUG)
    log_at("debug")
    assert not logging.getLogger(library).isEnabledFor(logging.INFO)
    assert logging.getLogger(library).isEnabledFor(logging.WARNING)


@pytest.fixture
def garbage_as_ever() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("garbage_as_ever")
@pytest.mark.parametrize("limits", [{"max_image_bytes": 10_000}, {"max_frame_bytes": 10**8}])
def test_every_frame_within_its_own_limit_gets_through(limits: dict[str, int]) -> None:
    settings = load_settings(**limits)
    most = server_config(Starlette(), settings).ws_max_size
    assert most > max(settings.max_image_bytes, settings.max_frame_bytes)


def test_a_gateway_does_not_look_for_garbage_in_what_it_has_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = []

    def run(serving: Coroutine[None, None, None]) -> None:
        serving.close()
        frozen.append(gc.get_freeze_count())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(sys, "argv", ["gateway", "--fd", str(listener.detach())])
    monkeypatch.setattr(gateway, "observe", lambda settings: None)
    monkeypatch.setattr(asyncio, "run", run)
    gateway.main(lambda settings: Starlette())
    assert frozen[-1] > 10_000, "while it serves"
