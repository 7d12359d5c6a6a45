"""What each part of a running stack has cost the processors so far."""

from __future__ import annotations

import time

_PARTS = {"visavis.models.model_server": "model", "valkey": "store", "redis": "store"}


def processor_seconds(supervisor: int) -> dict[str, float]:
    """Seconds by part: `model`, `store` and `gateways` (with the supervisor itself) of what runs below a process, and
    `people`, this program. Empty without psutil (extra `bench`), or when the process is gone."""
    try:
        import psutil
    except ImportError:
        return {}
    here = time.process_time()
    spent = {"people": here, "store": 0.0, "gateways": 0.0}
    try:
        above = psutil.Process(supervisor)
        for process in (above, *above.children(recursive=True)):
            times, part = process.cpu_times(), _part_of(" ".join(process.cmdline()))
            spent[part] = spent.get(part, 0.0) + times.user + times.system
    except psutil.Error:
        return {}
    return spent


def milliseconds_a_turn(before: dict[str, float], after: dict[str, float], turns: int) -> dict[str, float]:
    """By part, between two readings; empty if there are none."""
    return {part: 1000 * (seconds - before.get(part, 0.0)) / turns for part, seconds in after.items()}


def beside_model(used: dict[str, float]) -> float | None:
    """Of gateways and store over that of the model; None if nothing was read."""
    return (used["gateways"] + used["store"]) / used["model"] if used.get("model") else None


def _part_of(command: str) -> str:
    return next((part for word, part in _PARTS.items() if word in command), "gateways")
