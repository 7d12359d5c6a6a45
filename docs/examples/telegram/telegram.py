"""A third platform on the core of the adapters: Telegram, by long polling. Start it beside `visavis serve`:

    TELEGRAM_TOKEN=123:abc VISAVIS_REDIS_URL=redis://... VISAVIS_MODEL_URL=http://... python telegram.py

Two conversions are all there is: an update of Telegram's -> `Incoming`, and text -> its messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from typing import Any

import httpx

from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.files import fetch_file
from visavis.bot.adapters.platform import FileLink, Incoming, Limited, Outcome, PlatformError, Refused
from visavis.bot.adapters.process import SetupError, main
from visavis.bot.conversations import Conversations
from visavis.bot.settings import Settings
from visavis.dialogue.errors import RateLimited
from visavis.dialogue.limits import ImageLimits

log = logging.getLogger(__name__)
POLL_S = 30


class Api:
    """Telegram's Bot API: its errors as the core knows them."""

    def __init__(self, token: str, url: str) -> None:
        self.url, self.token = url, token
        self.http = httpx.AsyncClient(timeout=POLL_S + 10)

    async def call(self, method: str, **arguments: Any) -> Any:
        try:
            response = await self.http.post(f"{self.url}/bot{self.token}/{method}", json=arguments)
            told = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise PlatformError(f"Telegram does not answer ({type(error).__name__})") from None
        if told.get("ok"):
            return told["result"]
        code, why = told.get("error_code", 500), str(told.get("description"))
        if code == 429:
            raise Limited(float(told.get("parameters", {}).get("retry_after", 5)))
        raise PlatformError(why) if code in (409, 500, 502, 503) else Refused(why)


class TelegramReply:
    """One answer in a chat: a message a part, edited while it grows."""

    def __init__(self, api: Api, incoming: Incoming) -> None:
        self.state = dict(incoming.state)
        self._api = api
        self._chat = int(incoming.address["chat"])
        self._to = {"message_id": int(incoming.address["message"]), "allow_sending_without_reply": True}

    @property
    def posts(self) -> Sequence[str]:
        return [f"{self._chat}:{message}" for message in self.state.values()]

    async def status(self, text: str) -> None:
        await self._api.call("sendChatAction", chat_id=self._chat, action="typing")

    async def open(self) -> str:
        return ""

    async def put(self, part: int, text: str, outcome: Outcome | None) -> None:
        message = self.state.get(str(part))
        quiet = {"link_preview_options": {"is_disabled": True}}
        if message is None:
            sent = await self._api.call(
                "sendMessage",
                chat_id=self._chat,
                text=text,
                reply_parameters=self._to,
                disable_notification=True,
                **quiet,
            )
            self.state[str(part)] = str(sent["message_id"])
            return
        try:
            await self._api.call("editMessageText", chat_id=self._chat, message_id=int(message), text=text, **quiet)
        except Refused as error:
            if "not modified" not in str(error):
                raise


class TelegramPlatform:
    name, message_limit, edit_interval_s = "telegram", 4_000, 3.0  # twenty messages a minute in a group

    def __init__(self, api: Api) -> None:
        self._api = api

    def reply(self, incoming: Incoming) -> TelegramReply:
        return TelegramReply(self._api, incoming)

    async def own_files(self, incoming: Incoming) -> Sequence[FileLink]:
        return ()

    async def more_files(self, incoming: Incoming) -> Sequence[FileLink]:
        return ()

    async def fetch(self, file: FileLink, limits: ImageLimits) -> bytes:
        path = (await self._api.call("getFile", file_id=file.id))["file_path"]
        url = f"{self._api.url}/file/bot{self._api.token}/{path}"
        return await fetch_file(url, limits, hosts=[self._api.url])


def incoming_update(update: dict[str, Any]) -> Incoming | None:
    """A message of a person; a chat is a conversation."""
    message = update.get("message") or {}
    sender, chat = message.get("from") or {}, message.get("chat") or {}
    if not sender or sender.get("is_bot"):
        return None
    photo = max(message.get("photo") or (), key=lambda size: size["width"], default=None)
    document = message.get("document")
    found = [FileLink("", id=file["file_id"], size=file.get("file_size", 0)) for file in (photo, document) if file]
    return Incoming(
        id=f"{chat['id']}:{message['message_id']}",
        place=str(chat["id"]),
        person=f"telegram:{sender['id']}",
        channel=str(chat["id"]),
        text=message.get("text") or message.get("caption") or "",
        files=tuple(found),
        is_private=chat.get("type") == "private",
        address={"chat": str(chat["id"]), "message": str(message["message_id"])},
    )


class TelegramService:
    """Fetches updates; one is confirmed (by asking for the next) when the store has it."""

    def __init__(self, settings: Settings, conversations: Conversations) -> None:
        self._api = Api(os.environ["TELEGRAM_TOKEN"], os.environ.get("TELEGRAM_URL", "https://api.telegram.org"))
        self.adapter = Adapter(
            TelegramPlatform(self._api), conversations.manager, conversations.store.channel("telegram")
        )
        self._polling: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        try:
            await self._api.call("getMe")
        except Refused as error:
            raise SetupError(f"Telegram refuses the token: {error}.") from None
        self._polling = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        offset = 0
        while True:
            try:
                for update in await self._api.call("getUpdates", offset=offset, timeout=POLL_S):
                    await self._hear(update)
                    offset = update["update_id"] + 1
            except Limited as error:
                await asyncio.sleep(error.retry_after_s)
            except Exception as error:
                log.warning("updates are asked for again: %s", error)
                await asyncio.sleep(1)

    async def _hear(self, update: dict[str, Any]) -> None:
        try:
            incoming = incoming_update(update)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # one that is not as documented
            return log.error("an update cannot be read: %r", error)
        with contextlib.suppress(RateLimited):  # too many wait in that chat
            await self.adapter.accept(incoming) if incoming else None

    async def disconnect(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._polling

    async def aclose(self) -> None:
        await self.disconnect()
        await self._api.http.aclose()


if __name__ == "__main__":
    main(TelegramService)
