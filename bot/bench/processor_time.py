"""What each part of a running stack has cost the processors so far, from Linux's `/proc`.

The stack's processes are found by its data folder, which stands in the environment or the arguments of each of them.
"""

from __future__ import annotations

import os
from pathlib import Path

_PARTS = {"visavis.models.model_server": "model", "valkey": "store", "redis": "store"}
_USER, _SYSTEM = 11, 12  # fields of /proc/PID/stat behind the name


def processor_seconds(folder: Path) -> dict[str, float]:
    """Seconds by part, `model`, `store` and `gateways` (with the supervisor); empty where there is no `/proc`."""
    spent: dict[str, float] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if os.fsencode(folder) not in command + (process / "environ").read_bytes():
                continue
            fields = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it is somebody else's, or gone
            continue
        ticks = int(fields[_USER]) + int(fields[_SYSTEM])
        part = _part_of(command.decode(errors="replace"))
        spent[part] = spent.get(part, 0.0) + ticks / os.sysconf("SC_CLK_TCK")
    return spent


def beside_model(before: dict[str, float], after: dict[str, float]) -> float | None:
    """Processor time of everything but the model over the model's, between two readings."""
    used = {part: seconds - before.get(part, 0.0) for part, seconds in after.items()}
    model = used.pop("model", 0.0)
    return sum(used.values()) / model if model > 0 else None


def _part_of(command: str) -> str:
    return next((part for word, part in _PARTS.items() if word in command), "gateways")
