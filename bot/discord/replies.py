"""Where an answer is shown on Discord: the message of an interaction and its follow-ups, or answers in the channel.

An interaction's token ends after a quarter of an hour; what is to be shown after that becomes a message of the channel.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import discord

from visavis.bot.adapters.platform import Incoming, Limited, Outcome, PlatformError, Refused, wait_told
from visavis.bot.discord.buttons import buttons
from visavis.bot.discord.conversions import without_previews

log = logging.getLogger(__name__)

TOKEN_IS_OVER = {10015, 10062, 50027}  # unknown webhook, unknown interaction, invalid webhook token
TOO_MANY_EDITS = 30046
ORIGINAL = "@original"
NOBODY = discord.AllowedMentions.none()
_BUSY_S = 5.0  # where a refusal does not say for how long


@contextlib.contextmanager
def platform_errors() -> Iterator[None]:
    """What discord.py raises, as the core's errors. Short limits it has waited out itself."""
    try:
        yield
    except discord.RateLimited as error:
        raise Limited(error.retry_after) from error
    except discord.HTTPException as error:
        if error.status == 429:
            raise Limited(wait_told(error.response.headers.get("Retry-After"), _BUSY_S)) from error
        raise (PlatformError if error.status >= 500 else Refused)(f"Discord: {error}") from error
    except (aiohttp.ClientError, OSError, TimeoutError, KeyError) as error:  # a field that discord.py looks for
        # What such an error says of itself may hold the request's headers, with the token.
        raise PlatformError(f"Discord does not answer: {type(error).__name__}") from None


class DiscordReply:
    """The messages of one answer. `state` has for each part the id of its message, as `channel/id` where it is edited
    without an interaction's token. `client` gives the one that is logged in, or raises `PlatformError`."""

    def __init__(self, client: Callable[[], discord.Client], incoming: Incoming) -> None:
        self._client = client
        self._incoming = incoming
        self._address = incoming.address
        self._until = float(incoming.address.get("until", "0"))
        self._is_private = "whisper" in incoming.address
        self._state = dict(incoming.state)
        self._told = ""
        self._original_is_gone = False

    @property
    def state(self) -> dict[str, str]:
        """As in `Reply`."""
        return self._state

    @property
    def posts(self) -> list[str]:
        """Ids of messages."""
        return [id.rpartition("/")[2] for id in self._state.values()]

    async def open(self) -> str:
        """Every question stands somewhere."""
        return ""

    async def status(self, text: str) -> None:
        """Shown in the place of the answer, with the button that stops it."""
        if text != self._told:
            await self._show(0, f"*{text}*", None)
            self._told = text

    async def put(self, part: int, text: str, outcome: Outcome | None) -> None:
        """As in `Reply`."""
        wants_one_reader = outcome is not None and outcome.private and self._incoming.can_whisper
        if wants_one_reader and not self._is_private and self._token_lives():
            return await self._whisper(text)
        await self._show(part, text, outcome)

    async def _show(self, part: int, text: str, outcome: Outcome | None) -> None:
        content = {"content": without_previews(text), "view": buttons(self._address["owner"], outcome)}
        shown = self._state.get(str(part)) or self._original(part)
        edited = await self._edit(shown, content) if shown else None
        self._state[str(part)] = edited or await self._post(part, content)
        if shown and not edited:
            await self._leave(shown)

    async def _leave(self, shown: str) -> None:
        """Take the buttons from a message that takes no more text: by the token, which may live a little longer, else
        as a message of the channel."""
        webhook: Any = self._webhook()
        ways = [] if "/" in shown else [webhook.edit_message]
        if shown.isdecimal() and not self._is_private:
            channel = self._client().get_partial_messageable(int(self._address["channel"]))
            ways.append(lambda id, view: channel.get_partial_message(int(id)).edit(view=view))
        for edit in ways:
            try:
                with platform_errors():
                    await edit(shown, view=None)
                return
            except PlatformError as error:
                log.info("a button stays below what takes no more text: %s", error)

    def _original(self, part: int) -> str | None:
        """The message that an interaction was acknowledged with, unless it is gone."""
        return None if part or self._original_is_gone else self._address.get("original")

    async def _edit(self, shown: str, content: dict[str, Any]) -> str | None:
        """Change a message; its id for `state`, None when it cannot be changed any more."""
        channel, _, id = shown.rpartition("/")
        with platform_errors():
            try:
                if channel:
                    message = self._client().get_partial_messageable(int(channel)).get_partial_message(int(id))
                    await message.edit(**content, allowed_mentions=NOBODY)
                    return shown
                if self._token_lives():
                    webhook: Any = self._webhook()
                    return str((await webhook.edit_message(id, **content, allowed_mentions=NOBODY)).id)
            except discord.HTTPException as error:
                if error.code not in {*TOKEN_IS_OVER, TOO_MANY_EDITS}:
                    raise
                self._until = 0 if error.code in TOKEN_IS_OVER else self._until
        return None

    async def _post(self, part: int, content: dict[str, Any]) -> str:
        """A new message; its id for `state`. In a channel, the same nonce again is the same message."""
        given = {name: value for name, value in content.items() if value is not None}
        options = given | {"allowed_mentions": NOBODY, "suppress_embeds": True}
        with platform_errors():
            if self._token_lives():
                sent = await self._webhook().send(**options, wait=True, ephemeral=self._is_private)
                return str(sent.id)
            target = await self._target()
            before = self._state.get(str(part), "").rpartition("/")[2]  # the message whose place it takes
            name = f"r{before}:{part}" if before.isdecimal() else f"{self._incoming.id}:{part}"
            message = await target.send(**options, **self._asked(), nonce=name)
            return f"{message.channel.id}/{message.id}"

    async def _target(self) -> discord.abc.Messageable:
        """Where a new message goes; what was for one person alone stays so."""
        if self._is_private:
            return await self._client().create_dm(discord.Object(int(self._incoming.person.rpartition(":")[2])))
        return self._client().get_partial_messageable(int(self._address["channel"]))

    async def _whisper(self, text: str) -> None:
        """To the person alone, in the place of an answer that all would have seen."""
        with platform_errors():
            webhook: Any = self._webhook()
            for shown in {*self._state.values(), self._original(0) or ""} - {""}:
                with contextlib.suppress(discord.NotFound):
                    await webhook.delete_message(shown)
            self._original_is_gone = True
            self._state.clear()
            await webhook.send(without_previews(text), wait=True, ephemeral=True, allowed_mentions=NOBODY)

    def _token_lives(self) -> bool:
        return time.time() < self._until

    def _webhook(self) -> discord.Webhook:
        """The route of an interaction's messages, made of nothing but its token: any process has that."""
        data: Any = {"id": int(self._address["application"]), "type": 3, "token": self._address["token"]}
        return discord.Webhook.from_state(data, state=self._client()._connection)

    def _asked(self) -> dict[str, Any]:
        """The message that is answered, where there is one that the readers can see."""
        id = self._address.get("asked") or self._address.get("original", ORIGINAL)
        if not id.isdecimal() or self._is_private:
            return {}
        channel = int(self._address["channel"])
        asked = discord.MessageReference(message_id=int(id), channel_id=channel, fail_if_not_exists=False)
        return {"reference": asked, "mention_author": False}
