"""Ten thousand turns in one conversation, ten thousand conversations: nothing grows but what is counted and capped."""

import asyncio
import gc
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_chat_model import FakeChatModel
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from store_servers import start_valkey
from test_manager import collect, command, png

from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import Store
from visavis.dialogue.store_client import session_keys

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MANY = 10_000
SESSIONS_AT_ONCE = 16  # fewer than connections to the store


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    """One kind of server is enough here."""
    with tempfile.TemporaryDirectory(prefix="vv") as folder:
        yield from start_valkey(Path(folder))


class Forgetful(FakeChatModel):
    """Keeps only the last question, so that what grows is the product's own; tells how much it was asked."""

    most_messages: int = 0

    async def _astream(self, messages: Any, *args: Any, **kw: Any) -> Any:
        self.asked.clear()
        self.options.clear()
        self.most_messages = max(self.most_messages, len(messages))
        async for chunk in super()._astream(messages, *args, **kw):
            yield chunk


class Wire:
    """Counts bytes and commands that go to the store and come back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands = self.bytes = 0
        send = AbstractConnection.send_packed_command

        async def count(connection: AbstractConnection, packed: Any, *args: Any, **kw: Any) -> Any:
            self.commands += 1
            self.bytes += len(packed) if isinstance(packed, bytes) else sum(map(len, packed))
            return await send(connection, packed, *args, **kw)

        monkeypatch.setattr(AbstractConnection, "send_packed_command", count)

    def taken(self) -> tuple[int, int]:
        taken, self.commands, self.bytes = (self.commands, self.bytes), 0, 0
        return taken


async def kept_bytes(redis: Redis, session: str) -> int:
    return sum([await redis.memory_usage(key, samples=0) or 0 for key in session_keys(session)])


async def answered_bytes(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_net_output_bytes"])


async def test_ten_thousand_turns_in_one_conversation_cost_the_same_each(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model = Store(redis), Forgetful()
    wire, figures = Wire(monkeypatch), []
    manager = DialogueManager(store, model)
    session = await manager.new_session("web:a")
    image = (await manager.add_image(session, png())).sha256
    for block in range(4):
        for number in range(MANY // 4):
            images = (image,) if number % 100 == 0 else ()
            await collect(manager.run_turn(session, command(f"What is it, number {number % 100:02}?", images=images)))
        gc.collect()
        wire.taken()
        before = await answered_bytes(redis)
        for _ in range(20):
            await collect(manager.run_turn(session, command("What is it, number 00?")))
        back = await answered_bytes(redis) - before
        figures.append((*wire.taken(), back, await kept_bytes(redis, session), len(gc.get_objects())))
        print(f"after {(block + 1) * MANY // 4}: commands, bytes out, bytes back, bytes kept, objects: {figures[-1]}")
    second, last = figures[1], figures[-1]
    assert all(late <= 1.1 * early for early, late in zip(second[1:4], last[1:4], strict=True)), figures
    assert last[0] <= second[0] + 20
    assert last[4] - second[4] < 500, "the process keeps nothing of a turn that has ended"
    assert model.most_messages <= 2 * 8 + 1
    page = await manager.history(session, limit=200)
    assert page.more and len(page.exchanges) == 100
    assert page.exchanges[-1].answer.images == (image,), "what was shown ten thousand turns ago is still talked about"
    await manager.persons.forget("web:a")
    assert await redis.keys() == []


async def test_ten_thousand_conversations_of_a_person_are_listed_and_forgotten(store: Store, redis: Redis) -> None:
    manager = DialogueManager(store, Forgetful())
    at_once = asyncio.Semaphore(SESSIONS_AT_ONCE)

    async def talk(number: int) -> None:
        async with at_once:
            session = await manager.new_session("web:a")
            image = (await manager.add_image(session, png("red" if number % 2 else "blue"))).sha256
            await collect(manager.run_turn(session, command(images=(image,))))

    for _ in range(0, MANY, 1_000):
        await asyncio.gather(*map(talk, range(1_000)))
    assert manager.running_turns == 0 and len(manager.turns._logs._logs) == 0
    assert len(await manager.persons.sessions("web:a")) == 200
    stranger = await manager.new_session("web:b")
    await collect(manager.run_turn(stranger, command(str(uuid.uuid4()))))
    receipt = await manager.persons.forget("web:a")
    assert (receipt.sessions, receipt.turns, receipt.images) == (MANY, 2 * MANY, 2)
    left = {key.decode() for key in await redis.keys()}
    assert all(stranger in key or key in ("visavis:person:web:b", "visavis:active") for key in left), left
    await manager.forget(stranger)
    assert await redis.keys() == []
