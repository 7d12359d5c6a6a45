"""The connection to Discord: logged in, commands registered, kept up by discord.py, begun anew when that gives up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import aiohttp
import discord
from discord.gateway import DiscordWebSocket
from discord.http import Route
from yarl import URL

from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.files import fetch_file
from visavis.bot.adapters.platform import FileLink, Incoming, PlatformError
from visavis.bot.adapters.process import SetupError, keeps_tokens
from visavis.bot.conversations import Conversations
from visavis.bot.discord.commands import make_commands
from visavis.bot.discord.desk import Desk
from visavis.bot.discord.preferences import GuildPreferences
from visavis.bot.discord.replies import DiscordReply, platform_errors
from visavis.bot.settings import Settings
from visavis.dialogue.errors import BadImage
from visavis.dialogue.limits import ImageLimits

log = logging.getLogger(__name__)

NAME = "discord"
FILE_HOSTS = ("https://cdn.discordapp.com", "https://media.discordapp.net")
LONGEST_LIMIT_S = 30.0  # what discord.py waits out itself; the core gives up drafts for longer ones
READY_S = 30.0
CALL_S = 20.0  # for one request; discord.py would leave it aiohttp's five minutes
_AGAIN_S = 60.0
NO_TOKEN = "VISAVIS_DISCORD_TOKEN is not set: docs/discord.md says where the token comes from."
BAD_TOKEN = "Discord refuses the token: copy the bot's own once more (docs/discord.md) into VISAVIS_DISCORD_TOKEN."
NO_INTENT = "Discord refuses an intent: switch on Message Content for the bot, or off VISAVIS_DISCORD_MESSAGE_CONTENT."


class DiscordClient(discord.Client):
    """Hears of everything, keeps nothing of it."""

    def __init__(self, desk: Desk, settings: Settings) -> None:
        ask_for_no_voice()
        intents = discord.Intents(guilds=True, guild_messages=True, dm_messages=True)
        intents.message_content = settings.discord_message_content
        shard, _, count = settings.discord_shard.partition("/")
        super().__init__(
            intents=intents,
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            max_ratelimit_timeout=LONGEST_LIMIT_S,
            shard_id=int(shard),
            shard_count=int(count),
        )
        self.has_begun = asyncio.Event()
        self._api_url = settings.discord_api_url
        self._desk = desk
        self._commands = make_commands(self, desk)

    async def setup_hook(self) -> None:
        """Between the login and the gateway."""
        http: Any = self.http
        http._HTTPClient__session._timeout = aiohttp.ClientTimeout(total=CALL_S)
        if self._api_url is not None:
            gateway = str((await self.http.request(Route("GET", "/gateway")))["url"])
            check_address(gateway)
            DiscordWebSocket.DEFAULT_GATEWAY = URL(gateway)
        await self._commands.sync()

    async def on_connect(self) -> None:
        """The gateway has let us in."""
        self.has_begun.set()

    async def on_message(self, message: discord.Message) -> None:
        """Any message that the intents let through."""
        if self.user is not None:
            await self._desk.hear(message, self.user.id)

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        """Buttons; commands go to the tree."""
        if interaction.type is discord.InteractionType.component:
            await self._desk.press(interaction)


class DiscordPlatform:
    """As in `Platform`, over whichever client is logged in."""

    name = NAME
    message_limit = 1_950  # of 2,000: links get brackets
    edit_interval_s = 1.2

    def __init__(self, settings: Settings) -> None:
        self.client: discord.Client | None = None
        self._hosts = [*FILE_HOSTS, *settings.discord_file_hosts]

    def reply(self, incoming: Incoming) -> DiscordReply:
        """As in `Platform`."""
        return DiscordReply(self._client, incoming)

    async def own_files(self, incoming: Incoming) -> Sequence[FileLink]:
        """None: they come with the message."""
        return ()

    async def more_files(self, incoming: Incoming) -> Sequence[FileLink]:
        """None: what belongs to a question comes with it."""
        return ()

    async def fetch(self, file: FileLink, limits: ImageLimits) -> bytes:
        """By its signed link, without a token; a link that has ended is made anew where there is a message to ask."""
        try:
            return await fetch_file(file.url, limits, hosts=self._hosts)
        except BadImage:
            fresh = await self._fresh_link(file)
            if fresh is None:
                raise
            return await fetch_file(fresh, limits, hosts=self._hosts)

    async def _fresh_link(self, file: FileLink) -> str | None:
        source = file.id.split("/")
        if len(source) != 3:
            return None
        channel, message, id = map(int, source)
        with platform_errors():
            found = await self._client().get_partial_messageable(channel).fetch_message(message)
        return next((one.url for one in found.attachments if one.id == id and one.url != file.url), None)

    def _client(self) -> discord.Client:
        if self.client is None:
            raise PlatformError("Discord has not let us in yet.")
        return self.client


class DiscordService:
    """As in `Service`."""

    def __init__(self, settings: Settings, conversations: Conversations) -> None:
        if not settings.discord_token:
            raise SetupError(NO_TOKEN)
        check_address(settings.discord_api_url)
        self._settings = settings
        self._token = settings.discord_token
        self._platform = DiscordPlatform(settings)
        channel = conversations.store.channel(NAME)
        self.adapter = Adapter(self._platform, conversations.manager, channel)
        self._desk = Desk(self.adapter, GuildPreferences(channel), follows=settings.discord_message_content)
        self._client: DiscordClient | None = None
        self._listening: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Log in and listen; a gateway that is away is tried again behind the scenes."""
        client = await self._log_in()
        self._listening = asyncio.create_task(self._listen(client))
        begun = asyncio.create_task(client.has_begun.wait())
        await asyncio.wait([self._listening, begun], timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if self._listening.done():
            await self._listening

    async def disconnect(self) -> None:
        """As in `Service`: the HTTP side stays open."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._client is not None and self._client.ws is not None:
            await self._client.ws.close(code=1000)

    async def aclose(self) -> None:
        """As in `Service`."""
        await self.disconnect()
        if self._client is not None:
            await self._client.close()

    async def _log_in(self) -> DiscordClient:
        if self._settings.discord_api_url is not None:
            Route.BASE = self._settings.discord_api_url.rstrip("/")
        client = DiscordClient(self._desk, self._settings)
        try:
            with platform_errors():
                async with asyncio.timeout(READY_S):
                    await client.login(self._token)
        except discord.LoginFailure:
            await client.close()
            raise SetupError(BAD_TOKEN) from None
        except BaseException:
            await client.close()
            raise
        self._platform.client = self._client = client
        return client

    async def _listen(self, client: DiscordClient) -> None:
        """For ever; raises `SetupError` when it could not begin."""
        while True:
            try:
                await client.connect()
            except (discord.PrivilegedIntentsRequired, discord.ConnectionClosed) as error:
                failure = _setup_error(error)
                if not client.has_begun.is_set():
                    raise failure from None
                log.error("Discord has sent us away: %s", failure)
                await client.close()
            except Exception:  # discord.py trips over a gateway that was never there
                log.warning("the gateway of Discord is away; it is tried again", exc_info=True)
            await asyncio.sleep(_AGAIN_S if client.is_closed() else 1.0)
            if client.is_closed():
                client = await self._logged_in_again(client)

    async def _logged_in_again(self, client: DiscordClient) -> DiscordClient:
        try:
            return await self._log_in()
        except (SetupError, PlatformError) as error:
            log.error("%s", error)
            return client


def check_address(url: str | None) -> None:
    """Raises `SetupError` for one that tokens must not be sent to."""
    if url is not None and not keeps_tokens(url):
        raise SetupError("VISAVIS_DISCORD_API_URL: expected an address with https, for the token is sent there.")


def ask_for_no_voice() -> None:
    """discord.py would complain of libraries that only voice needs."""
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False


def _setup_error(error: discord.PrivilegedIntentsRequired | discord.ConnectionClosed) -> SetupError:
    if isinstance(error, discord.PrivilegedIntentsRequired):
        return SetupError(NO_INTENT)
    if error.code == 4004:
        return SetupError(BAD_TOKEN)
    return SetupError(f"Discord closes the gateway with code {error.code} (docs/discord.md).")
