"""The events of a turn, as frozen values, and their plain-dictionary form (the one that is sent and stored).

Every event carries session, turn, attempt (from 1) and a seq that starts at 1 in each attempt and grows by one.
Knows no sockets and no store.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar


class EventName(StrEnum):
    """The `type` of an event on the wire."""

    ACCEPTED = "turn.accepted"
    QUEUED = "turn.queued"
    RESTARTED = "turn.restarted"
    DELTA = "turn.delta"
    COMPLETED = "turn.completed"
    FAILED = "turn.failed"
    CANCELLED = "turn.cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEvent:
    """What all events of a turn share."""

    name: ClassVar[EventName]
    is_final: ClassVar[bool] = False
    session: str
    turn: str
    attempt: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnAccepted(TurnEvent):
    """The turn is stored and will be answered."""

    name = EventName.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnQueued(TurnEvent):
    """Its place in a line: `position` turns of the session are ahead; then, once it has begun, the model's own line."""

    name = EventName.QUEUED
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRestarted(TurnEvent):
    """A new attempt begins; the deltas of earlier attempts are void."""

    name = EventName.RESTARTED


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta(TurnEvent):
    """The next piece of the answer; now and then, once it is formatted, with `html`, which follows the first `after`
    blocks of what was shown before."""

    name = EventName.DELTA
    text: str
    html: str | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens; `image_tokens` is the part of `input_tokens` that pictures took, so many `images`."""

    input_tokens: int = 0
    output_tokens: int = 0
    image_tokens: int = 0
    images: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds: acceptance to start, start to first delta, acceptance to end."""

    queue_ms: int = 0
    first_ms: int = 0
    total_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCompleted(TurnEvent):
    """The whole answer. The deltas of this attempt joined equal `text`; `image` is the picture that was looked at,
    `model` the name of who answered."""

    name = EventName.COMPLETED
    is_final = True
    text: str
    html: str
    image: str | None = None
    left_out: tuple[str, ...] = ()
    usage: Usage = Usage()
    timings: Timings = Timings()
    confidence: float | None = None
    suggestions: tuple[str, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFailed(TurnEvent):
    """There will be no answer; `message` is a sentence for a person."""

    name = EventName.FAILED
    is_final = True
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCancelled(TurnEvent):
    """Somebody stopped the turn; `text` is what had been said by then, `html` the same for a page."""

    name = EventName.CANCELLED
    is_final = True
    text: str
    html: str = ""


Event = TurnAccepted | TurnQueued | TurnRestarted | TextDelta | TurnCompleted | TurnFailed | TurnCancelled
FinalEvent = TurnCompleted | TurnFailed | TurnCancelled


def _names(record: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


_EVENTS: dict[str, type[Event]] = {
    event.name: event
    for event in (TurnAccepted, TurnQueued, TurnRestarted, TextDelta, TurnCompleted, TurnFailed, TurnCancelled)
}
_FIELDS = {name: _names(event) for name, event in _EVENTS.items()}

_PARTS = {"usage": _names(Usage), "timings": _names(Timings)}  # `asdict` would look for more inside


def event_to_dict(event: Event) -> dict[str, Any]:
    """The event as plain JSON values, `type` first."""
    values = {name: getattr(event, name) for name in _FIELDS[event.name]}
    if isinstance(event, TextDelta) and event.html is None:
        del values["html"], values["after"]  # as in most deltas
    if isinstance(event, TurnCompleted):
        values |= {name: {one: getattr(values[name], one) for one in parts} for name, parts in _PARTS.items()}
    return {"type": str(event.name), **values}


def event_from_dict(data: dict[str, Any]) -> Event:
    """The inverse of `event_to_dict`.

    Raises:
        KeyError: `type` is missing or no event's. TypeError: fields are missing or unknown.
    """
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    event = _EVENTS[values.pop("type")]
    if event is TurnCompleted:
        values["usage"], values["timings"] = Usage(**values["usage"]), Timings(**values["timings"])
    return event(**values)
