"""Locust's people against a real gateway and store for a few seconds: all are answered; a broken answer is noticed."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from gateway_processes import GatewayProcess, gateways, model_server
from scripted_engine import ScriptedEngine

from visavis.bot.embedded_store import EmbeddedStore, find_engine
from visavis.bot.probes import http_get

PEOPLE = 10
LOCUST = shutil.which("locust")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(LOCUST is None, reason="locust is not installed (pip install locust)"),
]


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(pause_s=0.02)


@pytest.fixture
async def gateway(engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    store = EmbeddedStore(find_engine(), tmp_path, tmp_path / "s.sock")
    await store.start()
    async with model_server(engine, tmp_path / "m.sock") as model_url:
        environment = {"REDIS_URL": store.url, "MODEL_URL": model_url, "DATA_DIR": str(tmp_path), "LOG_LEVEL": "error"}
        async with gateways(1, {f"VISAVIS_{name}": value for name, value in environment.items()}) as (only,):
            yield only
    await store.stop()


async def locust(port: int) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and what was counted."""
    options = [
        "--headless",
        "--users",
        str(PEOPLE),
        "--spawn-rate",
        "10",
        "--run-time",
        "8s",
        "--stop-timeout",
        "20",
        "--json",
    ]
    command = ["-f", str(Path(__file__).with_name("locustfile.py")), "--host", f"http://127.0.0.1:{port}", *options]
    process = await asyncio.create_subprocess_exec(
        str(LOCUST), *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    told, _ = await process.communicate()
    return process.returncode or 0, json.loads(told)


async def test_ten_people_are_answered_and_each_turn_once(gateway: GatewayProcess, engine: ScriptedEngine) -> None:
    code, counted = await locust(gateway.port)
    turns = next(one for one in counted if one["name"] == "turn")
    assert code == 0 and turns["num_failures"] == 0
    answer = await http_get(("127.0.0.1", gateway.port), "/metrics")
    assert answer is not None
    assert f'visavis_turns_total{{outcome="completed"}} {len(engine.asked)}.0' in answer[1].decode(), "none is doubled"
    assert len(engine.asked) - PEOPLE <= turns["num_requests"] <= len(engine.asked), "each has one open at most"
    assert turns["num_requests"] > PEOPLE


async def test_an_answer_that_breaks_ends_the_run_with_1(gateway: GatewayProcess, engine: ScriptedEngine) -> None:
    engine.breaks_after = 2
    code, counted = await locust(gateway.port)
    assert code == 1 and any(one["num_failures"] for one in counted)
