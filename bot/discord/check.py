"""What `visavis discord --check` asks of Discord: will token, intents and permissions do? It changes nothing there."""

from __future__ import annotations

import discord
from discord.http import Route

from visavis.bot.adapters.platform import PlatformError
from visavis.bot.adapters.process import SetupError
from visavis.bot.discord.replies import platform_errors
from visavis.bot.discord.service import BAD_TOKEN, NO_TOKEN, ask_for_no_voice, check_address
from visavis.bot.settings import Settings

Finding = tuple[bool, str]

PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    attach_files=True,
    read_message_history=True,
)
SCOPES = ("bot", "applications.commands")
_MOST_NAMED = 20


async def check_setup(settings: Settings) -> list[Finding]:
    """Each finding is whether it is well, and a sentence."""
    if not settings.discord_token:
        return [(False, NO_TOKEN)]
    try:
        check_address(settings.discord_api_url)
    except SetupError as error:
        return [(False, str(error))]
    if settings.discord_api_url is not None:
        Route.BASE = settings.discord_api_url.rstrip("/")
    ask_for_no_voice()
    client = discord.Client(intents=discord.Intents.none())
    try:
        async with client:
            with platform_errors():
                await client.login(settings.discord_token)
                return await _findings(client, settings)
    except discord.LoginFailure:
        return [(False, BAD_TOKEN)]
    except PlatformError as error:
        return [(False, f"{error}.")]


async def _findings(client: discord.Client, settings: Settings) -> list[Finding]:
    about = await client.application_info()
    findings: list[Finding] = [(True, f"The token is that of {client.user} (application {about.id}).")]
    if about.interactions_endpoint_url:
        findings.append((False, "An Interactions Endpoint URL is set: take it away, or no command arrives here."))
    if settings.discord_message_content:
        has = about.flags.gateway_message_content or about.flags.gateway_message_content_limited
        findings.append((has, f"The intent Message Content is switched {'on' if has else 'off in the portal'}."))
    limit = (await client.http.request(Route("GET", "/gateway/bot")))["session_start_limit"]
    findings.append(
        (limit["remaining"] > 0, f"{limit['remaining']} of {limit['total']} gateway sessions are left today.")
    )
    servers = await client.http.get_guilds(200, before=None, after=None, with_counts=False)
    findings += [_server(one["name"], discord.Permissions(int(one["permissions"]))) for one in servers[:_MOST_NAMED]]
    invitation = discord.utils.oauth_url(about.id, permissions=PERMISSIONS, scopes=SCOPES)
    findings.append((True, f"It is on {len(servers)} servers; invite it to another one: {invitation}"))
    return findings


def _server(name: str, granted: discord.Permissions) -> Finding:
    lacking = [one for one, wanted in PERMISSIONS if wanted and not getattr(granted, one)]
    lacking = [] if granted.administrator else lacking
    return (
        not lacking,
        f"On the server {name!r} it has " + (f"not: {', '.join(lacking)}." if lacking else "what it needs."),
    )
