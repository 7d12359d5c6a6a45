"""Shared by the tests of the models package: one tiny model, engines over it, a model server on a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import tiny_checkpoint
import tiny_training
import uvicorn

from visavis.models.engine import InferenceEngine
from visavis.models.engine_api import create_app
from visavis.models.processor import Processor
from visavis.models.training.data import Photo
from visavis.models.training.settings import TrainingSettings
from visavis.models.visavis_model import VisavisModel


@pytest.fixture(scope="session")
def tiny_processor() -> Processor:
    return tiny_checkpoint.tiny_processor()


@pytest.fixture(scope="session")
def tiny_model(tiny_processor: Processor) -> VisavisModel:
    return tiny_checkpoint.tiny_model(tiny_processor)


@pytest.fixture
def engine(tiny_model: VisavisModel, tiny_processor: Processor) -> Iterator[InferenceEngine]:
    with InferenceEngine(tiny_model, tiny_processor, max_queue=4, max_new_tokens=12) as engine:
        yield engine


@pytest.fixture
async def served(engine: InferenceEngine, tmp_path: Path) -> AsyncIterator[str]:
    """The model server over the engine, on a unix socket in this event loop; its `base_url`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "model.sock"))
        server = uvicorn.Server(uvicorn.Config(create_app(engine), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await tiny_checkpoint.until(lambda: server.started)
        yield f"unix://{tmp_path}/model.sock"
        server.should_exit = True
        await serving


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    return tiny_training.two_photos(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> TrainingSettings:
    return tiny_training.quick_settings(tmp_path)


@pytest.fixture
def tagging_model(tiny_processor: Processor) -> VisavisModel:
    return tiny_checkpoint.tagging_model(tiny_processor)
