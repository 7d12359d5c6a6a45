"""Two processes that answer in Slack, on one store and one scripted model server: killed, and stopped in good order."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from gateway_processes import model_server, until_healthy
from scripted_engine import ScriptedEngine
from slack_stand_in import APP_TOKEN, BOT, BOT_TOKEN, SlackStandIn

WORDS = " ".join(f"w{number}" for number in range(30))
COMMAND = (sys.executable, "-m", "visavis.bot.slack.process")


def own_environment(slack: SlackStandIn, store_url: str, model_url: str, folder: Path) -> dict[str, str]:
    own = {"REDIS_URL": store_url, "MODEL_URL": model_url, "DATA_DIR": str(folder)}
    own |= {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_APP_TOKEN": APP_TOKEN, "SLACK_API_URL": slack.api_url}
    return {f"VISAVIS_{name}": value for name, value in own.items()}


@contextlib.asynccontextmanager
async def process(
    slack: SlackStandIn, environment: dict[str, str], command: Sequence[str] = COMMAND
) -> AsyncIterator[asyncio.subprocess.Process]:
    before = len(slack.sockets)
    started = await asyncio.create_subprocess_exec(*command, env=os.environ | environment)
    try:
        await slack.until(lambda: len(slack.sockets) > before)
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def test_slack_alone_is_served_on_a_store_and_models_of_elsewhere(
    slack: SlackStandIn, store_url: str, tmp_path: Path
) -> None:
    """Twice on one data folder: nothing there is theirs."""
    run = (sys.executable, "-c", "from visavis.bot.cli import main; main()", "slack", "--redis-url", store_url)
    async with model_server(ScriptedEngine(), tmp_path / "m.sock") as model_url:
        environment = own_environment(slack, store_url, model_url, tmp_path)
        async with process(slack, environment, run) as one, process(slack, environment, run) as other:
            for _ in range(4):
                asked = slack.say(f"<@{BOT}> what is this?")
                await slack.tell(slack.event(asked))
                await slack.answered(asked.ts)
            for each in (one, other):
                each.send_signal(signal.SIGTERM)
                assert await each.wait() == 0


async def test_serve_says_why_slack_stays_away_and_goes_on(
    slack: SlackStandIn, store_url: str, tmp_path: Path, unused_tcp_port: int
) -> None:
    run = (sys.executable, "-c", "from visavis.bot.cli import main; main()", "serve", "--port", str(unused_tcp_port))
    async with model_server(ScriptedEngine(), tmp_path / "m.sock") as model_url:
        environment = own_environment(slack, store_url, model_url, tmp_path) | {"VISAVIS_SLACK_BOT_TOKEN": "xoxb-gone"}
        with open(tmp_path / "log", "wb") as log:  # noqa: ASYNC230 - a child writes it
            started = await asyncio.create_subprocess_exec(*run, env=os.environ | environment, stderr=log)
        try:
            await slack.until(lambda: b"the slack stays away" in (tmp_path / "log").read_bytes())
            await until_healthy(("127.0.0.1", unused_tcp_port))
        finally:
            started.terminate()
            code = await started.wait()
    assert code == 0
    text = (tmp_path / "log").read_text()
    assert "invalid_auth" in text
    assert "xoxb-gone" not in text


@pytest.mark.parametrize("end", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGTERM])
async def test_another_process_finishes_the_message(
    slack: SlackStandIn, store_url: str, tmp_path: Path, end: signal.Signals
) -> None:
    engine = ScriptedEngine(answer=WORDS, pause_s=0.4)
    async with model_server(engine, tmp_path / "m.sock") as model_url:
        environment = own_environment(slack, store_url, model_url, tmp_path) | {"VISAVIS_DRAIN_S": "0"}
        async with process(slack, environment) as leaving:
            asked = slack.say(f"<@{BOT}> what is this?")
            await slack.tell(slack.event(asked))
            await slack.until(lambda: len(slack.called("chat.appendStream")) > 1)  # then what stands there is kept
            begun = slack.of_bot(asked.ts)[0].ts
            leaving.send_signal(end)
            await leaving.wait()
        engine.pause_s = 0.0
        async with process(slack, environment):
            await slack.until(lambda: slack.of_bot(asked.ts)[0].shown.split() == WORDS.split())
            (answer,) = await slack.answered(asked.ts)
    assert answer.ts == begun


@pytest.mark.slow
async def test_a_process_that_was_frozen_adds_nothing_to_what_another_one_has_finished(
    slack: SlackStandIn, store_url: str, tmp_path: Path
) -> None:
    engine = ScriptedEngine(answer=WORDS, pause_s=0.4)
    async with model_server(engine, tmp_path / "m.sock") as model_url:
        environment = own_environment(slack, store_url, model_url, tmp_path)
        async with process(slack, environment) as frozen:
            asked = slack.say(f"<@{BOT}> what is this?")
            await slack.tell(slack.event(asked))
            await slack.until(lambda: len(slack.called("chat.appendStream")) > 1)
            frozen.send_signal(signal.SIGSTOP)
            engine.pause_s = 0.0
            async with process(slack, environment):
                await slack.until(lambda: slack.of_bot(asked.ts)[0].shown.split() == WORDS.split())
                (answer,) = await slack.answered(asked.ts)
                calls = len(slack.calls)
                frozen.send_signal(signal.SIGCONT)
                again = slack.say(f"<@{BOT}> and that?")
                await slack.tell(slack.event(again))
                await slack.answered(again.ts)
                await asyncio.sleep(5)
    assert slack.of_bot(asked.ts) == [answer]
    assert answer.shown.split() == WORDS.split()
    late = [arguments for _, arguments in slack.calls[calls:] if arguments.get("ts") == answer.ts]
    assert len(late) <= 1  # one call may have been under way
