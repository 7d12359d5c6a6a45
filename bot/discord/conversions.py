"""Discord's objects -> the core's `Incoming`, and the model's text -> what a message may hold. Pure.

A thread is a conversation of all who write in it; elsewhere each person has one in each channel.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import discord

from visavis.bot.adapters.platform import FileLink, Incoming

MESSAGE_LIMIT = 2_000
TOKEN_S = 14 * 60  # an interaction's token lives 15 minutes; its last one is left to clocks that differ
HELP = "help"
DESCRIBE = "Describe this picture."
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)
_PART = r"(?:[^\s<>()]|\([^\s<>()]*\))"  # of an address, which may hold pairs of brackets
_END = r"(?:[^\s<>().,;:!?'\"\]*_|~]|\([^\s<>()]*\))"  # where it ends in a sentence
_LINK = re.compile(rf"(?<=\]\()(https?://{_PART}+)(?=\))|(?<![<\w])(https?://{_PART}*{_END})", re.IGNORECASE)


def from_message(message: discord.Message, bot_id: int, *, follows: bool = False) -> Incoming | None:
    """A message to the bot: a mention, an answer to one of its messages, a direct message, or (`follows`) any in a
    thread that it takes part in; None for all others."""
    is_private = isinstance(message.channel, discord.DMChannel)
    spoken = message.type in (discord.MessageType.default, discord.MessageType.reply)
    if message.author.bot or message.webhook_id is not None or not spoken:
        return None
    if not (is_private or follows or any(user.id == bot_id for user in message.mentions)):
        return None
    names = {user.id: user.display_name for user in message.mentions}
    text = plain_text(message.content, bot_id, names)
    files = [*_earlier(message, bot_id), *message.attachments]
    is_thread = isinstance(message.channel, discord.Thread)
    owner = "" if is_thread else str(message.author.id)
    return Incoming(
        id=f"m{message.id}",
        place=place_of(message.channel.id, message.author.id, is_thread=is_thread),
        person=f"discord:{message.author.id}",
        channel=str(message.channel.id),
        text=text or ("" if files else HELP),
        files=_links(files, f"{message.channel.id}/{message.id}"),
        events=(f"m{message.id}",),
        is_private=is_private,
        address={"channel": str(message.channel.id), "asked": str(message.id), "owner": owner},
    )


def from_interaction(
    interaction: discord.Interaction,
    text: str,
    files: Iterable[discord.Attachment],
    *,
    whisper: bool,
    original: str = "",
    replaces: str = "",
) -> Incoming:
    """A command, a menu entry or a button. `original`: the message that stands in the place of its answer, if there is
    one yet; `whisper`: only the person sees the answer."""
    channel, is_thread = interaction.channel_id or 0, isinstance(interaction.channel, discord.Thread)
    address = {
        "channel": str(channel),
        "application": str(interaction.application_id),
        "token": interaction.token,
        "until": str(round(time.time()) + TOKEN_S),
        "owner": "" if is_thread else str(interaction.user.id),
    }
    return Incoming(
        id=f"i{interaction.id}",
        place=place_of(channel, interaction.user.id, is_thread=is_thread),
        person=f"discord:{interaction.user.id}",
        channel=str(channel),
        text=text,
        files=_links(files, ""),
        events=(f"i{interaction.id}",),
        is_private=isinstance(interaction.channel, discord.DMChannel),
        can_whisper=True,
        replaces=replaces,
        address=address | ({"whisper": "yes"} if whisper else {}) | ({"original": original} if original else {}),
    )


def place_of(channel_id: int, user_id: int, *, is_thread: bool) -> str:
    """The name of a conversation's place; no two channels of any servers have one id."""
    return str(channel_id) if is_thread else f"{channel_id}:{user_id}"


def plain_text(content: str, bot_id: int, names: dict[int, str]) -> str:
    """What was said, without the bot's mention; other mentions by name."""

    def name(found: re.Match[str]) -> str:
        id = int(found[1])
        return "" if id == bot_id else f"@{names.get(id, 'somebody')}"

    return re.sub(r"<@!?(\d{1,20})>", name, content).strip()


def without_previews(text: str) -> str:
    """The text with its links in angle brackets outside of code: Discord would load their pages for a preview, and with
    them whatever the text was made to carry out. Where there is no room, links cannot be clicked either."""

    pieces = enumerate(_CODE.split(text))
    bracketed = "".join(piece if number % 2 else _LINK.sub(r"<\1\2>", piece) for number, piece in pieces)
    return bracketed if len(bracketed) <= MESSAGE_LIMIT else re.sub(r"(?i)http(?=s?://)", "hxxp", text)


def _earlier(message: discord.Message, bot_id: int) -> list[discord.Attachment]:
    """The pictures of the message that this one answers, unless the bot itself has shown them."""
    earlier = message.reference.resolved if message.reference else None
    if not isinstance(earlier, discord.Message) or earlier.author.id == bot_id:
        return []
    return pictures(earlier)


def pictures(message: discord.Message) -> list[discord.Attachment]:
    """The files of a message that are said to be pictures."""
    return [file for file in message.attachments if (file.content_type or "").startswith("image/")]


def _links(files: Iterable[discord.Attachment], source: str) -> tuple[FileLink, ...]:
    """`source` names the message that gives fresh links, if any does."""
    return tuple(
        FileLink(
            file.url, (file.content_type or "").partition(";")[0], file.size, f"{source}/{file.id}" if source else ""
        )
        for file in files
    )
