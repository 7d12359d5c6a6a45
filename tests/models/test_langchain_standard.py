"""LangChain's own suites for chat models, over an engine in this process and over a model server's address."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny_checkpoint
import uvicorn
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.integration_tests import chat_models as suite
from langchain_tests.unit_tests import ChatModelUnitTests

from visavis.models.chat_model import VisavisChatModel
from visavis.models.engine import InferenceEngine
from visavis.models.model_server import create_app

PLACE: dict[str, Any] = {}


@pytest.fixture(scope="module", params=["in process", "remote"], autouse=True)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The suites make their models themselves, from parameters that a property gives."""
    processor = tiny_checkpoint.tiny_processor()
    with InferenceEngine(tiny_checkpoint.tiny_model(processor), processor, max_new_tokens=12) as engine:
        if request.param == "in process":
            PLACE.update(engine=engine)
            yield
        else:
            with served(engine, tmp_path_factory.mktemp("served") / "model.sock") as base_url:
                PLACE.update(base_url=base_url)
                yield
    PLACE.clear()


class served:
    """A model server in a thread; the suites' synchronous tests block the event loop of theirs."""

    def __init__(self, engine: InferenceEngine, path: Path) -> None:
        self._path = path
        config = uvicorn.Config(create_app(engine), uds=str(path), log_config=None, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()))

    def __enter__(self) -> str:
        self._thread.start()
        return f"unix://{self._path}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


class _OfVisavis:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return VisavisChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return PLACE


class TestUnit(_OfVisavis, ChatModelUnitTests):  # type: ignore[misc]
    pass


class TestIntegration(_OfVisavis, ChatModelIntegrationTests):  # type: ignore[misc]
    @property
    def supports_image_inputs(self) -> bool:
        return True

    @pytest.fixture(autouse=True)
    def no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The suite shows a picture that it fetches."""
        monkeypatch.setattr(
            suite.httpx, "get", lambda *_, **__: httpx.Response(200, content=tiny_checkpoint.drawn_picture())
        )
