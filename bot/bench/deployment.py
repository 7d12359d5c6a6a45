"""`visavis bench --url`: what a running deployment gives a crowd. It is a guest there and knows no machine."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from visavis.bot.bench.load import closed_loop
from visavis.bot.bench.workload import TURNS, crowd

MOST_PEOPLE = 200  # sockets that a gateway takes from one address
_SEEDS = 1_000_000  # so that hardly a picture was ever shown before


async def measure(url: str, people: int, turns: int = TURNS) -> dict[str, Any]:
    """People who ask `turns` questions each about a new picture of their own, one after the other, all at once:
    turns a second, and milliseconds to the first words and to the end.

    Raises:
        ServerUnreachable: nobody answers at the address. RuntimeError: a turn was not answered.
    """
    outcome = await closed_loop(url, crowd(1_000 + secrets.randbelow(_SEEDS), people, turns))
    return {
        "url": url,
        "people": people,
        "turns": len(outcome.turns),
        "turns_per_s": round(outcome.turns_per_s, 3),
        "first_ms": _quantiles([turn.first_s for turn in outcome.turns]),
        "total_ms": _quantiles([turn.total_s for turn in outcome.turns]),
    }


def table(report: dict[str, Any]) -> Table:
    """The report for a person."""
    shown = Table(title=f"{report['people']} people, {report['turns']} turns, {report['turns_per_s']:.1f} turns/s")
    for column in ("ms", "half", "95 %", "99 %", "longest"):
        shown.add_column(column)
    for name, title in (("first_ms", "to the first words"), ("total_ms", "to the end")):
        shown.add_row(title, *(f"{value:.0f}" for value in report[name].values()))
    return shown


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = [round(1000 * value, 1) for value in sorted(seconds)]
    places = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    return {name: ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for name, share in places.items()}
