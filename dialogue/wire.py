"""The wire, version 1, without I/O: text frame -> command, event -> text frame.

Versions, sizes, types and names of the protocol are checked here, by the types of `commands`, and nowhere else. Every
refusal is a `DialogueError` that says what was expected and what came. Knows no socket, no store and no order of
commands.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from visavis.dialogue.commands import COMMANDS, Command, CommandName
from visavis.dialogue.errors import BadRequest, DialogueError, RateLimited, TooLong
from visavis.dialogue.events import Event, TurnCancelled, TurnCompleted, TurnFailed, event_from_dict, event_to_dict
from visavis.dialogue.explaining import Explanation
from visavis.dialogue.json_text import write_json
from visavis.dialogue.limits import Limits, Persona
from visavis.dialogue.model_choice import ModelChoice
from visavis.dialogue.turns import Exchange, Feedback, ImageRef, Session, SessionSummary, Turn
from visavis.dialogue.wire_fields import is_uuid

Fields = dict[str, Any]
_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a whole number",
    float: "a fraction",
    str: "a string",
    list: "a list",
    dict: "an object",
}
_ANNOUNCEMENT = re.compile(rf'"type"\s*:\s*"{CommandName.IMAGE}"')


class FrameName(StrEnum):
    """The `type` of a server's frame that is not an event of a turn."""

    READY = "ready"
    IMAGE_STORED = "image.stored"
    HISTORY = "history"
    SESSIONS = "sessions"
    TITLE = "title"
    FEEDBACK = "feedback"
    FORGOTTEN = "forgotten"
    LINK = "link"
    LINKED = "linked"
    EXPLANATION = "explanation"
    ERROR = "error"


def parse_command(frame: str, limits: Limits) -> Command:
    """The command in a text frame.

    Raises:
        DialogueError: with the frame's `id` (or `turn`) where it could be read.
    """
    fields = _parse_object(frame, limits)
    name = fields.get("type")
    if not isinstance(name, str) or name not in set(CommandName):
        raise BadRequest(f"Expected one of {', '.join(CommandName)} in 'type', got {ascii(name)[:40]}.")
    try:
        return _adapter(CommandName(name)).validate_python(fields, context=limits)
    except ValidationError as error:
        refusal: DialogueError = BadRequest(_sentence(error))
    except DialogueError as error:
        refusal = error
    refusal.id = next((id for id in (fields.get("id"), fields.get("turn")) if is_uuid(id)), None)
    raise refusal


def announces_picture(frame: str) -> bool:
    """Whether a frame, right or wrong, is meant to be an `image`."""
    return _ANNOUNCEMENT.search(frame) is not None


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


def ready_frame(
    session: Session, choice: ModelChoice, limits: Limits, person: str = "", persona: Persona | None = None
) -> str:
    told = {
        "image_bytes": limits.image.max_bytes,
        "image_pixels": limits.image.max_pixels,
        "images": limits.max_images,
        "characters": limits.max_characters,
        "frame_bytes": limits.max_frame_bytes,
        "waiting_turns": limits.max_waiting_turns,
        "turns_per_minute": limits.turns_per_minute,
        "images_per_minute": limits.images_per_minute,
    }
    turns = [*turns_to_list(session.exchanges), *map(turn_to_dict, session.waiting)]
    about = {
        "session": session.id,
        "person": person or None,
        "persona": asdict(persona or Persona()),
        "title": session.title,
        "model": choice.default,
        "models": [asdict(card) for card in choice.offered],
        "limits": told,
    }
    return _frame({"type": FrameName.READY, **about, "turns": turns, "more": session.more})


def image_stored_frame(id: str, ref: ImageRef) -> str:
    size = {"width": ref.width, "height": ref.height}
    return _frame({"type": FrameName.IMAGE_STORED, "id": id, "image": ref.sha256, **size})


def history_frame(session: Session) -> str:
    return _frame({"type": FrameName.HISTORY, "turns": turns_to_list(session.exchanges), "more": session.more})


def sessions_frame(summaries: Iterable[SessionSummary]) -> str:
    return _frame({"type": FrameName.SESSIONS, "sessions": [asdict(summary) for summary in summaries]})


def title_frame(session: str, text: str) -> str:
    return _frame({"type": FrameName.TITLE, "session": session, "text": text})


def feedback_frame(turn: str, feedback: Feedback) -> str:
    return _frame({"type": FrameName.FEEDBACK, "turn": turn, **asdict(feedback)})


def explanation_frame(explanation: Explanation) -> str:
    return _frame({"type": FrameName.EXPLANATION, **asdict(explanation)})


def forgotten_frame(receipt: Fields) -> str:
    return _frame({"type": FrameName.FORGOTTEN, "receipt": receipt})


def link_frame(code: str, expires_s: int) -> str:
    return _frame({"type": FrameName.LINK, "code": code, "expires_s": expires_s})


def linked_frame(names: Iterable[str]) -> str:
    """Which channels are one person's; names themselves may be secrets of those channels."""
    return _frame({"type": FrameName.LINKED, "channels": sorted({name.partition(":")[0] for name in names})})


def error_frame(error: DialogueError) -> str:
    more: Fields = {} if error.id is None else {"id": error.id}
    if isinstance(error, RateLimited):
        more["retry_after_s"] = error.retry_after_s
    return _frame({"type": FrameName.ERROR, "code": str(error.code), "message": str(error), **more})


def turns_to_list(exchanges: Iterable[Exchange]) -> list[Fields]:
    """Questions and answers as they stand in lists, each with those that stand in its place in other branches."""
    turns: list[Fields] = []
    for one in exchanges:
        turns.append(turn_to_dict(one.question, [other.question for other in one.alternatives]))
        turns.append(turn_to_dict(one.answer, [other.answer for other in one.alternatives]))
    return turns


def turn_to_dict(turn: Turn, alternatives: Iterable[Turn] = ()) -> Fields:
    """A turn as it stands in lists."""
    error = {"code": turn.final.code, "message": turn.final.message} if isinstance(turn.final, TurnFailed) else None
    completed = turn.final if isinstance(turn.final, TurnCompleted) else None
    return {
        "id": turn.id,
        "role": str(turn.role),
        "text": turn.text,
        "html": turn.final.html if isinstance(turn.final, TurnCompleted | TurnCancelled) else None,
        "images": list(turn.images),
        "at": turn.at,
        "status": str(turn.status),
        "error": error,
        "region": None if turn.region is None else asdict(turn.region),
        "replaces": turn.replaces,
        "alternatives": [turn_to_dict(other) for other in alternatives],
        "feedback": None if turn.feedback is None else asdict(turn.feedback),
        "confidence": completed and completed.confidence,
        "suggestions": list(completed.suggestions) if completed else [],
    }


def _frame(fields: Fields) -> str:
    return write_json(fields)


@cache
def _adapter(name: CommandName) -> TypeAdapter[Command]:
    return TypeAdapter(COMMANDS[name])


def _parse_object(frame: str, limits: Limits) -> Fields:
    size = len(frame.encode("utf-8", "surrogatepass"))
    if size > limits.max_frame_bytes:
        raise TooLong(f"A text frame may have at most {limits.max_frame_bytes:,} bytes; this one has {size:,}.")
    try:
        value = _DECODER.decode(frame)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"Expected one JSON object in a text frame: {reason[:200]}.") from None
    if not isinstance(value, dict):
        raise BadRequest(f"Expected one JSON object in a text frame, got {_kind(value)}.")
    return value


def _given_fields(pairs: list[tuple[str, Any]]) -> Fields:
    """A field that is null counts as absent."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return {name: value for name, value in fields.items() if value is not None}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# `orjson` would take the last of two equal keys; `loads` would make a decoder for each frame
_DECODER = json.JSONDecoder(object_pairs_hook=_given_fields, parse_constant=_refuse_constant)


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"Expected '{where}', got nothing."
    message = first["msg"].removeprefix("Value error, ").replace("tuple", "list")
    message = re.sub("a dictionary or an instance of .*", "a valid object", message)
    return f"'{where}': {message[:1].lower()}{message[1:]}, got {_kind(first['input'])}."


def _kind(value: object) -> str:
    """What JSON calls it."""
    return _KINDS.get(type(value), "something else")
