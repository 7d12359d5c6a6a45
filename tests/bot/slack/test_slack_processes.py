"""Two processes that answer in Slack, on one store and one scripted model server: killed, and stopped in good order."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_processes import model_server
from scripted_engine import ScriptedEngine
from slack_stand_in import APP_TOKEN, BOT, BOT_TOKEN, SlackStandIn

WORDS = " ".join(f"w{number}" for number in range(30))
COMMAND = (sys.executable, "-m", "visavis.bot.slack.process")


@contextlib.asynccontextmanager
async def process(slack: SlackStandIn, environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    before = len(slack.sockets)
    started = await asyncio.create_subprocess_exec(*COMMAND, env=os.environ | environment)
    try:
        await slack.until(lambda: len(slack.sockets) > before)
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_another_process_finishes_the_message(
    slack: SlackStandIn, store_url: str, tmp_path: Path, end: signal.Signals
) -> None:
    engine = ScriptedEngine(answer=WORDS, pause_s=0.4)
    async with model_server(engine, tmp_path / "m.sock") as model_url:
        own = {"REDIS_URL": store_url, "MODEL_URL": model_url, "DATA_DIR": str(tmp_path), "DRAIN_S": "0"}
        own |= {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_APP_TOKEN": APP_TOKEN, "SLACK_API_URL": slack.api_url}
        environment = {f"VISAVIS_{name}": value for name, value in own.items()}
        async with process(slack, environment) as leaving:
            asked = slack.say(f"<@{BOT}> what is this?")
            await slack.tell(slack.event(asked))
            await slack.until(lambda: slack.of_bot(asked.ts))
            begun = slack.of_bot(asked.ts)[0].ts
            leaving.send_signal(end)
            await leaving.wait()
        engine.pause_s = 0.0
        async with process(slack, environment):
            await slack.until(lambda: slack.of_bot(asked.ts)[0].shown.split() == WORDS.split())
            (answer,) = await slack.answered(asked.ts)
    assert answer.ts == begun
