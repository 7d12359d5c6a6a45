"""`visavis discord` and `visavis serve` as real processes on the pretended Discord: started, killed, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from discord_bot import answers, labels, texts
from discord_standin.rules import Json
from discord_standin.running import Discord
from gateway_processes import model_server
from scripted_engine import ScriptedEngine

VISAVIS = [sys.executable, "-c", "from visavis.bot.cli import main; main()"]
PATIENCE_S = 60


@pytest.fixture
def environment(standin: Discord, place: Json, store_url: str, tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "VISAVIS_REDIS_URL": store_url,
        "VISAVIS_DATA_DIR": str(tmp_path / "data"),
        "VISAVIS_MODEL_URL": f"unix://{tmp_path / 'model.sock'}",
        "VISAVIS_DISCORD_API_URL": standin.api,
        "VISAVIS_DISCORD_FILE_HOSTS": standin.platform.url,
        "DISCORD_TOKEN": standin.platform.token,
        "VISAVIS_DRAIN_S": "1",
    }


@contextlib.asynccontextmanager
async def process(environment: dict[str, str], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        *VISAVIS, *arguments, env=environment, stdout=pipe, stderr=pipe, start_new_session=True
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await started.communicate()


@pytest.mark.slow
async def test_two_copies_answer_each_message_once_and_finish_what_a_killed_one_began(
    standin: Discord, place: Json, environment: dict[str, str], tmp_path: Path
) -> None:
    people, engine = standin.people, ScriptedEngine(answer="word " * 100, pause_s=0.1)
    async with (
        model_server(engine, tmp_path / "model.sock"),
        process(environment, "discord") as first,
        process(environment, "discord") as second,
    ):
        await standin.gateway.until_listening(2)
        people.say(people.anna, place, "@bot tell me a long story")
        await people.until(lambda: [one for one in people.shown(place) if "word" in one["content"]])
        os.killpg(first.pid, signal.SIGKILL)  # whichever of the two has it, the other one is there
        await standin.gateway.until_listening(1)
        shown = await answers(standin, place)
        assert texts(shown) == [("word " * 100).strip()]
        assert len(people.shown(place)) == 1
        assert second.returncode is None


async def test_serve_answers_in_discord_beside_the_page_and_lets_go_at_the_end(
    standin: Discord, place: Json, environment: dict[str, str], tmp_path: Path
) -> None:
    people = standin.people
    async with model_server(ScriptedEngine(), tmp_path / "model.sock"):
        async with process(environment, "serve", "--port", "0") as served:
            assert served.stdout is not None
            async with asyncio.timeout(PATIENCE_S):
                assert b"visavis is ready: http://" in await served.stdout.readline()
            await standin.gateway.until_listening()
            people.command(people.anna, place, "ask", prompt="What is this?")
            assert texts(await answers(standin, place)) == ["a red square on white"]
        assert served.returncode == 0
    assert not standin.gateway.connections


async def test_a_token_that_discord_refuses_leaves_the_page_alone(environment: dict[str, str], tmp_path: Path) -> None:
    wrong = environment | {"DISCORD_TOKEN": "wrong"}
    async with model_server(ScriptedEngine(), tmp_path / "model.sock"):
        async with process(wrong, "discord") as alone:
            async with asyncio.timeout(PATIENCE_S):
                _, complaint = await alone.communicate()
            assert alone.returncode == 2
            assert b"Discord refuses the token" in complaint
            assert b"Traceback" not in complaint
        async with process(wrong, "serve", "--port", "0") as served:
            assert served.stdout is not None and served.stderr is not None
            async with asyncio.timeout(PATIENCE_S):
                assert b"visavis is ready: http://" in await served.stdout.readline()
                assert b"Discord refuses the token" in await served.stderr.readline()
                assert b"stays away" in await served.stderr.readline()
            assert served.returncode is None


async def test_check_prints_a_line_a_finding(environment: dict[str, str]) -> None:
    async with process(environment, "discord", "--check") as checked:
        said, _ = await checked.communicate()
    assert checked.returncode == 0
    assert said.decode().startswith("ok      The token is that of visavis")
    async with process(environment | {"DISCORD_TOKEN": "wrong"}, "discord", "--check") as checked:
        said, _ = await checked.communicate()
    assert checked.returncode == 1
    assert said.decode().startswith("missing Discord refuses the token")


async def test_stopped_in_mid_answer_it_leaves_the_answer_to_the_next(
    standin: Discord, place: Json, environment: dict[str, str], tmp_path: Path
) -> None:
    people, engine = standin.people, ScriptedEngine(answer="word " * 60, pause_s=0.2)
    async with model_server(engine, tmp_path / "model.sock"):
        async with process(environment, "discord"):
            await standin.gateway.until_listening()
            asked = people.command(people.anna, place, "ask", prompt="tell me a long story")
            await people.until(lambda: asked.original and "word" in people.answer(asked)["content"])
        assert "Stop" in labels(people.answer(asked))
        engine.pause_s = 0
        async with process(environment, "discord"):
            assert texts(await answers(standin, place)) == [("word " * 60).strip()]
    assert len(people.shown(place)) == 1
