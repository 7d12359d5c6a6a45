"""`visavis serve` with Slack's tokens in its environment: the embedded model answers in Slack's stand-in."""

import asyncio
import signal
from pathlib import Path

from server_process import PROCESSES, Server, free_port
from slack_stand_in import APP_TOKEN, BOT, BOT_TOKEN, DM, SlackStandIn

PHOTO = Path(__file__).parents[2] / "bot" / "web" / "example-cat.jpg"


async def test_pictures_are_talked_about_and_a_killed_slack_process_leaves_the_page_alone(tmp_path: Path) -> None:
    PROCESSES["slack"] = "visavis.bot.slack.process"
    async with SlackStandIn().running() as slack:
        tokens = {"VISAVIS_SLACK_BOT_TOKEN": BOT_TOKEN, "VISAVIS_SLACK_APP_TOKEN": APP_TOKEN}
        server = Server(tmp_path / "data", free_port(), settings=tokens | {"VISAVIS_SLACK_API_URL": slack.api_url})
        await asyncio.to_thread(server.start)
        try:
            file = slack.add_file(PHOTO.read_bytes(), "cat.jpg", "image/jpeg")
            asked = slack.say(f"<@{BOT}> What is in this picture?", files=[file])
            await slack.tell(slack.event(asked))
            (answer,) = await slack.answered(asked.ts)
            assert len(answer.shown.split()) > 3
            assert "[Show why]" in answer.shown
            why = slack.say("show why", thread=asked.ts)
            await slack.tell(slack.event(why))
            await slack.until(lambda: slack.shared)
            await asyncio.to_thread(server.kill, "slack")
            await slack.until(lambda: not slack.sockets)
            assert await asyncio.to_thread(server.is_ready)
            private = slack.say("hello", channel=DM)
            await slack.tell(slack.event(private))
            await slack.answered(private.ts, DM)
        finally:
            await asyncio.to_thread(server.stop, signal.SIGTERM)
    assert "Traceback" not in server.log
    assert BOT_TOKEN not in server.log
