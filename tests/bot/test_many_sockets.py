"""A thousand sockets on one gateway: what an idle one costs, and that nothing is left by those that have gone."""

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from gateway_processes import GatewayProcess, gateways, model_server, until_healthy
from scripted_engine import ScriptedEngine
from websockets.asyncio.client import ClientConnection, connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SOCKETS = 1_000
ALLOWED_KIB = 10  # above a bare websocket
HELLO = json.dumps({"type": "hello", "version": 1})


@pytest.fixture
async def gateway(store_url: str, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with model_server(ScriptedEngine(), tmp_path / "m.sock") as model_url:
        environment = {"REDIS_URL": store_url, "MODEL_URL": model_url, "DATA_DIR": str(tmp_path), "LOG_LEVEL": "error"}
        async with gateways(1, {f"VISAVIS_{name}": value for name, value in environment.items()}) as [gateway]:
            yield gateway


async def open_sockets(port: int, count: int) -> list[ClientConnection]:
    at_once = asyncio.Semaphore(20)

    async def open_one() -> ClientConnection:
        async with at_once:
            address = f"ws://127.0.0.1:{port}/chat"
            client = await connect(address, compression=None, proxy=None, open_timeout=60, ping_interval=None)
            await client.send(HELLO)
            await client.recv()
            return client

    return list(await asyncio.gather(*(open_one() for _ in range(count))))


async def close_all(clients: list[ClientConnection]) -> None:
    await asyncio.gather(*(client.close() for client in clients))


async def cost_kib(process: GatewayProcess) -> float:
    """Of one idle socket, after a hundred that warmed the process up."""
    await close_all(await open_sockets(process.port, 100))
    before = process.resident_kib()
    clients = await open_sockets(process.port, SOCKETS)
    after = process.resident_kib()
    await close_all(clients)
    return (after - before) / SOCKETS


async def test_an_idle_conversation_costs_little_more_than_its_socket(gateway: GatewayProcess) -> None:
    bare = GatewayProcess({}, [sys.executable, str(Path(__file__).with_name("bare_server.py"))])
    await bare.start()
    await until_healthy(("127.0.0.1", bare.port))
    try:
        alone, ours = await cost_kib(bare), await cost_kib(gateway)
    finally:
        await bare.stop()
    print(f"an idle socket: {alone:.1f} KiB bare, {ours:.1f} KiB with a conversation")
    assert ours - alone <= ALLOWED_KIB


async def test_a_thousand_conversations_come_and_go_and_leave_nothing(gateway: GatewayProcess) -> None:
    held = []
    for _ in range(3):
        clients = await open_sockets(gateway.port, SOCKETS)
        at_once = asyncio.Semaphore(50)
        await asyncio.gather(*(_ask(client, at_once) for client in clients))
        await close_all(clients)
        await until(lambda: gateway.descriptors() < SOCKETS // 10)
        held.append(gateway.resident_kib())
    print(f"resident after each round: {held} KiB")
    assert held[2] - held[1] < 4 * 1024, "the second round cost what the first had taken; the third costs no more"


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if is_so():
                return
            await asyncio.sleep(0.1)


async def _ask(client: ClientConnection, at_once: asyncio.Semaphore) -> None:
    async with at_once, asyncio.timeout(60):
        await client.send(json.dumps({"type": "turn", "id": str(uuid.uuid4()), "text": "Tell me."}))
        while json.loads(await client.recv())["type"] != "turn.completed":
            pass
