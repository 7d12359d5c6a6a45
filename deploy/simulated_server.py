"""One model server of the simulation in scaling.py, and the cores that it shares: what the engine is, by its times.

Workers prepare in the order in which people came (pictures in slices), one takes steps for all rows together.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simpy

MEASURED = Path(__file__).parents[1] / "docs/service-times.json"
SLICES = 6  # of a picture
ENCODED_AHEAD = 2  # pictures, while all rows are taken
JOINING_AT_ONCE = 4  # questions, while more people wait than get words
ROUNDS_A_STEP = 2  # of each worker that prepares, unless somebody joins
SHARE_S = 0.004  # of processor time, after which it is looked again how many work
LONGEST_PAUSE_S = 0.1  # of the worker that takes steps, for one that prepares
Events = Generator[Any, Any, Any]


@dataclass(frozen=True)
class Times:
    """Seconds of a processor: `picture` and `question` to prepare, a step of one row and of each further one; a turn's
    work of a gateway, of the store, and of the people of the benchmark; `wire` is what no processor does. `contention`
    is how much more processor time the same work takes while others compute as well. A model server has `cores`;
    `preparers`, rows and places in the line are the engine's."""

    picture_s: float
    question_s: float
    step_s: float
    row_s: float
    gateway_s: float
    store_s: float
    wire_s: float
    contention: float
    people_s: float = 0.0
    cores: int = 2
    socket_bytes: float = 32_768
    rows: int = 32
    line: int = 64
    preparers: int = 1

    @classmethod
    def measured(cls, path: Path = MEASURED) -> Times:
        """Those of the file."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))["times"])


@dataclass
class Turn:
    """A turn on its way through a model server."""

    picture: int
    tokens: int
    begun: float
    ended: simpy.Event
    first_at: float = math.inf


class Cores:
    """Processors that all who work share evenly; nobody works on more than one."""

    def __init__(self, env: simpy.Environment, cores: int, contention: float) -> None:
        self._env, self._cores, self._contention = env, cores, contention
        self._working = 0

    def work(self, seconds: float) -> Events:
        """So much processor time, of one who has the machine alone; gives what it was in company."""
        spent = 0.0
        while seconds > 1e-9:  # but for what rounding leaves
            part = min(seconds, SHARE_S)
            self._working += 1
            dearer = self._contention if self._working > 1 else 1.0
            yield self._env.timeout(part * dearer * max(1.0, self._working / self._cores))
            self._working -= 1
            seconds, spent = seconds - part, spent + part * dearer
        return spent


class ModelServer:
    """One engine: its workers, a line, rows."""

    def __init__(self, env: simpy.Environment, times: Times, cores: Cores) -> None:
        self._env, self._times, self._cores = env, times, cores
        self._line: deque[Turn] = deque()
        self._rows: list[Turn] = []
        self._known: set[int] = set()
        self._sliced: dict[int, int] = {}
        self._wake = env.event()
        self._encoding: set[int] = set()
        self._preparing = self._reserved = 0
        self._round = env.event()
        self._rounds, self._seen, self._joined = 0, 0, False
        self.spent_s = 0.0
        for _ in range(times.preparers):
            env.process(self._prepare())
        env.process(self._answer())

    def ask(self, turn: Turn) -> bool:
        """Stand in line; False when it is full."""
        if len(self._line) >= self._times.line:
            return False
        self._line.append(turn)
        self._rouse()
        return True

    def _rouse(self) -> None:
        wake, self._wake = self._wake, self._env.event()
        wake.succeed()

    def _prepare(self) -> Events:
        in_hand: int | None = None
        while True:
            encodes = self._may_encode()
            new = (one.picture for one in self._line if one.picture not in self._known | self._encoding)
            in_hand = next(new, None) if encodes and in_hand is None else in_hand
            encodes &= in_hand is not None
            if not encodes and self._ready(None) is None:
                yield self._wake
                continue
            self._preparing += 1
            if encodes and in_hand is not None:
                in_hand = yield from self._encode(in_hand)
            yield from self._let_in(in_hand if encodes else None)
            self._preparing, self._rounds = self._preparing - 1, self._rounds + 1
            over, self._round = self._round, self._env.event()
            over.succeed()

    def _may_encode(self) -> bool:
        ready = sum(one.picture in self._known for one in self._line)
        return ready < self._times.rows - self._reserved + ENCODED_AHEAD

    def _encode(self, picture: int) -> Generator[Any, Any, int | None]:
        """A slice of it, or all while more people wait than get words; gives it back if there is more to do."""
        self._encoding.add(picture)
        while self._sliced.get(picture, 0) < SLICES:
            yield from self._work(self._times.picture_s / SLICES)
            self._sliced[picture] = self._sliced.get(picture, 0) + 1
            if len(self._line) <= len(self._rows):
                break
        if self._sliced[picture] < SLICES:
            return picture
        self._encoding.remove(picture)
        self._known.add(picture)
        self._rouse()
        return None

    def _let_in(self, in_hand: int | None) -> Events:
        """One question, or some while more people wait than get words."""
        for _ in range(JOINING_AT_ONCE if len(self._line) > len(self._rows) else 1):
            turn = self._ready(in_hand)
            if turn is None:
                return
            self._line.remove(turn)
            self._reserved += 1
            yield from self._work(self._times.question_s)
            self._rows.append(turn)
            self._joined = True
            self._rouse()

    def _ready(self, in_hand: int | None) -> Turn | None:
        """The first whose picture is known, of those before who waits for the picture in hand."""
        if self._reserved >= self._times.rows:
            return None
        for turn in self._line:
            if turn.picture == in_hand:
                return None
            if turn.picture in self._known:
                return turn
        return None

    def _answer(self) -> Events:
        while True:
            if not self._rows:
                yield self._wake
                continue
            yield from self._keep_pace()
            rows = list(self._rows)
            yield from self._work(self._times.step_s + self._times.row_s * (len(rows) - 1))
            for turn in rows:
                turn.first_at, turn.tokens = min(turn.first_at, self._env.now), turn.tokens - 1
                if turn.tokens == 0:
                    self._rows.remove(turn)
                    self._reserved -= 1
                    turn.ended.succeed()
                    self._rouse()

    def _keep_pace(self) -> Events:
        """Whoever is being prepared had better be part of the step."""
        late = self._env.timeout(LONGEST_PAUSE_S)
        while not (self._joined or late.processed) and self._rounds - self._seen < ROUNDS_A_STEP * self._preparing:
            yield self._round | late
        self._joined, self._seen = False, self._rounds

    def _work(self, seconds: float) -> Events:
        spent = yield from self._cores.work(seconds)
        self.spent_s += spent  # others have added to it meanwhile
