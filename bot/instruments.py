"""What is observed of one process: turns and pictures are counted (`Metrics`) and turns are traced."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from visavis.bot.metrics import Metrics
from visavis.dialogue.claims import Claim
from visavis.dialogue.events import FinalEvent, TurnCompleted, TurnFailed
from visavis.dialogue.observer import Ended
from visavis.models.tracing import TRACING


class Instruments:
    """The `Observer` of a process."""

    def __init__(self) -> None:
        self.metrics = Metrics()

    @contextlib.contextmanager
    def turn(self, claim: Claim) -> Iterator[Ended]:
        """As in `Observer`."""
        name = conversation_name(claim.session)
        with TRACING.turn(claim.turn.at, name, claim.attempt) as traced, self.metrics.turn(claim) as counted:

            def ended(final: FinalEvent) -> None:
                counted(final)
                traced(_attributes(final))

            yield ended

    def image_stored(self) -> None:
        """As in `Observer`."""
        self.metrics.image_stored()

    def image_refused(self, code: str) -> None:
        """As in `Observer`."""
        self.metrics.image_refused(code)

    def acknowledging(self, channel: str) -> AbstractContextManager[None]:
        """As in `Observer`."""
        return self.metrics.acknowledging(channel)


def conversation_name(session: str) -> str:
    """The same for all turns of a conversation; its id itself would let whoever reads a trace into it."""
    return hashlib.sha256(session.encode()).hexdigest()[:16]


def _attributes(final: FinalEvent) -> dict[str, Any]:
    outcome = {"visavis.outcome": str(final.name).removeprefix("turn.")}
    if isinstance(final, TurnFailed):
        return outcome | {"error.type": final.code}
    if not isinstance(final, TurnCompleted):
        return dict(outcome)
    return outcome | {
        "gen_ai.response.model": final.model,
        "gen_ai.usage.input_tokens": final.usage.input_tokens,
        "gen_ai.usage.output_tokens": final.usage.output_tokens,
    }
