"""The commands that Discord lists below `/` and in a message's menu. Knows what they are called, not what they do."""

from __future__ import annotations

import logging
import re

import discord
from discord import app_commands

from visavis.bot.discord.conversions import DESCRIBE, HELP, pictures
from visavis.bot.discord.desk import Desk, refuse

log = logging.getLogger(__name__)

LONGEST_PROMPT = 4_000
NO_PICTURE = "There is no picture in that message that I could look at."
NO_CODE = "That is no code; `/link` without one gives you one."
STALE = "This command has changed meanwhile; please type it again."
Prompt = app_commands.Range[str, 1, LONGEST_PROMPT]


class Commands(app_commands.CommandTree[discord.Client]):
    """The tree of a client; one that does not fit (any more) is answered with a sentence."""

    async def on_error(self, interaction: discord.Interaction, error: app_commands.AppCommandError, /) -> None:
        """The edge of a command."""
        log.error("a command failed", exc_info=error)
        if not interaction.response.is_done():
            await refuse(interaction, STALE)


def make_commands(client: discord.Client, desk: Desk) -> Commands:
    """All commands, registered with a client."""
    tree = Commands(client)

    @tree.command(description="Ask about a picture, or go on asking about those shown before")
    @app_commands.describe(prompt="What you want to know", image="A picture; JPEG, PNG, WebP or GIF")
    async def ask(interaction: discord.Interaction, prompt: Prompt, image: discord.Attachment | None = None) -> None:
        await desk.take(interaction, prompt, [image] if image else [])

    @tree.context_menu(name="Describe picture")
    async def describe(interaction: discord.Interaction, message: discord.Message) -> None:
        found = pictures(message)
        await (desk.take(interaction, DESCRIBE, found) if found else refuse(interaction, NO_PICTURE))

    @tree.command(description="Begin a new conversation in this channel")
    async def new(interaction: discord.Interaction) -> None:
        await desk.take(interaction, "new", whisper=True)

    @tree.command(description="Join your conversations here with those on the web or elsewhere")
    @app_commands.describe(code="The code that you were given there; without one you get one here")
    async def link(interaction: discord.Interaction, code: str = "") -> None:
        if code and not re.fullmatch(r"[A-Za-z0-9-]{8,40}", code.strip()):
            return await refuse(interaction, NO_CODE)
        await desk.take(interaction, f"link {code}".strip(), whisper=True)

    @tree.command(description="Delete your conversation here, or everything that is kept about you")
    @app_commands.describe(everything="Everything about you, on all joined channels")
    async def forget(interaction: discord.Interaction, everything: bool = False) -> None:
        await desk.take(interaction, "forget everything" if everything else "forget", whisper=True)

    @tree.command(name="help", description="What I can do")
    async def show_help(interaction: discord.Interaction) -> None:
        await desk.take(interaction, HELP, whisper=True)

    @tree.command(description="How I behave on this server")
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.guild_only()
    @app_commands.describe(
        private="Show answers to commands only to who has asked",
        channel="A channel to answer in; the first one that is named makes me silent in all others",
        answers="False takes the channel off the list again",
    )
    async def settings(
        interaction: discord.Interaction,
        private: bool | None = None,
        channel: discord.TextChannel | None = None,
        answers: bool = True,
    ) -> None:
        await desk.choose(interaction, private, channel.id if channel else None, answers)

    return tree
