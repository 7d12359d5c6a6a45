"""The other contestants as processes: `generate` one by one and in batches, and LitServe in front of the same."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib.util
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import httpx

from visavis.bot.bench import rival_process
from visavis.bot.bench.load import Outcome
from visavis.bot.bench.workload import Person, as_stored
from visavis.bot.probes import http_get

START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 600.0


class GenerateRivals:
    """`generate` in a process of its own, which does one thing at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def sequential(self, people: Sequence[Person]) -> Outcome:
        """Turn by turn."""
        return Outcome(*await self._run(rival_process.sequential, _talks(people)))

    async def static_cold(self, people: Sequence[Person]) -> Outcome:
        """A turn of everybody in a batch, pictures from their pixels."""
        return Outcome(*await self._run(rival_process.static_cold, _talks(people)))

    async def static_cached(self, people: Sequence[Person]) -> Outcome:
        """The same, but what depends on pictures alone is known."""
        return Outcome(*await self._run(rival_process.static_cached, _talks(people)))

    async def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts as answer tokens."""
        return await self._run(rival_process.token_ids, list(texts))  # type: ignore[no-any-return]

    async def rooflines(self) -> dict[str, float]:
        """Shares of what this machine can do at best."""
        return await self._run(rival_process.rooflines)  # type: ignore[no-any-return]

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._pool.apply_async(
            work,
            arguments,
            callback=lambda result: loop.call_soon_threadsafe(done.set_result, result),
            error_callback=lambda error: loop.call_soon_threadsafe(done.set_exception, error),
        )
        return await done


@contextlib.asynccontextmanager
async def generate_rivals(folder: Path, threads: int, device: str = "cpu") -> AsyncIterator[GenerateRivals]:
    """Start the process and load the weights; it is ended at once, whatever it does, when the context is left."""
    with multiprocessing.get_context("spawn").Pool(1, rival_process.load, (folder, threads, device)) as pool:
        rivals = GenerateRivals(pool)
        await rivals.token_ids(["warm"])
        yield rivals


@contextlib.asynccontextmanager
async def litserve_rival(
    folder: Path, threads: int, batch: int, device: str = "cpu"
) -> AsyncIterator[LitServeRival | None]:
    """Start LitServe; None where it is not installed or does not start."""
    if importlib.util.find_spec("litserve") is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--model", str(folder), "--threads", str(threads), "--batch", str(batch), "--port", str(port)]
    options += ["--device", device]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "visavis.models.litserve_rival", *options),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield LitServeRival(port) if await _answers(process, port) else None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers would outlive it otherwise
        await process.wait()


async def _answers(process: asyncio.subprocess.Process, port: int) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.returncode is None and time.monotonic() < deadline:
        answer = await http_get(("127.0.0.1", port), "/health")
        if answer is not None and answer[0] == 200:
            return True
        await asyncio.sleep(0.2)
    return False


class LitServeRival:
    """People who talk with LitServe over HTTP; each keeps its own history."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/predict"

    async def closed_loop(self, people: Sequence[Person]) -> Outcome:
        """All at once, each one question after the other."""
        limits = httpx.Limits(max_connections=None)
        talks = _talks(people)
        async with httpx.AsyncClient(timeout=ANSWER_TIMEOUT_S, limits=limits, trust_env=False) as client:
            started = time.perf_counter()
            texts = await asyncio.gather(*(self._converse(client, *talk) for talk in talks))
            return Outcome(time.perf_counter() - started, list(texts))

    async def _converse(
        self, client: httpx.AsyncClient, stored: bytes, questions: Sequence[str], lengths: Sequence[int]
    ) -> list[str]:
        picture, answers = base64.b64encode(stored).decode(), list[str]()
        for question, length in zip(questions, lengths, strict=True):
            history = list(zip(questions, answers, strict=False))
            body = {"picture": picture, "question": question, "history": history, "length": length}
            answers.append((await client.post(self._url, json=body)).raise_for_status().json()["text"])
        return answers


def _talks(people: Sequence[Person]) -> list[tuple[bytes, tuple[str, ...], tuple[int, ...]]]:
    return [(as_stored(person.picture), person.questions, person.lengths) for person in people]
