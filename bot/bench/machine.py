"""What has to be known of the machine before figures mean anything."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

BUSY_PERCENT = 5.0


def cpu_pressure() -> float | None:
    """Percent of the last ten seconds in which something waited for a processor; None where the kernel does not say."""
    try:
        line = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
        return float(line.split("avg10=")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return None


def is_busy(pressure: float | None) -> bool:
    """True if others take so much that no verdict can be given."""
    if pressure is not None:
        return pressure > BUSY_PERCENT
    return os.getloadavg()[0] > 0.5


def facts(threads: int) -> dict[str, Any]:
    """What belongs beside every figure."""
    pressure = cpu_pressure()
    return {
        "cores": os.cpu_count(),
        "threads": threads,
        "machine": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
        "cpu_pressure_before": pressure,
        "busy": is_busy(pressure),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
