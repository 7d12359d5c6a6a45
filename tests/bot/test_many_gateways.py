"""Several gateways as real processes on one store: any of them serves any conversation, and any may be killed."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_processes import GatewayProcess, gateways, model_server
from scripted_engine import ScriptedEngine
from wire_client import WireClient

WORDS = [f"word{number}" for number in range(40)]


@pytest.fixture
async def engine() -> ScriptedEngine:
    return ScriptedEngine(answer=" ".join(WORDS), pause_s=0.05)


@pytest.fixture
async def three(store_url: str, engine: ScriptedEngine, tmp_path: Path) -> AsyncIterator[list[GatewayProcess]]:
    async with model_server(engine, tmp_path / "m.sock") as model_url:
        environment = {"REDIS_URL": store_url, "MODEL_URL": model_url, "DATA_DIR": str(tmp_path), "LOG_LEVEL": "error"}
        async with gateways(3, {f"VISAVIS_{name}": value for name, value in environment.items()}) as started:
            yield started


async def test_sent_to_one_watched_from_another_cancelled_from_a_third(
    three: list[GatewayProcess], engine: ScriptedEngine
) -> None:
    ports, turn = [one.port for one in three], str(uuid.uuid4())
    sender, watcher, third = WireClient(ports), WireClient(ports), WireClient(ports)
    await sender.connect(ports[0])
    watcher.session = third.session = sender.session
    await sender.send(type="turn", id=turn, text="Tell me.")
    await sender.until("turn.delta")
    await watcher.connect(ports[1])
    await watcher.until("turn.delta")
    await third.connect(ports[2])
    await third.send(type="turn", id=str(uuid.uuid4()), text="And then?")
    assert (await third.until("turn.queued"))["position"] == 1
    await third.send(type="cancel", turn=turn)
    ends = [await one.until("turn.cancelled") for one in (sender, watcher, third)]
    assert len({str(end) for end in ends}) == 1, "all three saw the same end"
    assert 0 < len(ends[0]["text"].split()) < len(WORDS)
    await third.until("turn.completed")
    assert len(engine.asked) == 2
    for one in (sender, watcher, third):
        await one.close()
        assert one.problems == []


async def test_kill_9_in_mid_answer_is_one_whole_answer_for_who_watches_elsewhere_and_for_who_comes_back(
    three: list[GatewayProcess],
) -> None:
    ports, turn = [one.port for one in three], str(uuid.uuid4())
    sender, watcher = WireClient(ports[1:]), WireClient(ports)
    await sender.connect(ports[0])
    watcher.session = sender.session
    await sender.send(type="turn", id=turn, text="Tell me.")
    await sender.until("turn.delta")
    await watcher.connect(ports[1])
    await watcher.until("turn.delta")
    await three[0].kill()
    await sender.connect(ports[2], **sender.resume(turn))
    for one in (sender, watcher):
        await one.until("turn.restarted")
        end = await one.until("turn.completed")
        assert (end["attempt"], end["text"].split()) == (2, WORDS)
        one.compare((await one.connect())["turns"])
        assert one.problems == []
        await one.close()


@pytest.mark.slow
async def test_the_second_death_fails_the_turn_aloud(three: list[GatewayProcess], engine: ScriptedEngine) -> None:
    engine.pause_s = 1.0
    ports, turn = [one.port for one in three], str(uuid.uuid4())
    client = WireClient(ports)
    await client.connect(ports[0])
    await client.send(type="turn", id=turn, text="Tell me.")
    await client.until("turn.delta")
    await three[0].kill()
    await client.connect(ports[1], **client.resume(turn))
    await client.until("turn.restarted")
    await client.until("turn.delta")
    for one in three[1:]:
        await one.kill()
    await three[0].start()
    await client.connect(ports[0], **client.resume(turn))
    assert (await client.until("turn.failed"))["code"] == "model_error"
    assert len(engine.asked) == 2
    client.compare((await client.connect(ports[0]))["turns"])
    assert client.problems == []
    await client.close()


async def test_sigterm_lets_an_answer_end_then_closes_with_1012(
    three: list[GatewayProcess], engine: ScriptedEngine
) -> None:
    ports = [one.port for one in three]
    client, idle = WireClient(ports[1:]), WireClient(ports)
    await client.connect(ports[0])
    await idle.connect(ports[0])
    await client.send(type="turn", id=str(uuid.uuid4()), text="Tell me.")
    await client.until("turn.delta")
    ended = asyncio.create_task(three[0].terminate())
    await client.until("turn.completed")
    assert [await client.closed(), await idle.closed(), await ended] == [1012, 1012, 0]
    client.compare((await client.connect())["turns"])
    assert client.problems == [] and len(engine.asked) == 1
    await client.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_conversations_are_whole_while_gateways_die_and_connections_drop(
    three: list[GatewayProcess], seed: int
) -> None:
    chance = random.Random(seed)
    clients = [WireClient([one.port for one in three], chance) for _ in range(6)]

    async def talk(client: WireClient) -> None:
        await client.connect()
        for question in range(6):
            await client.ask(f"Question {question}?", drops=0.05)
        client.compare((await client.connect())["turns"])
        await client.close()

    deaths = asyncio.create_task(_die(three, chance))
    await asyncio.gather(*map(talk, clients))
    assert not deaths.done(), deaths
    deaths.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await deaths
    assert [client.problems for client in clients] == [[]] * len(clients)
    # A turn fails only aloud, after it was lost twice.
    ends = [end for client in clients for end in client.finals.values()]
    assert len(ends) == 36 and all(end["type"] == "turn.completed" or end["attempt"] == 3 for end in ends)


async def _die(processes: list[GatewayProcess], chance: random.Random) -> None:
    while True:
        await asyncio.sleep(chance.uniform(1, 4))
        victim = chance.choice(processes)
        await (victim.kill() if chance.random() < 0.7 else victim.terminate())
        await asyncio.sleep(chance.uniform(0, 1.5))
        await victim.start()
