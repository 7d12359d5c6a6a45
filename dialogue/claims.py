"""What the store says about a turn under way: the right to run it, what keeps that right up, how the turn stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from visavis.dialogue.events import Event
from visavis.dialogue.turns import Session, Turn


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a turn. `fence` grows with each claim of a session, `attempt` counts the runs of this turn,
    `deaths` those of them that were lost with their process. `before` is the session as it was then; None where
    the turn takes the place of another one, before which the session has to be read."""

    session: str
    nonce: str
    fence: int
    attempt: int
    deaths: int
    position: int
    turn: Turn
    before: Session | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """To claim a session's next turn: by a `nonce` that no other claim has, for `lease_s` at first, while somebody is
    taken to watch it for `watch_s`."""

    nonce: str
    lease_s: float
    watch_s: float


@dataclass(frozen=True, slots=True)
class Submitted:
    """How many turns are ahead of one that was sent, None when it is answered already; and the claim of the session's
    next turn, if that was wished for and could be had."""

    position: int | None
    claim: Claim | None = None


READ = 3  # what the store answers to a renewal when somebody in another process reads the replay


class Record(IntEnum):
    """What came of recording the end of a turn: the claim was lost; no turn waits after it; perhaps others do."""

    REFUSED = 0
    LAST = 1
    OTHERS_WAIT = 2


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a claim needs while its turn runs: a longer lease, and `events` in the replay. Whoever follows it in this
    process watches for `watch_s`; None: nobody does."""

    claim: Claim
    events: Sequence[Event] = ()
    watch_s: float | None = None


@dataclass(frozen=True, slots=True)
class Glance:
    """What has become of a turn: new replay events, and how it stands.

    `position`: how many were ahead of it when it came, `ahead`: how many are now; None when it is not in the queue.
    `is_leased`: somebody works on the session. `attempt`: the latest that was claimed, 1 when none was.
    """

    events: tuple[Event, ...]
    cursor: str
    position: int | None
    ahead: int | None
    is_leased: bool
    is_running: bool
    attempt: int
    is_finished: bool
