"""When a question reached each stage of its way through an engine, for histograms and traces. Knows neither."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    """The stages in order; those that a question does not pass are left out."""

    RECEIVED = "received"
    ENCODING = "encoding"
    ENCODED = "encoded"
    ADMITTED = "admitted"
    FUSED = "fused"
    FIRST_TOKEN = "first_token"
    ENDED = "ended"


@dataclass(eq=False)
class RequestTrace:
    """The first time (ns since the epoch) at each stage, from whatever thread, and the `headers` by which a trace goes
    on in another process."""

    headers: dict[str, str] = field(default_factory=dict)
    reached: dict[Stage, int] = field(default_factory=dict)

    def mark(self, stage: Stage) -> None:
        """The question is there now; only the first time counts."""
        self.reached.setdefault(stage, time.time_ns())

    def seconds(self, start: Stage, end: Stage) -> float | None:
        """Between two stages; None unless both were reached."""
        if start not in self.reached or end not in self.reached:
            return None
        return max(0, self.reached[end] - self.reached[start]) / 1e9
