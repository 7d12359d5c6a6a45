"""`visavis serve` with Discord's token in its environment: the embedded model answers on the pretended Discord."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from discord_bot import answers, labels
from discord_standin import shapes
from discord_standin.running import running_discord
from server_process import PROCESSES, Server, free_port

PHOTO = Path(__file__).parents[2] / "bot" / "web" / "example-coffee.jpg"


async def test_pictures_are_talked_about_and_a_killed_discord_process_comes_back(tmp_path: Path) -> None:
    PROCESSES["discord"] = "visavis.bot.discord.process"
    async with running_discord() as discord:
        people, platform = discord.people, discord.platform
        place, dm = platform.add_channel(guild=platform.add_guild()), platform.add_channel(shapes.DM)
        own = {"TOKEN": platform.token, "API_URL": discord.api, "FILE_HOSTS": platform.url}
        settings = {f"VISAVIS_DISCORD_{name}": value for name, value in own.items()}
        server = Server(tmp_path / "data", free_port(), settings=settings)
        await asyncio.to_thread(server.start)
        try:
            await discord.gateway.until_listening()
            photo = people.upload(PHOTO.read_bytes(), "coffee.jpg", "image/jpeg")
            people.command(people.anna, place, "ask", prompt="What is in this picture?", image=photo)
            [shown] = await answers(discord, place)
            assert len(shown["content"].split()) > 3
            assert labels(shown) == ["Regenerate", "Show why"]
            why = people.press(people.anna, shown, "Show why")
            [sheet] = await people.until(lambda: why.acked and people.answer(why)["attachments"])
            assert platform.files[sheet["id"]].startswith(b"\x89PNG")
            people.say(people.anna, place, "@bot And what color is it?")
            await answers(discord, place, 2)
            await asyncio.to_thread(server.kill, "discord")
            await people.until(lambda: discord.gateway.identified == 2)
            people.say(people.anna, dm, "What is this?", [photo])
            await answers(discord, dm)
            assert await asyncio.to_thread(server.is_ready)
        finally:
            await asyncio.to_thread(server.stop, signal.SIGTERM)
    assert "Traceback" not in server.log
    assert platform.token not in server.log
    assert (platform.complaints, platform.pings) == ([], [])
