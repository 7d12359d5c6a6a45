"""What each part of a running stack has cost the processors so far.

The stack's processes are found by its data folder, which stands in the environment or the arguments of each of them.
"""

from __future__ import annotations

from pathlib import Path

_PARTS = {"visavis.models.model_server": "model", "valkey": "store", "redis": "store"}


def processor_seconds(folder: Path) -> dict[str, float]:
    """Seconds by part: `model`, `store` and `gateways` (with the supervisor); empty without psutil (extra `bench`)."""
    try:
        import psutil
    except ImportError:
        return {}
    spent: dict[str, float] = {}
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if str(folder) in command or str(folder) in " ".join(process.environ().values()):
                times, part = process.cpu_times(), _part_of(command)
                spent[part] = spent.get(part, 0.0) + times.user + times.system
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # gone, or somebody else's
            continue
    return spent


def beside_model(before: dict[str, float], after: dict[str, float]) -> float | None:
    """Processor time of everything but the model over the model's, between two readings; None if there is none."""
    used = {part: seconds - before.get(part, 0.0) for part, seconds in after.items()}
    model = used.pop("model", 0.0)
    return sum(used.values()) / model if model > 0 else None


def _part_of(command: str) -> str:
    return next((part for word, part in _PARTS.items() if word in command), "gateways")
