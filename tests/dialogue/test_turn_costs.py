"""What a turn costs the store, counted on the connection: round trips, and how often its replay is written."""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_chat_model import FakeChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from redis.asyncio.connection import AbstractConnection
from test_manager import collect, command, png

from visavis.dialogue import store_branches as branches
from visavis.dialogue import store_scripts as scripts
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import Store

SCRIPTS = {
    hashlib.sha1(text.encode()).hexdigest(): text
    for module in (scripts, branches)
    for name, text in vars(module).items()
    if name.isupper() and isinstance(text, str)
}
"""The texts of the store's scripts by the hash that names them."""


@pytest.fixture
async def sent(monkeypatch: pytest.MonkeyPatch, store: Store) -> list[str]:
    """What is sent to the store, a round trip an item, with the texts of scripts for their names. It knows them all."""
    for script in (scripts.SUBMIT, scripts.CLAIM, scripts.RENEW, scripts.FINISH, branches.LOAD):
        await store._redis.script_load(script)
    sent: list[str] = []
    send = AbstractConnection.send_packed_command

    async def count(self: AbstractConnection, packed: Any, *args: Any, **kw: Any) -> Any:
        data = packed if isinstance(packed, bytes) else b"".join(packed)
        sent.append(
            re.sub("[0-9a-f]{40}", lambda found: SCRIPTS.get(found[0], found[0]), data.decode(errors="replace"))
        )
        return await send(self, packed, *args, **kw)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", count)
    return sent


@pytest.mark.parametrize("shows", [False, True], ids=["words", "a picture"])
async def test_a_turn_costs_two_round_trips_besides_lease_and_replay(
    store: Store, sent: list[str], shows: bool
) -> None:
    manager = DialogueManager(store, FakeChatModel(), policy=TurnPolicy())
    session = await manager.new_session("web:a")
    images = ((await manager.add_image(session, png())).sha256,) if shows else ()
    await collect(manager.run_turn(session, command(images=images)))
    for text in ("What is it?", "And the first one?"):
        sent.clear()
        await collect(manager.run_turn(session, command(text)))
        lease = [one for one in sent if scripts.RENEW in one]
        others = [one for one in sent if one not in lease]
        assert len(others) == 2 and scripts.SUBMIT in others[0] and scripts.FINISH in others[1], sent
        assert branches.LOAD in others[0], "it is claimed and the session read as it is sent"
        assert len(lease) <= 1


class Talkative(FakeChatModel):
    """Says a word every few milliseconds."""

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kw: Any) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(messages, *args, **kw):
            await asyncio.sleep(0.004)
            yield chunk


async def test_the_replay_is_written_ten_times_a_second_however_many_words_come(store: Store, sent: list[str]) -> None:
    manager = DialogueManager(store, Talkative(pieces=["word "] * 200), policy=TurnPolicy())
    session = await manager.new_session()
    started = time.monotonic()
    events = await collect(manager.run_turn(session, command()))
    passed_s = time.monotonic() - started
    written = [one for one in sent if scripts.RENEW in one or scripts.FINISH in one]
    assert len(events) == 202
    assert len(written) <= passed_s / 0.1 + 2
    assert len(written) < 100


async def test_a_replay_that_nobody_reads_is_written_twice_a_second(store: Store, sent: list[str]) -> None:
    manager = DialogueManager(store, Talkative(pieces=["word "] * 300), policy=TurnPolicy())
    session = await manager.new_session()
    started = time.monotonic()
    await collect(manager.run_turn(session, command()))
    passed_s = time.monotonic() - started
    assert len([one for one in sent if scripts.RENEW in one]) <= passed_s / 0.5 + 2


async def test_the_replays_of_turns_that_run_at_once_are_written_together(store: Store, sent: list[str]) -> None:
    manager = DialogueManager(store, Talkative(pieces=["word "] * 100), policy=TurnPolicy())
    sessions = [await manager.new_session() for _ in range(10)]
    started = time.monotonic()
    heard = await asyncio.gather(*(collect(manager.run_turn(session, command())) for session in sessions))
    passed_s = time.monotonic() - started
    assert all(len(events) == 102 for events in heard)
    written = [one for one in sent if scripts.RENEW in one]
    assert len(written) <= passed_s / 0.1 + 2
    assert max(one.count(scripts.RENEW) for one in written) >= len(sessions) / 2
