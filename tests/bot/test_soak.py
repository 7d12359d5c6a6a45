"""Ten thousand turns over the real wire: what two gateways and the store hold afterwards, they held early on.

People come, show a picture, ask, forget their conversation and go. At the end of a round nobody is there, and what is
held then is compared; nothing is timed.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import astuple, dataclass
from io import BytesIO
from pathlib import Path

import pytest
from gateway_processes import GatewayProcess, gateways, model_server
from PIL import Image
from redis.asyncio import Redis
from scripted_engine import ScriptedEngine
from wire_client import WireClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc"),
]
ROUNDS, PEOPLE, CONVERSATIONS, TURNS = 5, 8, 10, 25  # of a round; together 10,000 turns
MIB = 2**20


@dataclass
class Held:
    """At rest: bytes of memory and descriptors of all gateways; keys of the store and bytes of its memory.

    Connections to the store are not counted: a gateway keeps as many as it once needed at the same moment, 32 at most.
    """

    resident: int
    descriptors: int
    keys: int
    store: int


@pytest.fixture
async def pair(store_url: str, tmp_path: Path) -> AsyncIterator[list[GatewayProcess]]:
    async with model_server(ScriptedEngine(), tmp_path / "m.sock") as model_url:
        variables = {"REDIS_URL": store_url, "MODEL_URL": model_url, "DATA_DIR": str(tmp_path), "LOG_LEVEL": "error"}
        variables |= {"TURNS_PER_MINUTE": "1000000", "IMAGES_PER_MINUTE": "1000000"}
        async with gateways(2, {f"VISAVIS_{name}": value for name, value in variables.items()}) as started:
            yield started


def png(chance: random.Random) -> bytes:
    data = BytesIO()
    Image.frombytes("RGB", (64, 48), chance.randbytes(64 * 48 * 3)).save(data, "PNG")
    return data.getvalue()


async def converse(ports: list[int], chance: random.Random) -> int:
    """One conversation from the first hello to its end; how many of its turns were answered."""
    person = WireClient(ports, chance)
    await person.connect()
    image = await person.show(png(chance))
    for number in range(TURNS):
        await person.ask(f"What is it, number {number}?", images=[image] if number == 0 else [])
    await person.send(type="forget")
    await person.until("forgotten")
    await person.close()
    assert person.problems == []
    return sum(final["type"] == "turn.completed" for final in person.finals.values())


async def hold(started: list[GatewayProcess], redis: Redis) -> Held:
    await asyncio.sleep(2)  # sockets close, and what is dropped is dropped
    info = await redis.info()
    resident = sum(one.resident_kib() * 1024 for one in started)
    descriptors = sum(one.descriptors() for one in started) - info["connected_clients"]
    return Held(resident, descriptors, await redis.dbsize(), info["used_memory"])


async def test_ten_thousand_turns_leave_nothing_behind(pair: list[GatewayProcess], store_url: str) -> None:
    ports, redis, held = [one.port for one in pair], Redis.from_url(store_url), []

    async def talk(seed: str) -> int:
        return sum([await converse(ports, random.Random(f"{seed} {number}")) for number in range(CONVERSATIONS)])

    for number in range(ROUNDS):
        answered = await asyncio.gather(*(talk(f"{number} {person}") for person in range(PEOPLE)))
        assert answered == [CONVERSATIONS * TURNS] * PEOPLE
        held.append(await hold(pair, redis))
        print(f"after {(number + 1) * PEOPLE * CONVERSATIONS * TURNS} turns: {held[-1]}")
    await redis.aclose()
    early, late = held[1], held[-1]
    resident, descriptors, keys, store = (
        after - before for before, after in zip(astuple(early), astuple(late), strict=True)
    )
    assert keys <= 0, held
    assert descriptors <= 8, held  # some to the model server are kept for the next question
    assert resident < 6 * MIB, held
    assert store < MIB, held
