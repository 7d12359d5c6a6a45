"""How long somebody else's model is waited for, and how often it is asked again (tenacity)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from visavis.bot.providers.failures import Away


@dataclass(frozen=True)
class Patience:
    """How long somebody else is waited for (seconds), how often asked (`attempts`), and when left alone."""

    word_s: float = 60.0
    attempts: int = 3
    first_pause_s: float = 0.5
    longest_pause_s: float = 8.0
    failures: int = 5
    rest_s: float = 30.0

    def tries(self) -> AsyncRetrying:
        """One attempt after another, with pauses; somebody who has asked for a long rest is not waited for here."""
        return AsyncRetrying(
            stop=stop_after_attempt(self.attempts),
            wait=pauses(self),
            retry=retry_if_exception(
                lambda error: isinstance(error, Away) and error.retry_after_s <= self.longest_pause_s
            ),
            reraise=True,
        )


def pauses(patience: Patience) -> Callable[[RetryCallState], float]:
    """Random below a bound that doubles (full jitter, so that many callers do not come back together); at least what
    the other side has asked for."""
    grows = wait_random_exponential(multiplier=patience.first_pause_s, max=patience.longest_pause_s)

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return max(float(grows(state)), error.retry_after_s if isinstance(error, Away) else 0.0)

    return pause
