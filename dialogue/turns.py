"""Frozen value types: who said what about which picture. No ids of sockets, no store, no wire format."""

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
class Turn:
    """One contribution. A person's turn and the answer to it share their id and differ by role.

    `at` is seconds since the epoch; `final` (answers only) is the event that ended the turn.
    """

    id: str
    role: Role
    text: str
    images: tuple[str, ...] = ()
    at: float = 0.0
    region: Region | None = None
    status: Status = Status.COMPLETED
    final: FinalEvent | None = None


def answer_turn(final: FinalEvent, at: float) -> Turn:
    """The assistant's turn that `final` stands for."""
    text = "" if isinstance(final, TurnFailed) else final.text
    image = final.image if isinstance(final, TurnCompleted) else None
    images = () if image is None else (image,)
    return Turn(final.turn, Role.ASSISTANT, text, images, at, status=_status(final), final=final)


def _status(final: FinalEvent) -> Status:
    if isinstance(final, TurnFailed):
        return Status.FAILED
    return Status.CANCELLED if isinstance(final, TurnCancelled) else Status.COMPLETED


@dataclass(frozen=True, slots=True)
class Session:
    """What a turn needs of a conversation: its latest turns and the pictures that were shown last."""

    id: str
    turns: tuple[Turn, ...] = ()
    waiting: tuple[Turn, ...] = ()
    newest_images: tuple[str, ...] = ()
