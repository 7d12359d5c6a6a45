"""What people do on Discord, brought to the core: acknowledged at once, then answered by whichever process has it.

Every copy of this process hears of everything. Of an interaction, Discord lets one of them acknowledge it; a message is
taken over in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator

import aiohttp
import discord

from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.platform import Incoming
from visavis.bot.discord.buttons import Press, pressed
from visavis.bot.discord.conversions import from_interaction, from_message
from visavis.bot.discord.preferences import GuildPreferences, Preferences
from visavis.bot.discord.replies import NOBODY, ORIGINAL
from visavis.dialogue.errors import Busy, DialogueError, StoreUnavailable, UnknownTurn

log = logging.getLogger(__name__)

_PAUSES_S = (0.1, 0.4, 1.5)
TAKEN = {40060, 10062}  # acknowledged already; not known (any more)
NOT_HERE = "In this channel I do not answer; who runs the server has chosen others (`/settings`)."
NOT_YOURS = "Only who has asked may do that."
WHERE = "Where the answer came from: the brighter, the more was looked at."


class Desk:
    """One process's. `follows`: messages in threads come with their text, so that those need no mention."""

    def __init__(self, adapter: Adapter, preferences: GuildPreferences, *, follows: bool) -> None:
        self._adapter = adapter
        self._preferences = preferences
        self._follows = follows

    async def hear(self, message: discord.Message, bot_id: int) -> None:
        """A message, to the bot or not."""
        incoming = from_message(message, bot_id) or await self._followed(message, bot_id)
        if incoming is None or not await self._may_answer(message):
            return
        try:
            await self._adapter.accept(incoming)
        except Busy as error:
            log.warning("a message is not answered: %s", error)
        except DialogueError as error:  # Discord does not bring it again
            with _shrugging():
                await message.reply(str(error), nonce=incoming.id, mention_author=False, allowed_mentions=NOBODY)

    async def _followed(self, message: discord.Message, bot_id: int) -> Incoming | None:
        """A message without a mention, in a thread where the bot has answered before."""
        if not (self._follows and isinstance(message.channel, discord.Thread)):
            return None
        incoming = from_message(message, bot_id, follows=True)
        with contextlib.suppress(DialogueError):
            return incoming if incoming and await self._adapter.has_place(incoming.place) else None
        return None

    async def take(
        self,
        interaction: discord.Interaction,
        text: str,
        files: Iterable[discord.Attachment] = (),
        *,
        whisper: bool = False,
    ) -> None:
        """A command with a question, or one of the core's own commands."""
        preferences = await self._allowing(interaction)
        if preferences is None:
            return
        whisper = whisper or preferences.whisper
        original = await acknowledge(interaction, whisper=whisper)
        if original is None:
            return
        try:
            incoming = from_interaction(interaction, text, files, original=original, whisper=whisper)
            await self._adapter.accept(incoming)
        except DialogueError as error:
            await tell(interaction, str(error))

    async def press(self, interaction: discord.Interaction) -> None:
        """A button below an answer."""
        found = pressed(interaction)
        if found is None or interaction.message is None:
            return
        press, owner = found
        if owner and owner != str(interaction.user.id):
            return await refuse(interaction, NOT_YOURS)
        if await self._allowing(interaction) is None:
            return
        await {Press.STOP: self._stop, Press.AGAIN: self._ask_again, Press.WHY: self._explain}[press](
            interaction, interaction.message
        )

    async def choose(
        self, interaction: discord.Interaction, whisper: bool | None, channel: int | None, answers_there: bool
    ) -> None:
        """`/settings`: change what is given, and show how things are."""
        if await acknowledge(interaction, whisper=True) is None or interaction.guild_id is None:
            return
        try:
            chosen = await self._preferences.choose(
                interaction.guild_id, whisper=whisper, channel=channel, answers_there=answers_there
            )
            await tell(interaction, _described(chosen))
        except DialogueError as error:
            await tell(interaction, str(error))

    async def _stop(self, interaction: discord.Interaction, message: discord.Message) -> None:
        if await answered(interaction.response.defer()):
            async with _whispering(interaction):
                await self._stop_soon(str(message.id))

    async def _stop_soon(self, post: str) -> None:
        """A message can be seen a moment before it is kept which turn it shows."""
        for pause_s in _PAUSES_S:
            with contextlib.suppress(UnknownTurn):
                return await self._adapter.stop(post)
            await asyncio.sleep(pause_s)
        await self._adapter.stop(post)

    async def _ask_again(self, interaction: discord.Interaction, message: discord.Message) -> None:
        """The other answer comes below; the button stays, for that may fail."""
        if await answered(interaction.response.defer()):
            async with _whispering(interaction):
                _, turn = await self._adapter.find(str(message.id))
                whisper = message.flags.ephemeral
                await self._adapter.accept(from_interaction(interaction, "", (), whisper=whisper, replaces=turn))

    async def _explain(self, interaction: discord.Interaction, message: discord.Message) -> None:
        whisper = message.flags.ephemeral
        if await acknowledge(interaction, whisper=whisper) is None:
            return
        try:
            sheet = await self._adapter.explain(str(message.id), f"discord:{interaction.user.id}")
        except DialogueError as error:
            return await tell(interaction, str(error))
        picture = discord.File(io.BytesIO(sheet), "why.png")
        with _shrugging():
            await interaction.edit_original_response(content=WHERE, attachments=[picture], allowed_mentions=NOBODY)

    async def _allowing(self, interaction: discord.Interaction) -> Preferences | None:
        """What a server has chosen, if that lets us answer here; else the person is told."""
        try:
            preferences = await self._preferences.of(interaction.guild_id)
        except StoreUnavailable as error:
            await refuse(interaction, str(error))
            return None
        if preferences.allows(interaction.channel_id, parent_of(interaction.channel)):
            return preferences
        await refuse(interaction, NOT_HERE)
        return None

    async def _may_answer(self, message: discord.Message) -> bool:
        """Nothing is said where that may be unwanted."""
        try:
            preferences = await self._preferences.of(message.guild.id if message.guild else None)
        except StoreUnavailable:
            log.error("a message is not answered: the store does not tell whether its server wants that")
            return False
        return preferences.allows(message.channel.id, parent_of(message.channel))


def parent_of(channel: object) -> int | None:
    """The channel that a thread hangs from."""
    return channel.parent_id if isinstance(channel, discord.Thread) else None


async def acknowledge(interaction: discord.Interaction, *, whisper: bool) -> str | None:
    """Say within three seconds that it has arrived, and that an answer is thought about: the message that will hold it.

    None: another process was first, or it was too late.
    """
    sent: list[discord.InteractionCallbackResponse[discord.Client] | None] = []

    async def defer() -> None:
        sent.append(await interaction.response.defer(thinking=True, ephemeral=whisper))

    if not await answered(defer()):
        return None
    return str(sent[0].message_id) if sent and sent[0] and sent[0].message_id else ORIGINAL


async def answered(response: Awaitable[object]) -> bool:
    """Whether this process was let to answer an interaction. Where Discord does not say, it may have been: then a
    promise stands there, and is kept."""
    try:
        await response
        return True
    except discord.HTTPException as error:
        if error.code not in TAKEN:
            log.warning("an interaction could not be acknowledged: %s", error)
        return error.status >= 500
    except (KeyError, TypeError):  # it has been, but was not told which message was made of it
        return True
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        log.warning("nobody knows whether an interaction was acknowledged: %s", type(error).__name__)
        return True
    except discord.InteractionResponded:
        return False


async def refuse(interaction: discord.Interaction, sentence: str) -> None:
    """At once, to the person alone."""
    await answered(interaction.response.send_message(sentence, ephemeral=True, allowed_mentions=NOBODY))


async def tell(interaction: discord.Interaction, sentence: str) -> None:
    """In the place of the answer that was promised."""
    with _shrugging():
        await interaction.edit_original_response(content=sentence, allowed_mentions=NOBODY)


@contextlib.asynccontextmanager
async def _whispering(interaction: discord.Interaction) -> AsyncIterator[None]:
    """What goes wrong is said to the person alone."""
    try:
        yield
    except DialogueError as error:
        with _shrugging():
            await interaction.followup.send(str(error), ephemeral=True, allowed_mentions=NOBODY)


@contextlib.contextmanager
def _shrugging() -> Iterator[None]:
    """A sentence that cannot be shown is not worth more."""
    try:
        yield
    except (discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError) as error:
        log.warning("a notice could not be shown on Discord: %s", type(error).__name__)


def _described(preferences: Preferences) -> str:
    readers = "who has asked" if preferences.whisper else "everybody in the channel"
    places = ", ".join(f"<#{id}>" for id in sorted(preferences.channels)) or "all channels"
    return f"Answers to commands are shown to {readers}. I answer in {places}."
