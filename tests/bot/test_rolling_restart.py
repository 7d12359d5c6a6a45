"""Three gateways and two model servers are replaced one after the other under load: no turn is lost, none is doubled.

The people are `WireClient`, which was written from docs/protocol.md alone; they count what they get.
"""

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from gateway_processes import GatewayProcess, gateways, until_healthy
from wire_client import WireClient

WORDS = [f"word{number}" for number in range(24)]
PEOPLE = 8


class ModelProcess:
    """A model server on a port that nobody listens on while it is away."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        script = str(Path(__file__).with_name("scripted_model_process.py"))
        command = [sys.executable, script, str(self.port), "0.02", " ".join(WORDS)]
        self.process = await asyncio.create_subprocess_exec(*command)

    async def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return await self.process.wait()


@contextlib.asynccontextmanager
async def one_address(ports: list[int]) -> AsyncIterator[int]:
    """What a Service does: a connection goes to one of them that takes it."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in random.sample(ports, len(ports)):
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(pump(reader, back), pump(there, writer))
                return
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def converse(person: WireClient, asked: list[str], stop: asyncio.Event) -> None:
    await person.connect()
    while not stop.is_set():
        asked.append(f"question {len(asked)}")
        await person.ask(asked[-1])


async def told(person: WireClient) -> list[tuple[str, str]]:
    """Everything that the conversation holds now."""
    await person.close()
    await person.connect()
    await person.send(type="history", limit=200)
    turns = (await person.until("history"))["turns"]
    await person.close()
    return [(turn["role"], turn["text"]) for turn in turns]


async def replace(one: GatewayProcess | ModelProcess) -> None:
    assert await one.terminate() == 0, "it ends in good order"
    await one.start()
    await until_healthy(("127.0.0.1", one.port))


async def test_no_turn_is_lost_or_doubled_while_everything_is_replaced(store_url: str, tmp_path: Path) -> None:
    models, stop = [ModelProcess(), ModelProcess()], asyncio.Event()
    for model in models:
        await model.start()
    for model in models:
        await until_healthy(("127.0.0.1", model.port))
    async with one_address([model.port for model in models]) as port:
        variables = {"REDIS_URL": store_url, "MODEL_URL": f"http://127.0.0.1:{port}/v1", "DATA_DIR": str(tmp_path)}
        variables |= {"LOG_LEVEL": "error", "TURNS_PER_MINUTE": "10000"}
        async with gateways(3, {f"VISAVIS_{name}": value for name, value in variables.items()}) as three:
            people = [WireClient([one.port for one in three], random.Random(seed)) for seed in range(PEOPLE)]
            asked: list[list[str]] = [[] for _ in people]
            talk = asyncio.gather(*(converse(*one, stop) for one in zip(people, asked, strict=True)))
            for gateway, model in zip(three, [*models, None], strict=True):
                await replace(gateway)
                if model is not None:
                    await replace(model)
            stop.set()
            await talk
            for person, questions in zip(people, asked, strict=True):
                assert len(person.finals) == len(questions) > 1
                answers = [final["text"].split() for final in person.finals.values()]
                assert answers == [WORDS] * len(questions), "each was answered, whole"
                expected = [
                    said for text in questions for said in (("user", text), ("assistant", " ".join(WORDS) + " "))
                ]
                assert await told(person) == expected, "each is there once, in order"
                assert person.problems == []
    for model in models:
        await model.terminate()
