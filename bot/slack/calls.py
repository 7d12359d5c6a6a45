"""Calls of Slack's Web API: one client, and its many ways to fail as the few that the core knows."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from visavis.bot.adapters.platform import Limited, PlatformError, Refused, wait_told

TIMEOUT_S = 20
_PAGE, _MOST_PAGES = 200, 5
USUAL_WAIT_S = 30.0  # when a limit does not say how long
_LIMITS = ("ratelimited", "rate_limited", "message_limit_exceeded")
_PASSING = ("internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org")


class SlackRefused(Refused):
    """Slack's error code, and for `missing_scope` the permission that is missing."""

    def __init__(self, code: str, needed: str = "") -> None:
        super().__init__(f"Slack refuses it: {code}" + (f" ({needed})" if needed else ""))
        self.code = code
        self.needed = needed


class Unclear(PlatformError):
    """Nobody knows whether the call has been carried out: there was no answer, or Slack broke down on it."""


class CarefulClient(AsyncWebClient):
    """Makes each call once, for what to do after a failure depends on the call; and none before the time that Slack has
    told for its method, to whichever answer."""

    def __init__(self, token: str | None, url: str, session: aiohttp.ClientSession | None) -> None:
        super().__init__(token=token, base_url=url, timeout=TIMEOUT_S, session=session, retry_handlers=[])
        self._cold_until: dict[str, float] = {}

    async def api_call(self, api_method: str, **arguments: Any) -> AsyncSlackResponse:
        """As the library's. Raises `Limited`, too."""
        wait_s = self._cold_until.get(api_method, 0.0) - time.monotonic()
        if wait_s > 0:
            raise Limited(wait_s)
        try:
            return await super().api_call(api_method, **arguments)
        except SlackApiError as error:
            reason = _reason(error)
            if isinstance(reason, Limited):
                self._cold_until[api_method] = time.monotonic() + reason.retry_after_s
            raise


def web_client(token: str | None, url: str, session: aiohttp.ClientSession | None = None) -> AsyncWebClient:
    """A client for `answer`."""
    return CarefulClient(token, url, session)


async def answer(call: Awaitable[AsyncSlackResponse]) -> AsyncSlackResponse:
    """What Slack says to a call.

    Raises:
        Limited, SlackRefused. Unclear: it may work later.
    """
    try:
        return await call
    except SlackApiError as error:
        raise _reason(error) from None  # the response may hold what people say
    except (aiohttp.ClientError, TimeoutError, OSError, SlackClientError) as error:
        raise Unclear(f"Slack does not answer ({type(error).__name__})") from None


def _reason(error: SlackApiError) -> PlatformError:
    response: Any = error.response
    data: Any = response.data if isinstance(response, AsyncSlackResponse) else response
    status = getattr(response, "status_code", 200)
    code = str(data.get("error") or "") if isinstance(data, dict) else ""
    if status == 429 or code in _LIMITS:
        return Limited(_retry_after(getattr(response, "headers", {})))
    if not code or status >= 500 or code in _PASSING:
        return Unclear(f"Slack cannot do it now ({code or status})")
    return SlackRefused(code, str(data.get("needed") or ""))


def _retry_after(headers: Any) -> float:
    told = next((value for name, value in dict(headers).items() if name.lower() == "retry-after"), None)
    return wait_told(told, USUAL_WAIT_S)


async def thread_messages(client: AsyncWebClient, where: dict[str, Any], most_pages: int) -> tuple[list[Any], bool]:
    """The first messages of a thread, and whether they are all there are; raises as `answer`."""
    messages: list[Any] = []
    cursor = None
    for _ in range(most_pages):
        page = await answer(client.conversations_replies(**where, limit=_PAGE, cursor=cursor))
        messages += page["messages"]
        cursor = (page.get("response_metadata") or {}).get("next_cursor") or None
        if cursor is None:
            return messages, True
    return messages, False


async def find_own(client: AsyncWebClient, where: dict[str, Any], texts: set[str], known: set[str]) -> str:
    """The name of a message of the app's in a thread that reads as one of `texts` and is none of `known`; empty if
    there is none. Raises `Limited`, `Unclear`."""
    try:
        messages, _ = await thread_messages(client, where, _MOST_PAGES)
    except SlackRefused:  # then it is not known
        return ""
    own = [one for one in messages if one.get("bot_id") and one.get("ts") not in known]
    return next((str(one["ts"]) for one in reversed(own) if str(one.get("text")).strip() in texts), "")
