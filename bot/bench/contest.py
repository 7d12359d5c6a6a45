"""The contest itself: all contestants in turn, several times over, so that a drift of the machine hits all alike."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from visavis.bot.bench.load import Outcome, closed_loop, gaps_of, one_by_one, open_loop
from visavis.bot.bench.processor_time import beside_model, milliseconds_a_turn
from visavis.bot.bench.rivals import GenerateRivals, LitServeRival
from visavis.bot.bench.workload import PEOPLE, TURNS, Person, crowd

SHARE_OF_CAPACITY = 0.7
_COLD, _PROBES = 1_000, 2_000  # seeds of pictures that nobody has seen before


@dataclass(frozen=True)
class Plan:
    """How much is measured. `sampled` people stand for all where the slow rivals are asked."""

    repeats: int = 5
    sampled: int = PEOPLE
    litserve_turns: int = TURNS
    probed: int = 8
    open_loop_people: int = 60
    concurrencies: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    waves: int = 3  # of each of these


QUICK = Plan(repeats=1, sampled=2, litserve_turns=1, probed=3, open_loop_people=12, concurrencies=())


@dataclass
class Results:
    """Turns a second of every contestant in every repeat, single figures, and whose answers were the same."""

    turns_per_s: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    equal: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    processor_ms: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # a turn, by part, of either visavis

    def over(self, one: str, other: str) -> float | None:
        """The median of ratios of runs that stood side by side."""
        pairs = list(zip(self.turns_per_s.get(one, ()), self.turns_per_s.get(other, ()), strict=False))
        return statistics.median(mine / theirs for mine, theirs in pairs) if pairs else None


@dataclass
class Contest:
    """The contestants: visavis in fp32 and with its default precision (addresses), `generate`, LitServe if there.
    `spent` reads what the parts of a visavis have cost the processors so far (`processor_time`), by its address."""

    fp32: str
    default: str
    spent: Callable[[str], dict[str, float]]
    generate: GenerateRivals
    litserve: LitServeRival | None
    plan: Plan
    advance: Callable[[str], None]
    results: Results = field(default_factory=Results)

    async def run(self) -> Results:
        """Everything; raises RuntimeError when a turn of visavis is not answered."""
        for url in (self.fp32, self.default):
            await closed_loop(url, crowd(_PROBES - 1, people=2, turns=1))  # first times are slower
        for repeat in range(self.plan.repeats):
            await self._repeat(repeat)
        await self._probe()
        return self.results

    async def _repeat(self, seed: int) -> None:
        """Slow and fast ones in turn."""
        people, plan = crowd(seed), self.plan
        cold = crowd(_COLD + seed, turns=1)
        sampled = people[: plan.sampled]
        first = await self._timed("sequential", self.generate.sequential(sampled))
        ours = await self._measured("visavis_fp32", self.fp32, people)
        self._compare("sequential", first, ours)
        batch = await self._timed("static_cold", self.generate.static_cold(cold))
        self._compare("static_cold", batch, await self._timed("visavis_fp32_cold", closed_loop(self.fp32, cold)))
        batch = await self._timed("static_cached", self.generate.static_cached(people))
        self._compare("static_cached", batch, await self._timed("visavis_fp32_warm", closed_loop(self.fp32, people)))
        if self.litserve is not None:
            asked = [Person(one.picture, one.questions[: plan.litserve_turns]) for one in people]
            self._compare("litserve", await self._timed("litserve", self.litserve.closed_loop(asked)), ours)
        self._compare("default_precision", ours, await self._measured("visavis", self.default, people))
        await self._timed("visavis_cold", closed_loop(self.default, cold))

    async def _measured(self, name: str, url: str, people: Sequence[Person]) -> Outcome:
        """Timed, and what it costs the processors."""
        before = self.spent(url)
        outcome = await self._timed(name, closed_loop(url, people))
        used = milliseconds_a_turn(before, self.spent(url), len(outcome.turns))
        self.results.processor_ms.setdefault(name, []).append(used)
        return outcome

    async def _timed(self, name: str, work: Awaitable[Outcome]) -> Outcome:
        self.advance(name)
        outcome = await work
        self.results.turns_per_s.setdefault(name, []).append(outcome.turns_per_s)
        return outcome

    def _compare(self, name: str, one: Outcome, other: Outcome) -> None:
        pairs = self.results.equal.setdefault(name, [])
        for mine, theirs in zip(one.texts, other.texts, strict=False):
            pairs += zip(mine, theirs, strict=False)

    async def _probe(self) -> None:
        """Waiting, on visavis with its default precision, and the machine's own limits."""
        figures, plan, url = self.results.figures, self.plan, self.default
        self.advance("follow-ups")
        answered = await one_by_one(url, crowd(_PROBES, plan.probed))
        firsts = [[turn.first_s for turn in turns] for turns in answered]
        figures["followup_ttft_over_first"] = _median(waits[1] for waits in firsts) / _median(w[0] for w in firsts)
        unloaded = _median(first for waits in firsts for first in waits)
        self.advance("open loop")
        capacity = statistics.median(self.results.turns_per_s["visavis"])
        arriving = crowd(_PROBES + 1, plan.open_loop_people)
        waits = await open_loop(url, arriving, SHARE_OF_CAPACITY * capacity)
        figures["p99_ttft_over_unloaded"] = _percentile(waits, 99) / unloaded
        self.advance("gaps")
        known = crowd(_PROBES, 8)
        await closed_loop(url, known)
        quiet = await gaps_of(url, known, [], 0)
        noisy = await gaps_of(url, known, crowd(_PROBES + 10, 64, 1), 0.3)
        figures["itl_p99_over_quiet"] = _percentile(noisy, 99) / _percentile(quiet, 99)
        self.advance("long talks")
        figures["turn20_over_turn2"] = await self._growth()
        for name, ending in (("visavis", ""), ("visavis_fp32", "_fp32")):
            shares = list(map(beside_model, self.results.processor_ms[name]))
            if None not in shares:
                figures[f"gateway_store_over_model_cpu{ending}"] = _median(shares)
        self.advance("rooflines")
        limits = await self.generate.rooflines()
        figures |= {f"roofline_{name}": share for name, share in limits.items()}
        for people in plan.concurrencies:
            self.advance(f"{people} at once")
            self.results.curve.append(await self._point(people))

    async def _point(self, people: int) -> dict[str, float]:
        """Of the curve over people at once: medians over several waves of them."""
        waves = [
            await closed_loop(self.default, crowd(_PROBES + 20 + 100 * wave + people, people))
            for wave in range(self.plan.waves)
        ]
        return {
            "people": people,
            "turns_per_s": _median(wave.turns_per_s for wave in waves),
            "first_ms": 1000 * _median(_median(turn.first_s for turn in wave.turns) for wave in waves),
        }

    async def _growth(self) -> float:
        """The same question as turn 2 and as turn 20 of a conversation, of several people the median."""
        talkers = [
            Person(person.picture, (*person.questions[:19], person.questions[1]))
            for person in crowd(_PROBES + 15, self.plan.probed, 20)
        ]
        talks = await one_by_one(self.default, talkers)
        return _median(turns[19].total_s / turns[1].total_s for turns in talks)


def _median(values: Sequence[float] | object) -> float:
    return statistics.median(values)  # type: ignore[arg-type]


def _percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
