"""Who is told what happens to turns and pictures, to count or to trace it. Knows neither counters nor traces."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from visavis.dialogue.claims import Claim
from visavis.dialogue.events import FinalEvent

Ended = Callable[[FinalEvent], None]


class Observer(Protocol):
    """None of it may raise or wait."""

    def turn(self, claim: Claim) -> AbstractContextManager[Ended]:
        """One attempt at a turn, for as long as it lasts. What is given is called with its recorded end; it is not
        called when the claim was lost or another process goes on."""
        ...

    def image_stored(self) -> None:
        """A picture was taken in."""
        ...

    def image_refused(self, code: str) -> None:
        """A picture was not, for the reason that its sender is told."""
        ...

    def acknowledging(self, channel: str) -> AbstractContextManager[None]:
        """What stands between a chat platform's event and its acknowledgement."""
        ...


class Unobserved:
    """Nobody is told."""

    def turn(self, claim: Claim) -> AbstractContextManager[Ended]:
        """As in `Observer`."""
        return nullcontext(lambda final: None)

    def image_stored(self) -> None:
        """As in `Observer`."""

    def image_refused(self, code: str) -> None:
        """As in `Observer`."""

    def acknowledging(self, channel: str) -> AbstractContextManager[None]:
        """As in `Observer`."""
        return nullcontext()
