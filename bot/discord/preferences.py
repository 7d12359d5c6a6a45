"""What the people who run a Discord server have chosen for it: who sees answers to commands, and where the bot answers.

Kept in the store, remembered here for a short while: a command must be acknowledged at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from visavis.dialogue.errors import StoreUnavailable
from visavis.dialogue.store_channels import ChannelStore

_REMEMBERED_S = 30.0
_PATIENCE_S = 1.0
_MOST_GUILDS = 10_000


@dataclass(frozen=True)
class Preferences:
    """`whisper`: commands are answered to who gave them alone. `channels`: ids; none means everywhere."""

    whisper: bool = False
    channels: frozenset[int] = frozenset()

    def allows(self, *channels: int | None) -> bool:
        """Whether one of them (a thread and its channel) is a place to answer in."""
        return not self.channels or not self.channels.isdisjoint(channels)


class GuildPreferences:
    """Those of all servers."""

    def __init__(self, store: ChannelStore) -> None:
        self._store = store
        self._known: OrderedDict[int, tuple[float, Preferences]] = OrderedDict()

    async def of(self, guild: int | None) -> Preferences:
        """A server's; while the store is away, what was last known. Where that is nothing, raises `StoreUnavailable`:
        what the server may have chosen is not passed over."""
        if guild is None:
            return Preferences()
        at, known = self._known.get(guild, (float("-inf"), None))
        if known is not None and time.monotonic() - at < _REMEMBERED_S:
            return known
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return self._remember(guild, _from_fields(await self._store.settings(str(guild))))
        except (StoreUnavailable, TimeoutError):
            if known is None:
                raise StoreUnavailable(
                    "The conversation store does not answer; please try again in a moment."
                ) from None
            return known

    async def choose(
        self, guild: int, *, whisper: bool | None, channel: int | None, answers_there: bool
    ) -> Preferences:
        """Change what is given; raises `StoreUnavailable`."""
        before = _from_fields(await self._store.settings(str(guild)))
        channels = before.channels
        if channel is not None:
            channels = channels | {channel} if answers_there else channels - {channel}
        after = Preferences(before.whisper if whisper is None else whisper, channels)
        fields = {"whisper": "yes" if after.whisper else "", "channels": ",".join(map(str, sorted(channels)))}
        await self._store.keep_settings(str(guild), fields)
        return self._remember(guild, after)

    def _remember(self, guild: int, preferences: Preferences) -> Preferences:
        self._known[guild] = (time.monotonic(), preferences)
        self._known.move_to_end(guild)
        while len(self._known) > _MOST_GUILDS:
            self._known.popitem(last=False)
        return preferences


def _from_fields(fields: dict[str, str]) -> Preferences:
    channels = fields.get("channels", "").split(",")
    return Preferences(bool(fields.get("whisper")), frozenset(int(id) for id in channels if id.isdecimal()))
