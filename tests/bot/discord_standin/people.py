"""What people do on the pretended Discord, and what they see there."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

from discord_standin import shapes
from discord_standin.platform import Interaction, Platform
from discord_standin.rules import Json

CHAT, MENU, BUTTON = 2, 2, 3
STRING, ATTACHMENT, BOOLEAN, CHANNEL = 3, 11, 5, 7
PATIENCE_S = 60


class People:
    """Acts on a platform as somebody in front of it."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.anna = shapes.user("anna")
        self.bert = shapes.user("bert")

    def upload(self, data: bytes, name: str = "photo.png", content_type: str | None = "image/png") -> Json:
        """A file as it hangs at a message."""
        return self._platform.attach({}, name, data, content_type)

    def say(
        self, who: Json, channel: Json, text: str, files: list[Json] | None = None, reply_to: Json | None = None
    ) -> Json:
        """A message; `@bot` in it stands for a mention."""
        bot = self._platform.bot
        message = shapes.message(channel, who, text.replace("@bot", f"<@{bot['id']}>"))
        named = "@bot" in text or (reply_to is not None and reply_to["author"]["id"] == bot["id"])
        message |= {"attachments": files or [], "mentions": [bot | {"member": shapes.member()}] if named else []}
        if reply_to is not None:
            message |= {"type": 19, "referenced_message": reply_to}
            message["message_reference"] = {"message_id": reply_to["id"], "channel_id": channel["id"], "type": 0}
        self._platform.messages[message["id"]] = message
        self._platform.tell("MESSAGE_CREATE", message, channel)
        return message

    def repeat(self, message: Json) -> None:
        """The gateway tells of a message once more."""
        self._platform.tell("MESSAGE_CREATE", message, self._platform.channels[message["channel_id"]])

    def command(self, who: Json, place: Json, name: str, /, *, permissions: int = 0, **options: Any) -> Interaction:
        """A slash command that the bot has registered, with options that it has."""
        known = next(one for one in self._platform.commands if one["name"] == name and one["type"] == 1)
        kinds = {option["name"]: option["type"] for option in known.get("options") or []}
        missing = [
            one["name"] for one in known.get("options") or [] if one.get("required") and one["name"] not in options
        ]
        assert not missing, f"a person cannot leave out {missing}"
        resolved: dict[str, Json] = {}
        given = []
        for option, value in options.items():
            kind = kinds[option]
            if kind == ATTACHMENT:
                resolved.setdefault("attachments", {})[value["id"]] = value
            if kind == CHANNEL:
                resolved.setdefault("channels", {})[value["id"]] = value | {"permissions": "0"}
            sent = value["id"] if kind in (ATTACHMENT, CHANNEL) else value
            given.append({"name": option, "type": kind, "value": sent})
        data = {"id": known["id"], "name": name, "type": 1, "options": given, "resolved": resolved}
        return self._interact(who, place, CHAT, data, permissions)

    def menu(self, who: Json, channel: Json, name: str, message: Json) -> Interaction:
        """An entry of a message's menu."""
        known = next(one for one in self._platform.commands if one["name"] == name and one["type"] == 3)
        data = {"id": known["id"], "name": name, "type": 3, "target_id": message["id"]}
        return self._interact(who, channel, MENU, data | {"resolved": {"messages": {message["id"]: message}}})

    def press(self, who: Json, message: Json, label: str) -> Interaction:
        """A button that the message shows."""
        buttons = [button for row in message["components"] for button in row["components"]]
        button = next(one for one in buttons if one["label"] == label and not one.get("disabled"))
        data = {"custom_id": button["custom_id"], "component_type": 2}
        return self._interact(who, self._platform.channels[message["channel_id"]], BUTTON, data, message=message)

    def again(self, interaction: Interaction) -> None:
        """The gateway tells of an interaction once more."""
        self._platform.tell("INTERACTION_CREATE", interaction.event, interaction.channel)

    def _interact(
        self, who: Json, channel: Json, kind: int, data: Json, permissions: int = 0, message: Json | None = None
    ) -> Interaction:
        made = Interaction(shapes.snowflake(), secrets.token_hex(32), channel, kind, time.monotonic())
        made.original = message["id"] if message else None
        self._platform.interactions[made.token] = made
        about: Json = {"id": made.id, "application_id": self._platform.application["id"], "type": kind, "data": data}
        about |= {"token": made.token, "version": 1, "locale": "en-US", "entitlements": [], "channel": channel}
        about |= {"channel_id": channel["id"], "app_permissions": str(shapes.EVERYTHING), "context": 0}
        about |= {"authorizing_integration_owners": {}, "attachment_size_limit": 10 * 2**20}
        about |= {"message": message} if message else {}
        guild = channel.get("guild_id")
        if guild:
            about |= {"guild_id": guild, "guild": {"id": guild, "locale": "en-US", "features": []}}
            about |= {"member": shapes.member(permissions) | {"user": who}, "guild_locale": "en-US"}
        else:
            about |= {"user": who, "context": 1}
        made.event = about
        self._platform.tell("INTERACTION_CREATE", about, channel)
        return made

    def shown(self, channel: Json) -> list[Json]:
        """The bot's messages of a channel that everybody sees, oldest first."""
        bot = self._platform.bot["id"]
        found = [one for one in self._platform.messages.values() if one["channel_id"] == channel["id"]]
        return [one for one in found if one["author"]["id"] == bot and not one["flags"] & shapes.EPHEMERAL]

    def answer(self, interaction: Interaction) -> Json:
        """What stands in the place of an interaction's answer."""
        return self._platform.messages[str(interaction.original)]

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for something to be seen; gives what the condition gives."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = condition()
                if found:
                    return found
                await asyncio.sleep(0.01)
