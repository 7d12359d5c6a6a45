"""The stand-in is honest: npm's @slack/bolt, which knows nothing of it, talks with it as with Slack."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from slack_stand_in import ANN, APP_TOKEN, BOT, BOT_TOKEN, ROOM, TEAM, SlackStandIn

ROOT = Path(__file__).parents[3]
CLIENT = Path(__file__).with_name("second_client.cjs")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("node") or not (ROOT / "node_modules" / "@slack" / "bolt").exists(),
        reason="no @slack/bolt here (npm install --no-save @slack/bolt)",
    ),
]


async def test_another_official_client_converses(slack: SlackStandIn) -> None:
    command = ("node", str(CLIENT), slack.api_url, BOT_TOKEN, APP_TOKEN)
    node = await asyncio.create_subprocess_exec(*command)
    try:
        await slack.until(lambda: slack.sockets)
        asked = slack.say(f"<@{BOT}> hello")
        delivery = await slack.tell(slack.event(asked))
        assert delivery.attempts == 1
        await slack.until(lambda: len(slack.of_bot(asked.ts)) == 3)
        body: dict[str, Any] = {
            "command": "/visavis",
            "text": "this",
            "team_id": TEAM,
            "channel_id": ROOM,
            "user_id": ANN,
        }
        body |= {"trigger_id": slack.trigger(), "response_url": f"{slack.url}/hook/1"}
        assert (await slack.send("slash_commands", body)).acked.is_set()
        await slack.until(lambda: slack.responses)
    finally:
        if node.returncode is None:
            node.terminate()
        await node.wait()
    said = [one.shown.strip() for one in slack.of_bot(asked.ts)]
    assert said == ["**one** two three", "edited", "refused: missing_recipient_user_id"]
    assert slack.whispers[0]["text"] == "read 2"  # the first page
    (upload,) = slack.uploads.values()
    assert b"text" in upload  # as a form, where Python's client sends the bytes
    assert slack.responses[0]["text"] == "heard this"
