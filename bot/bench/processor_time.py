"""What each part of a running stack has cost the processors so far."""

from __future__ import annotations

_PARTS = {"visavis.models.model_server": "model", "valkey": "store", "redis": "store"}


def processor_seconds(supervisor: int) -> dict[str, float]:
    """Seconds by part of what runs below a process: `model`, `store` and `gateways` (with the supervisor itself); empty
    without psutil (extra `bench`), or when the process is gone."""
    try:
        import psutil
    except ImportError:
        return {}
    spent: dict[str, float] = {}
    try:
        above = psutil.Process(supervisor)
        for process in (above, *above.children(recursive=True)):
            times, part = process.cpu_times(), _part_of(" ".join(process.cmdline()))
            spent[part] = spent.get(part, 0.0) + times.user + times.system
    except psutil.Error:
        return {}
    return spent


def beside_model(before: dict[str, float], after: dict[str, float]) -> float | None:
    """Processor time of everything but the model over the model's, between two readings; None if there is none."""
    used = {part: seconds - before.get(part, 0.0) for part, seconds in after.items()}
    model = used.pop("model", 0.0)
    return sum(used.values()) / model if model > 0 else None


def _part_of(command: str) -> str:
    return next((part for word, part in _PARTS.items() if word in command), "gateways")
