"""Results as ratios, a table, JSON and a plot. It measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from visavis.bot.bench.contest import Results

RATIOS = {
    "over_sequential_fp32": ("visavis_fp32", "sequential"),
    "over_sequential_default": ("visavis", "sequential"),
    "over_static_cold_fp32": ("visavis_fp32_cold", "static_cold"),
    "over_static_cold_default": ("visavis_cold", "static_cold"),
    "over_static_cached": ("visavis_fp32_warm", "static_cached"),
    "over_litserve": ("visavis_fp32", "litserve"),
}
_WIDTH, _HEIGHT, _MARGIN = 640, 320, 48


def summary(results: Results, equal_tokens: dict[str, float], facts: dict[str, Any]) -> dict[str, Any]:
    """What is written as JSON: `ratios` (medians over repeats), turns a second, shares of equal tokens, the machine."""
    ratios: dict[str, float | None] = {name: results.over(*pair) for name, pair in RATIOS.items()}
    return {
        **facts,
        "ratios": {name: _rounded(value) for name, value in {**ratios, **results.figures}.items()},
        "turns_per_s": {name: _spread(values) for name, values in results.turns_per_s.items()},
        "processor_ms": {name: _typical(runs) for name, runs in results.processor_ms.items()},
        "equal_tokens": {name: _rounded(share) for name, share in equal_tokens.items()},
        "over_concurrency": results.curve,
    }


def equal_share(pairs: Sequence[tuple[list[int], list[int]]]) -> float:
    """The share of tokens before two answers first differ, over all pairs of answers."""
    same = total = 0
    for one, other in pairs:
        longest = max(len(one), len(other))
        differ = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        same += next(differ, min(len(one), len(other)))
        total += longest
    return same / total if total else 1.0


def tables(report: dict[str, Any]) -> list[Table]:
    """For people: turns a second of every contestant, then the ratios."""
    speeds = Table("contestant", "turns/s", "least", "most", "runs", title="Throughput (median)")
    for name, row in report["turns_per_s"].items():
        speeds.add_row(name, *(f"{row[part]:.2f}" for part in ("median", "least", "most")), str(len(row["runs"])))
    ratios = Table("ratio", "value", title="No verdict: the machine was busy" if report["busy"] else "Ratios")
    for name, value in report["ratios"].items():
        ratios.add_row(name, "-" if value is None else f"{value:.2f}")
    for name, share in report["equal_tokens"].items():
        ratios.add_row(f"equal tokens: {name}", f"{share:.4f}")
    return [speeds, ratios]


def plot(curve: Sequence[dict[str, float]]) -> str:
    """An SVG drawing: turns a second (solid) and milliseconds to the first words (dashed) over people at once."""
    lines = [
        _polyline([point["people"] for point in curve], [point[name] for point in curve], style)
        for name, style in (("turns_per_s", ""), ("first_ms", ' stroke-dasharray="6 4"'))
    ]
    most = {name: max(point[name] for point in curve) for name in ("turns_per_s", "first_ms", "people")}
    text = (
        f'<text x="{_MARGIN}" y="20">solid: turns/s (to {most["turns_per_s"]:.1f}), dashed: first words in ms '
        f"(to {most['first_ms']:.0f}), over people at once (to {most['people']:.0f})</text>"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">'
    axes = f'<path d="M{_MARGIN} {_MARGIN}V{_HEIGHT - _MARGIN}H{_WIDTH - _MARGIN}" fill="none" stroke="gray"/>'
    return "\n".join([head, axes, text, *lines, "</svg>", ""])


def _polyline(across: Sequence[float], up: Sequence[float], style: str) -> str:
    wide, high = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    points = (
        f"{_MARGIN + wide * x / max(across):.1f},{_HEIGHT - _MARGIN - high * y / max(up):.1f}"
        for x, y in zip(across, up, strict=True)
    )
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="black"{style}/>'


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "runs": [round(value, 3) for value in values],
    }


def _typical(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each part."""
    return {part: round(statistics.median(run[part] for run in runs), 3) for part in runs[0]}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
