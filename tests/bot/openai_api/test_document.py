"""The OpenAPI document is true: it names every route, and a fuzzer that reads it finds no lie."""

import asyncio
import sys
from pathlib import Path

import pytest
from api_server import chat_model
from running_gateway import RunGateway
from scripted_engine import ScriptedEngine
from starlette.routing import Route

from visavis.bot.app import create_app
from visavis.bot.openai_api.document import openapi_document
from visavis.bot.settings import Settings


def test_every_route_of_the_api_is_described(settings: Settings) -> None:
    described = openapi_document(["a model"])["paths"]
    app = create_app(settings, chat_model=chat_model(ScriptedEngine()))
    served = {
        (route.path.replace(":path", "").replace("{sha256}", "{picture}"), method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith("/v1/")
        for method in (route.methods or ()) - {"HEAD"}
    }
    assert served == {(path, method) for path, operations in described.items() for method in operations}


@pytest.mark.timeout(900)
async def test_schemathesis_finds_nothing(run_gateway: RunGateway, tmp_path: Path) -> None:
    # No schema can say what a picture is or which hosts are allowed, so what fits may still be refused.
    checks = "--exclude-checks=positive_data_acceptance"
    command = [sys.executable, "-m", "schemathesis.cli", "run", "--max-examples=5", "--seed=1", "--no-color", checks]
    async with run_gateway(chat_model(ScriptedEngine())) as url:
        process = await asyncio.create_subprocess_exec(
            *(*command, f"{url}/openapi.json"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()[-4_000:]
    assert b"Tested: 9" in told
