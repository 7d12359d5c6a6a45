"""Frozen value types: who said what about which picture. No ids of sockets, no store, no wire format."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from visavis.dialogue.events import FinalEvent, TurnCancelled, TurnCompleted, TurnFailed


class Role(StrEnum):
    """Who speaks."""

    USER = "user"
    ASSISTANT = "assistant"


class Status(StrEnum):
    """How far a turn is; a user's turn and its answer have the same status."""

    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A stored picture by the hash of its normalised bytes; width and height in pixels."""

    sha256: str
    width: int
    height: int
    mime: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture; x, y, w, h are fractions (0..1) of its width and height."""

    image: str
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person thinks of an answer: `score` is -1, 0 or 1; `consent`: it may be used to train a model."""

    score: int
    consent: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One contribution. A person's turn and the answer to it share their id and differ by role.

    `at` is seconds since the epoch. Questions only: `replaces` is the turn whose place it takes in a new branch, `seed`
    makes the answer differ from an earlier one, `about` are the pictures that it was found to mean, `model` is the one
    that was chosen (empty: the default one). Answers only: `final` is the event that ended the turn, and `feedback`.
    """

    id: str
    role: Role
    text: str
    images: tuple[str, ...] = ()
    at: float = 0.0
    region: Region | None = None
    status: Status = Status.COMPLETED
    final: FinalEvent | None = None
    replaces: str | None = None
    seed: int | None = None
    about: tuple[str, ...] = ()
    model: str = ""
    feedback: Feedback | None = None


def answer_turn(final: FinalEvent, at: float, feedback: Feedback | None = None) -> Turn:
    """The assistant's turn that `final` stands for."""
    text = "" if isinstance(final, TurnFailed) else final.text
    image = final.image if isinstance(final, TurnCompleted) else None
    images = () if image is None else (image,)
    return Turn(final.turn, Role.ASSISTANT, text, images, at, status=_status(final), final=final, feedback=feedback)


def _status(final: FinalEvent) -> Status:
    if isinstance(final, TurnFailed):
        return Status.FAILED
    return Status.CANCELLED if isinstance(final, TurnCancelled) else Status.COMPLETED


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer; `alternatives` are those that stand in their place in other branches, oldest first."""

    question: Turn
    answer: Turn
    alternatives: Sequence["Exchange"] = ()


def as_they_came(exchanges: Sequence[Exchange], more: bool = False) -> tuple[Exchange, ...]:
    """Exchanges in the order in which they ended -> that in which they were asked: what was stopped while it waited
    ended before what it waited for. With `more` before them the first stays, by which the older ones are asked for."""
    ordered: list[Exchange] = []
    for exchange in exchanges:
        place = len(ordered)
        while place > more and _stopped_before(ordered[place - 1], exchange):
            place -= 1
        ordered.insert(place, exchange)
    return tuple(ordered)


def _stopped_before(one: Exchange, other: Exchange) -> bool:
    """Whether it was stopped without a word and came later; what stands in another's place stays there."""
    silent = one.answer.status is Status.CANCELLED and not one.answer.text and one.question.replaces is None
    return silent and one.question.at > other.question.at


@dataclass(frozen=True, slots=True)
class Session:
    """A part of a conversation's current branch, oldest first: the exchanges asked for and the turns that wait.

    `more`: there are older exchanges. `target`: the exchange before which the part ends, when one was named. `shown`:
    the pictures shown so far, those of one turn together, oldest first. `owner` is a person, or empty.
    """

    id: str
    exchanges: tuple[Exchange, ...] = ()
    waiting: tuple[Turn, ...] = ()
    shown: tuple[tuple[str, ...], ...] = ()
    more: bool = False
    target: Exchange | None = None
    owner: str = ""
    title: str = ""

    @property
    def newest_images(self) -> tuple[str, ...]:
        """The pictures that were shown last, together."""
        return self.shown[-1] if self.shown else ()


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A conversation in a list; `at` is the time of its last turn, `turns` how many exchanges are kept."""

    id: str
    title: str
    at: float
    turns: int
