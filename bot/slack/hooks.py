"""Words to one person alone by a `response_url`, which works where the app itself is not."""

from __future__ import annotations

from slack_sdk.webhook.async_client import AsyncWebhookClient

from visavis.bot.adapters.platform import Limited, PlatformError, wait_told
from visavis.bot.slack.calls import TIMEOUT_S, USUAL_WAIT_S, SlackRefused, Unclear
from visavis.bot.slack.messages import END, blocks, fallback


async def respond(url: str, text: str) -> None:
    """Raises `Limited`, `SlackRefused`, `Unclear`, `PlatformError`."""
    hook = AsyncWebhookClient(url, timeout=TIMEOUT_S, retry_handlers=[])
    try:
        told = await hook.send(text=fallback(text), blocks=blocks(text, END), response_type="ephemeral")
    except Exception as error:  # the library lets through whatever its HTTP client raises
        raise Unclear(f"Slack does not answer ({type(error).__name__})") from None
    if told.status_code == 429:
        raise Limited(wait_told(told.headers.get("Retry-After"), USUAL_WAIT_S))
    if told.status_code >= 500:
        raise PlatformError(f"Slack cannot do it now ({told.status_code})")
    if told.status_code != 200:
        raise SlackRefused(str(told.body)[:60])
