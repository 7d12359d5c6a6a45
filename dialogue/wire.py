"""The wire, version 1, without I/O: text frame -> command, event -> text frame.

Versions, sizes, types and names of the protocol are checked here and nowhere else. Every refusal is a `DialogueError`
that says what was expected and what came. Knows no socket, no store and no order of commands.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from visavis.dialogue.errors import BadRequest, DialogueError, TooLong, UnknownImage, UnknownSession, UnsupportedVersion
from visavis.dialogue.events import Event, TurnCompleted, TurnFailed, event_from_dict, event_to_dict
from visavis.dialogue.explaining import Explanation
from visavis.dialogue.limits import Limits
from visavis.dialogue.turns import ImageRef, Region, Turn

VERSION = 1
MAX_HISTORY = 200

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SESSION = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEPT_CONTROLS = "\n\t"
_OVERRIDES = "\u202d\u202e"  # direction overrides make a text read otherwise than it is written


class CommandName(StrEnum):
    """The `type` of a client's frame."""

    HELLO = "hello"
    IMAGE = "image"
    TURN = "turn"
    CANCEL = "cancel"
    HISTORY = "history"
    NEW = "new"
    FORGET = "forget"
    EXPLAIN = "explain"


class LaterCommand(StrEnum):
    """Commands of version 1 that this server does not carry out yet."""

    REGENERATE = "regenerate"
    EDIT = "edit"
    FEEDBACK = "feedback"
    SESSIONS = "sessions"
    TITLE = "title"


class FrameName(StrEnum):
    """The `type` of a server's frame that is not an event of a turn."""

    READY = "ready"
    IMAGE_STORED = "image.stored"
    HISTORY = "history"
    FORGOTTEN = "forgotten"
    EXPLANATION = "explanation"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Resume:
    """The last event that a client saw of a turn."""

    turn: str
    attempt: int
    seq: int


@dataclass(frozen=True, slots=True)
class Hello:
    session: str | None = None
    token: str | None = None
    resume: Resume | None = None


@dataclass(frozen=True, slots=True)
class ImageCommand:
    """Announces one binary frame of `bytes` bytes."""

    id: str
    mime: str
    bytes: int


@dataclass(frozen=True, slots=True)
class TurnCommand:
    id: str
    text: str
    images: tuple[str, ...] = ()
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    turn: str


@dataclass(frozen=True, slots=True)
class Explain:
    turn: str


@dataclass(frozen=True, slots=True)
class HistoryCommand:
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class New:
    pass


@dataclass(frozen=True, slots=True)
class Forget:
    pass


Command = Hello | ImageCommand | TurnCommand | Cancel | Explain | HistoryCommand | New | Forget
Fields = dict[str, Any]
T = TypeVar("T")


def parse_command(frame: str, limits: Limits) -> Command:
    """The command in a text frame.

    Raises:
        DialogueError: with the frame's `id` (or `turn`) where it could be read.
    """
    fields = _parse_object(frame, limits)
    name = _field(fields, "type", str)
    try:
        return _parser(name)(fields, limits)
    except DialogueError as error:
        error.id = error.id or _answered_id(fields)
        raise


def parse_event(frame: str) -> Event:
    """The event in a server's text frame, for clients written in Python.

    Raises:
        ValueError: the frame is not an event of a turn.
    """
    try:
        return event_from_dict(json.loads(frame))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"expected an event of a turn, got {frame[:80]!r}") from error


def event_frame(event: Event) -> str:
    return _frame(event_to_dict(event))


def ready_frame(session: str, model: str, limits: Limits, turns: Iterable[Turn]) -> str:
    told = {
        "image_bytes": limits.image.max_bytes,
        "image_pixels": limits.image.max_pixels,
        "images": limits.max_images,
        "characters": limits.max_characters,
        "frame_bytes": limits.max_frame_bytes,
        "waiting_turns": limits.max_waiting_turns,
    }
    turn_list = [turn_to_dict(turn) for turn in turns]
    return _frame({"type": FrameName.READY, "session": session, "model": model, "limits": told, "turns": turn_list})


def image_stored_frame(id: str, ref: ImageRef) -> str:
    size = {"width": ref.width, "height": ref.height}
    return _frame({"type": FrameName.IMAGE_STORED, "id": id, "image": ref.sha256, **size})


def history_frame(turns: Iterable[Turn], more: bool) -> str:
    return _frame({"type": FrameName.HISTORY, "turns": [turn_to_dict(turn) for turn in turns], "more": more})


def explanation_frame(explanation: Explanation) -> str:
    return _frame({"type": FrameName.EXPLANATION, **asdict(explanation)})


def forgotten_frame(receipt: Fields) -> str:
    return _frame({"type": FrameName.FORGOTTEN, "receipt": receipt})


def error_frame(error: DialogueError) -> str:
    answered = {} if error.id is None else {"id": error.id}
    return _frame({"type": FrameName.ERROR, "code": str(error.code), "message": str(error), **answered})


def turn_to_dict(turn: Turn) -> Fields:
    """A turn as it stands in lists."""
    error = {"code": turn.final.code, "message": turn.final.message} if isinstance(turn.final, TurnFailed) else None
    return {
        "id": turn.id,
        "role": str(turn.role),
        "text": turn.text,
        "html": turn.final.html if isinstance(turn.final, TurnCompleted) else None,
        "images": list(turn.images),
        "at": turn.at,
        "status": str(turn.status),
        "error": error,
        "region": None if turn.region is None else asdict(turn.region),
        "alternatives": [],
        "feedback": None,
    }


def clean_text(text: str, limits: Limits) -> str:
    """What a person typed, without control characters and outer white space.

    Raises:
        BadRequest: NUL or half a surrogate pair in it. TooLong: more characters than allowed.
    """
    if "\0" in text:
        raise BadRequest("The text contains a NUL character; please send plain text.")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadRequest("The text contains half of a surrogate pair; please send valid Unicode.")
    text = text.replace("\r\n", "\n")
    kept = (char for char in text if char in _KEPT_CONTROLS or unicodedata.category(char) != "Cc")
    text = "".join(char for char in kept if char not in _OVERRIDES).strip()
    if len(text) > limits.max_characters:
        raise TooLong(f"A message may have at most {limits.max_characters:,} characters; this one has {len(text):,}.")
    return text


def check_session_id(session: str) -> str:
    """`session` itself; raises `UnknownSession` when no server can have made it."""
    if not _SESSION.fullmatch(session):
        raise UnknownSession("This conversation is not known here.")
    return session


def _frame(fields: Fields) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _parse_object(frame: str, limits: Limits) -> Fields:
    size = len(frame.encode("utf-8", "surrogatepass"))
    if size > limits.max_frame_bytes:
        raise TooLong(f"A text frame may have at most {limits.max_frame_bytes:,} bytes; this one has {size:,}.")
    try:
        value = json.loads(frame, object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"Expected one JSON object in a text frame: {reason[:200]}.") from None
    if not isinstance(value, dict):
        raise BadRequest(f"Expected one JSON object in a text frame, got {_kind(value)}.")
    return value


def _unique_pairs(pairs: list[tuple[str, Any]]) -> Fields:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"} | {
        int: "a whole number",
        float: "a number with a fraction",
    }
    return names.get(type(value), "null")


def _field(fields: Fields, name: str, kind: type[T], default: T | None = None) -> T:
    """A field of exactly that type (a boolean is not a number); null counts as absent."""
    value = fields.get(name)
    if value is None and default is not None:
        return default
    if type(value) is not kind:
        wanted = _kind(kind())
        came = "nothing" if name not in fields else _kind(value)
        raise BadRequest(f"Expected {wanted} in '{name}', got {came}.")
    return value


def _optional(fields: Fields, name: str, kind: type[T]) -> T | None:
    return None if fields.get(name) is None else _field(fields, name, kind)


def _integer(fields: Fields, name: str, low: int, high: int, default: int | None = None) -> int:
    value = _field(fields, name, int, default)
    if not low <= value <= high:
        raise BadRequest(f"Expected a number from {low} to {high} in '{name}', got {str(value)[:20]}.")
    return value


def _uuid(fields: Fields, name: str) -> str:
    value = _field(fields, name, str)
    if not _UUID.fullmatch(value):
        raise BadRequest(f"Expected a UUID in '{name}', such as 7f9c24e5-7a0c-4b55-9d2e-0d6b6f1c2a33.")
    return value


def _sha256(value: Any) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"Expected the ids of stored pictures, got {_kind(value)}.")
    if not _SHA256.fullmatch(value):
        raise UnknownImage("One of the pictures is not known in this conversation; please send it again.")
    return value


def _answered_id(fields: Fields) -> str | None:
    for name in ("id", "turn"):
        value = fields.get(name)
        if isinstance(value, str) and _UUID.fullmatch(value):
            return value
    return None


def _parse_hello(fields: Fields, limits: Limits) -> Hello:
    version = _field(fields, "version", int)
    if version != VERSION:
        raise UnsupportedVersion(f"This server speaks version {VERSION} of the protocol, not {str(version)[:20]}.")
    session = _optional(fields, "session", str)
    resume = _optional(fields, "resume", dict)
    if resume is not None and session is None:
        raise BadRequest("Expected 'session' beside 'resume'.")
    return Hello(
        session=None if session is None else check_session_id(session),
        token=_optional(fields, "token", str),
        resume=None if resume is None else _parse_resume(resume),
    )


def _parse_resume(fields: Fields) -> Resume:
    most = 2**31
    return Resume(_uuid(fields, "turn"), _integer(fields, "attempt", 1, most), _integer(fields, "seq", 0, most))


def _parse_image(fields: Fields, limits: Limits) -> ImageCommand:
    return ImageCommand(_uuid(fields, "id"), _field(fields, "mime", str, ""), _integer(fields, "bytes", 1, 2**31))


def _parse_turn(fields: Fields, limits: Limits) -> TurnCommand:
    id = _uuid(fields, "id")
    named = _field(fields, "images", list, [])
    if len(named) > limits.max_images:
        raise BadRequest(f"A turn may show at most {limits.max_images} pictures; this one has {len(named)}.")
    images = tuple(dict.fromkeys(_sha256(value) for value in named))
    text = clean_text(_field(fields, "text", str, ""), limits)
    if not text and not images:
        raise BadRequest("The message is empty; please type a question or add a picture.")
    region = _optional(fields, "region", dict)
    return TurnCommand(id, text, images, None if region is None else _parse_region(region))


def _parse_region(fields: Fields) -> Region:
    x, y, w, h = (_fraction(fields, name) for name in ("x", "y", "w", "h"))
    if not (w > 0 and h > 0 and x + w <= 1.0001 and y + h <= 1.0001):
        raise BadRequest("Expected a region inside of the picture: w and h above 0, x + w and y + h at most 1.")
    return Region(_sha256(fields.get("image")), x, y, w, h)


def _fraction(fields: Fields, name: str) -> float:
    value: Any = fields.get(name)
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= 1:
        raise BadRequest(f"Expected a number from 0 to 1 in 'region.{name}'.")
    return float(value)


def _parse_cancel(fields: Fields, limits: Limits) -> Cancel:
    return Cancel(_uuid(fields, "turn"))


def _parse_history(fields: Fields, limits: Limits) -> HistoryCommand:
    before = None if fields.get("before") is None else _uuid(fields, "before")
    return HistoryCommand(before, _integer(fields, "limit", 1, MAX_HISTORY, 50))


def _parser(name: str) -> Callable[[Fields, Limits], Command]:
    parsers: dict[str, Callable[[Fields, Limits], Command]] = {
        CommandName.HELLO: _parse_hello,
        CommandName.IMAGE: _parse_image,
        CommandName.TURN: _parse_turn,
        CommandName.CANCEL: _parse_cancel,
        CommandName.EXPLAIN: lambda fields, limits: Explain(_uuid(fields, "turn")),
        CommandName.HISTORY: _parse_history,
        CommandName.NEW: lambda fields, limits: New(),
        CommandName.FORGET: lambda fields, limits: Forget(),
    }
    if name in parsers:
        return parsers[name]
    if name in set(LaterCommand):
        return _refuse(f"'{name}' is not supported yet by this server.")
    return _refuse(f"Expected one of {', '.join(parsers)} in 'type', got {ascii(name)[:40]}.")


def _refuse(message: str) -> Callable[[Fields, Limits], Command]:
    def parse(fields: Fields, limits: Limits) -> Command:
        raise BadRequest(message)

    return parse
