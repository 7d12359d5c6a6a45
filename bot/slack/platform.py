"""Slack as the core sees it: where answers go, and how the files of a thread are found and fetched."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from slack_sdk.web.async_client import AsyncWebClient

from visavis.bot.adapters.files import WebPage, check_file, fetch_file
from visavis.bot.adapters.platform import FileLink, Incoming, Limited, NotPermitted, PlatformError
from visavis.bot.slack.calls import SlackRefused, answer, thread_messages
from visavis.bot.slack.messages import MESSAGE_LIMIT, file_link, file_links
from visavis.bot.slack.reply import SlackReply
from visavis.dialogue.limits import ImageLimits

log = logging.getLogger(__name__)

_MOST_PAGES = 5
_WINDOWS_S = (300, 3_600, 86_400, 30 * 86_400)  # of a thread that is too long to be read whole
_NO_PERMISSION = (
    "Slack does not let me read files here: the app lacks the permission `files:read`. Whoever set it up can add it "
    "under OAuth & Permissions and reinstall the app."
)


class SlackPlatform:
    """As `platform.Platform` says; Slack takes about one message a second and channel."""

    name = "slack"
    message_limit = MESSAGE_LIMIT
    edit_interval_s = 1.2

    def __init__(self, client: AsyncWebClient, token: str, api_url: str) -> None:
        self.bot_user = ""
        self._client = client
        self._token = token
        api = urlsplit(api_url)
        domain = (api.hostname or "").removeprefix("www.")
        below = [f"https://*.{domain}"] if api.scheme == "https" else []
        self._hosts = [f"{api.scheme}://{api.netloc}", *below]

    def reply(self, incoming: Incoming) -> SlackReply:
        return SlackReply(self._client, incoming)

    async def own_files(self, incoming: Incoming) -> Sequence[FileLink]:
        """A mention is told of twice, and only one of the events has the message's files: either may come first."""
        address = incoming.address
        if incoming.is_private or not {"thread", "ts"} <= address.keys():
            return ()
        own = [one for one in await self._messages(address) if one.get("ts") == address["ts"]]
        return file_links(own[0].get("files") or ()) if own else ()

    async def more_files(self, incoming: Incoming) -> Sequence[FileLink]:
        """Pictures that people have posted in the thread since our latest answer. In a direct message, all of them have
        come to us already."""
        address = incoming.address
        if incoming.is_private or not address.get("thread") or address["thread"] == address["ts"]:
            return ()
        messages = await self._messages(address)
        found: list[FileLink] = []
        for message in messages:
            if message.get("user") == self.bot_user or message.get("bot_id"):
                found = [] if message.get("user") == self.bot_user else found
            elif message.get("ts") != address["ts"]:
                found += [file for file in file_links(message.get("files") or ()) if _may_be_picture(file)]
        return found

    async def fetch(self, file: FileLink, limits: ImageLimits) -> bytes:
        """With the token, from Slack's own hosts only."""
        try:
            if not file.url:
                told = await answer(self._client.files_info(file=file.id))
                file = file_link(told["file"])
                check_file(file, limits)
            headers = {"Authorization": f"Bearer {self._token}"}
            return await fetch_file(file.url, limits, hosts=self._hosts, headers=headers)
        except WebPage:  # Slack's way to say that the token may not read files, with status 200
            raise NotPermitted(_NO_PERMISSION) from None
        except SlackRefused as error:
            if error.code == "missing_scope":
                raise NotPermitted(_NO_PERMISSION) from None
            raise

    async def _messages(self, address: dict[str, str]) -> list[Any]:
        """Those of the thread up to this one; none where they cannot be read. Raises `Limited`."""
        try:
            return await self._thread(address["channel"], address["thread"], address["ts"])
        except Limited:
            raise
        except PlatformError as error:
            log.warning("the thread of a question cannot be read: %s", error)
            return []

    async def _thread(self, channel: str, thread: str, latest: str) -> list[Any]:
        """Slack gives the oldest messages first. Of a long thread, those that are near: further back until there is
        something of ours, as long as that can be read."""
        where = {"channel": channel, "ts": thread, "latest": latest, "inclusive": True}
        messages, is_whole = await thread_messages(self._client, where, _MOST_PAGES)
        if is_whole:
            return messages
        for window_s in _WINDOWS_S:
            near = {**where, "oldest": f"{float(latest) - window_s:.6f}"}
            found, is_whole = await thread_messages(self._client, near, _MOST_PAGES)
            messages = found if is_whole or window_s == _WINDOWS_S[0] else messages
            if not is_whole or any(one.get("user") == self.bot_user for one in found):
                break
        return messages


def _may_be_picture(file: FileLink) -> bool:
    return not file.mime or file.mime.startswith("image/")
