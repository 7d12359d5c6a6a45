"""The stand-in is honest: PyPI's hikari, which knows nothing of it and shares no code with discord.py, converses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from discord_bot import labels, texts
from discord_standin import shapes
from discord_standin.rules import Json
from discord_standin.running import Discord

PYTHON = Path(__file__).parents[3] / ".venv" / "hikari" / "bin" / "python"
CLIENT = Path(__file__).with_name("second_client.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no hikari here (make test-all brings it where PyPI is)"),
]


@pytest.fixture
async def client(standin: Discord, place: Json) -> AsyncIterator[asyncio.subprocess.Process]:
    """It may have nothing to complain of."""
    command = (str(PYTHON), "-W", "error", str(CLIENT), standin.api, standin.platform.token)
    started = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    waiting = asyncio.create_task(standin.gateway.until_listening())
    ending = asyncio.create_task(started.wait())
    await asyncio.wait([waiting, ending], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    yield started
    ending.cancel()
    with contextlib.suppress(ProcessLookupError):
        started.terminate()
    said, _ = await started.communicate()
    complaints = [line for line in said.decode().splitlines() if not line.startswith("W ")]
    assert complaints == []


async def test_another_library_converses(
    standin: Discord, place: Json, client: asyncio.subprocess.Process, photo: bytes
) -> None:
    people = standin.people
    people.say(people.bert, place, "nothing for it to read")
    people.say(people.anna, place, "@bot hello")
    await people.until(lambda: people.shown(place) and people.shown(place)[-1]["content"].startswith("heard 6 times"))
    assert len(people.shown(place)) == 1
    assert standin.platform.buckets.refused == 0, "its headers told when to wait"
    standin.platform.buckets.storm("create", 2, 0.3)
    await standin.gateway.reconnect_all()
    people.say(people.anna, place, "@bot after op 7")
    await people.until(lambda: len(people.shown(place)) == 2)
    assert standin.gateway.resumed == 1
    await standin.gateway.invalidate_all()
    await people.until(lambda: standin.gateway.identified == 2)
    dm = standin.platform.add_channel(shapes.DM)
    people.say(people.anna, dm, "in private")
    await people.until(lambda: "heard 6 times: in private" in texts(people.shown(dm)))


async def test_its_interactions_are_acknowledged_edited_and_followed(
    standin: Discord, place: Json, client: asyncio.subprocess.Process, photo: bytes
) -> None:
    people = standin.people
    asked = people.command(people.anna, place, "ask", prompt="What is this?", image=people.upload(photo))
    await people.until(lambda: asked.original and labels(people.answer(asked)) == ["Again"])
    assert people.answer(asked)["content"] == f"saw [{len(photo)}]"
    people.press(people.anna, people.answer(asked), "Again")
    await people.until(lambda: people.answer(asked)["content"] == "pressed")
    below = await people.until(lambda: [one for one in standin.platform.messages.values() if one["content"] == "below"])
    assert (below[0]["flags"] & shapes.EPHEMERAL, below[0]["attachments"][0]["size"]) == (shapes.EPHEMERAL, 6)
    menu = people.menu(people.anna, place, "Describe picture", people.say(people.bert, place, "look"))
    await people.until(lambda: menu.original and people.answer(menu)["content"] == "saw []")
