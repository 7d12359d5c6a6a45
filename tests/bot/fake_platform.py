"""A platform that is a list of messages, and does to the adapter what real ones do: limits, outages, refusals."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripted_chat_model import ScriptedChatModel

from visavis.bot.adapters.adapter import Adapter
from visavis.bot.adapters.platform import Ending, FileLink, Incoming, Limited, Outcome, PlatformError
from visavis.bot.conversations import Conversations
from visavis.bot.settings import Settings
from visavis.dialogue.limits import ImageLimits


@dataclass
class FakePlatform:
    name: str = "fake"
    message_limit: int = 200
    edit_interval_s: float = 0.01
    files: dict[str, bytes] = field(default_factory=dict)
    earlier: list[FileLink] = field(default_factory=list)
    fetch_pause_s: dict[str, float] = field(default_factory=dict)
    faults: list[PlatformError] = field(default_factory=list)
    cold_until: float = 0.0
    too_early: int = 0  # calls before the end of a limit
    messages: dict[str, str] = field(default_factory=dict)
    endings: dict[str, Outcome] = field(default_factory=dict)
    puts: list[tuple[str, bool]] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def reply(self, incoming: Incoming) -> "FakeReply":
        return FakeReply(self, incoming)

    async def own_files(self, incoming: Incoming) -> Sequence[FileLink]:
        return ()

    async def more_files(self, incoming: Incoming) -> Sequence[FileLink]:
        return self.earlier

    async def fetch(self, file: FileLink, limits: ImageLimits) -> bytes:
        await asyncio.sleep(self.fetch_pause_s.get(file.url, 0))
        if file.url not in self.files:
            raise PlatformError("no such file")
        return self.files[file.url]

    async def answered(self, id: str) -> str:
        """The whole answer to a message, when it has ended."""
        async with asyncio.timeout(60):
            while id not in self.endings:
                self.ended.clear()
                await self.ended.wait()
        return "\n".join(text for key, text in self.messages.items() if key.startswith(f"{id}/")).strip()


@dataclass
class FakeReply:
    platform: FakePlatform
    incoming: Incoming
    state: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.state = dict(self.incoming.state)

    @property
    def posts(self) -> list[str]:
        return list(self.state.values())

    async def status(self, text: str) -> None:
        self.platform.statuses.append(text)

    async def open(self) -> str:
        return ""

    async def put(self, part: int, text: str, outcome: Outcome | None) -> None:
        platform = self.platform
        now = asyncio.get_running_loop().time()
        platform.too_early += now < platform.cold_until
        if platform.faults:
            fault = platform.faults.pop(0)
            platform.cold_until = now + fault.retry_after_s - 0.01 if isinstance(fault, Limited) else 0.0
            raise fault
        assert len(text) <= platform.message_limit
        post = self.state.setdefault(str(part), f"{self.incoming.id}/{part}")
        platform.messages[post] = text
        has_ended = outcome is not None and outcome.ending is not Ending.MORE
        platform.puts.append((text, has_ended))
        if outcome is not None and has_ended:
            platform.endings[self.incoming.id] = outcome
            platform.ended.set()


@contextlib.asynccontextmanager
async def running(
    settings: Settings, platform: FakePlatform, model: ScriptedChatModel | None = None
) -> AsyncIterator[tuple[Adapter, Conversations]]:
    conversations = Conversations(settings, model or ScriptedChatModel())
    adapter = Adapter(platform, conversations.manager, conversations.store.channel(platform.name))
    async with conversations, adapter:
        yield adapter, conversations


async def settled(adapter: Adapter) -> None:
    await until(lambda: not adapter._tasks)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - there is no event of it
            await asyncio.sleep(0.01)


def message(id: str = "m1", text: str = "what is this?", **more: Any) -> Incoming:
    fields: dict[str, Any] = {"place": "room", "person": "fake:ann", "channel": "c", "text": text, "events": (id,)}
    return Incoming(id, **{**fields, **more})
