"""`visavis slack --check`: asks Slack whether the tokens work and the app has its permissions. Changes nothing."""

from __future__ import annotations

from visavis.bot.adapters.platform import PlatformError
from visavis.bot.adapters.process import SetupError
from visavis.bot.settings import Settings
from visavis.bot.slack.calls import answer, web_client
from visavis.bot.slack.service import check_tokens, identify

SCOPES = {
    "app_mentions:read": "questions that mention it",
    "assistant:write": "the assistant's view: status and suggested prompts",
    "channels:history": "threads in channels, and the pictures in them",
    "chat:write": "answers",
    "commands": "the slash command and the shortcut",
    "files:read": "pictures",
    "files:write": "heat maps",
    "groups:history": "threads in private channels",
    "im:history": "direct messages",
    "reactions:read": "thumbs as feedback",
}
"""What the app asks for (as `deploy/slack-manifest.yaml` does), and what would be missing without it."""

Finding = tuple[bool, str]


async def check_setup(settings: Settings) -> list[Finding]:
    """What is well and what is not, a sentence each."""
    try:
        check_tokens(settings)
    except SetupError as error:
        return [(False, str(error))]
    client = web_client(settings.slack_bot_token, settings.slack_api_url)
    try:
        identity = await identify(client)
        findings = [(True, f"bot token: {identity.get('user')} in {identity.get('team')}")]
    except PlatformError as error:
        return [(False, f"bot token: {error}")]
    granted = set(identity.bot_scopes or ())
    findings += [(scope in granted, f"scope {scope}: {purpose}") for scope, purpose in SCOPES.items()]
    if settings.slack_app_token is None:
        return [*findings, (True, "signing secret: it is there; only an event of Slack's can tell whether it fits")]
    try:
        await answer(client.apps_connections_open(app_token=settings.slack_app_token))
        return [*findings, (True, "app token: Socket Mode can be used")]
    except PlatformError as error:
        return [*findings, (False, f"app token: {error}; it needs the scope connections:write, the app Socket Mode")]
