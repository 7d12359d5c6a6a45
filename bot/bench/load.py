"""People as a program: conversations over the real websocket, in a closed loop or at a given rate; their waiting."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from visavis.bot.bench.workload import Person
from visavis.bot.client import ChatClient
from visavis.dialogue.events import TextDelta, TurnCompleted


@dataclass
class TurnTimes:
    """One answered turn, in seconds: to the first words, in all, and between pieces of words."""

    text: str
    first_s: float
    total_s: float
    gaps_s: list[float] = field(default_factory=list)


@dataclass
class Outcome:
    """What a crowd got: texts by person and turn, and the time that all of it took."""

    seconds: float
    texts: list[list[str]]
    turns: list[TurnTimes] = field(default_factory=list)

    @property
    def turns_per_s(self) -> float:
        """The throughput."""
        return sum(map(len, self.texts)) / self.seconds


class Visitor:
    """A connected person. Raises RuntimeError when a turn is not answered."""

    def __init__(self, url: str, person: Person) -> None:
        self._person = person
        self._client = ChatClient(url)
        self._images: list[str] = []

    async def __aenter__(self) -> Visitor:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def show(self) -> None:
        """Upload the picture; the next turn is about it."""
        self._images = [await self._client.add_image(self._person.picture, "image/jpeg")]

    async def ask(self, question: str) -> TurnTimes:
        """One turn."""
        started = last = time.perf_counter()
        arrivals: list[float] = []
        async for event in self._client.ask(question, self._images):
            if isinstance(event, TextDelta):
                arrivals.append(time.perf_counter())
            last_event = event
        last = time.perf_counter()
        if not isinstance(last_event, TurnCompleted):
            raise RuntimeError(f"a turn of the benchmark was not answered: {last_event}")
        self._images = []
        gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
        return TurnTimes(last_event.text, (arrivals or [last])[0] - started, last - started, gaps)


async def closed_loop(url: str, people: Sequence[Person]) -> Outcome:
    """All people at once, each one question after the other. Connecting is not counted, uploading is."""
    visitors = [Visitor(url, person) for person in people]
    await asyncio.gather(*(visitor.__aenter__() for visitor in visitors))

    async def converse(visitor: Visitor, person: Person) -> list[TurnTimes]:
        await visitor.show()
        return [await visitor.ask(question) for question in person.questions]

    started = time.perf_counter()
    answered = await asyncio.gather(*map(converse, visitors, people))
    seconds = time.perf_counter() - started
    await asyncio.gather(*(visitor.__aexit__(None, None, None) for visitor in visitors))
    texts = [[turn.text for turn in turns] for turns in answered]
    return Outcome(seconds, texts, [turn for turns in answered for turn in turns])


async def open_loop(url: str, people: Sequence[Person], turns_per_s: float, seed: int = 0) -> list[float]:
    """Conversations that begin at random (Poisson), whether or not the server keeps up: seconds to every first word."""
    chance = random.Random(seed)
    begun: list[asyncio.Task[list[float]]] = []

    async def converse(person: Person) -> list[float]:
        async with Visitor(url, person) as visitor:
            await visitor.show()
            return [(await visitor.ask(question)).first_s for question in person.questions]

    for person in people:
        begun.append(asyncio.create_task(converse(person)))
        await asyncio.sleep(chance.expovariate(turns_per_s / len(person.questions)))
    return [first for waits in await asyncio.gather(*begun) for first in waits]


async def one_by_one(url: str, people: Sequence[Person]) -> list[list[TurnTimes]]:
    """Nobody else is there: the turns of each person."""
    answered = []
    for person in people:
        async with Visitor(url, person) as visitor:
            await visitor.show()
            answered.append([await visitor.ask(question) for question in person.questions])
    return answered


async def gaps_of(url: str, people: Sequence[Person], arriving: Sequence[Person], pause_s: float) -> list[float]:
    """Seconds between pieces of the answers to `people`, while others come one after another with new pictures."""
    newcomers: list[asyncio.Task[list[list[TurnTimes]]]] = []

    async def arrive() -> None:
        for person in arriving:
            newcomers.append(asyncio.create_task(one_by_one(url, [person])))
            await asyncio.sleep(pause_s)

    arrivals = asyncio.create_task(arrive())
    outcome = await closed_loop(url, people)
    arrivals.cancel()
    await asyncio.gather(arrivals, *newcomers, return_exceptions=True)
    return [gap for turn in outcome.turns for gap in turn.gaps_s]
