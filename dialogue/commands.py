"""What a client may ask for: one frozen value a command, whose field types (`wire_fields`) say what is accepted.

`wire` makes them from frames. Knows no socket, no store and no order of commands.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field, Strict

from visavis.dialogue.errors import BadRequest
from visavis.dialogue.wire_fields import (
    Images,
    Integer,
    LinkCode,
    ModelName,
    RegionField,
    SessionId,
    Text,
    Title,
    Token,
    TurnId,
    Version,
)

MAX_HISTORY = 200
_MOST = 2**31


class CommandName(StrEnum):
    """The `type` of a client's frame."""

    HELLO = "hello"
    IMAGE = "image"
    TURN = "turn"
    REGENERATE = "regenerate"
    EDIT = "edit"
    SELECT = "select"
    CANCEL = "cancel"
    EXPLAIN = "explain"
    FEEDBACK = "feedback"
    HISTORY = "history"
    SESSIONS = "sessions"
    NEW = "new"
    TITLE = "title"
    FORGET = "forget"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Resume:
    """The last event that a client saw of a turn."""

    turn: TurnId
    attempt: Annotated[Integer, Field(ge=1, le=_MOST)]
    seq: Annotated[Integer, Field(ge=0, le=_MOST)]


@dataclass(frozen=True, slots=True)
class Hello:
    """`token` says who the person is."""

    version: Version
    session: SessionId | None = None
    token: Token | None = None
    resume: Resume | None = None

    def __post_init__(self) -> None:
        if self.resume is not None and self.session is None:
            raise BadRequest("Expected 'session' beside 'resume'.")


@dataclass(frozen=True, slots=True)
class ImageCommand:
    """Announces one binary frame of `bytes` bytes."""

    id: TurnId
    bytes: Annotated[Integer, Field(ge=1, le=_MOST)]
    mime: str = ""


@dataclass(frozen=True, slots=True)
class TurnCommand:
    """`model` is one of those in `ready`, the default one when absent."""

    id: TurnId
    text: Text = ""
    images: Images = ()
    region: RegionField | None = None
    model: ModelName = ""

    def __post_init__(self) -> None:
        if not self.text and not self.images:
            raise BadRequest("The message is empty; please type a question or add a picture.")


@dataclass(frozen=True, slots=True)
class Regenerate:
    """Answer the question of `turn` anew, as the turn `id`; by the same model when no `model` is named."""

    turn: TurnId
    id: TurnId
    model: ModelName = ""


@dataclass(frozen=True, slots=True)
class Edit:
    """Put `text` in the place of the question of `turn`, as the turn `id`."""

    turn: TurnId
    id: TurnId
    text: Text
    model: ModelName = ""

    def __post_init__(self) -> None:
        if not self.text:
            raise BadRequest("The message is empty; please type a question.")


@dataclass(frozen=True, slots=True)
class Select:
    """Go back to the branch with `turn`."""

    turn: TurnId


@dataclass(frozen=True, slots=True)
class Cancel:
    turn: TurnId


@dataclass(frozen=True, slots=True)
class Explain:
    turn: TurnId


@dataclass(frozen=True, slots=True)
class FeedbackCommand:
    turn: TurnId
    score: Annotated[Integer, Field(ge=-1, le=1)]
    consent: Annotated[bool, Strict()] = False


@dataclass(frozen=True, slots=True)
class HistoryCommand:
    before: TurnId | None = None
    limit: Annotated[Integer, Field(ge=1, le=MAX_HISTORY)] = 50


@dataclass(frozen=True, slots=True)
class SessionsCommand:
    query: Text = ""


@dataclass(frozen=True, slots=True)
class New:
    pass


@dataclass(frozen=True, slots=True)
class TitleCommand:
    text: Title


@dataclass(frozen=True, slots=True)
class Forget:
    """The session or, with `everything`, all that there is about the person."""

    everything: Annotated[bool, Strict()] = False


@dataclass(frozen=True, slots=True)
class Link:
    """Ask for a code or, with one, join the person who was given it."""

    code: LinkCode | None = None


Command = (
    Hello
    | ImageCommand
    | TurnCommand
    | Regenerate
    | Edit
    | Select
    | Cancel
    | Explain
    | FeedbackCommand
    | HistoryCommand
    | SessionsCommand
    | New
    | TitleCommand
    | Forget
    | Link
)

COMMANDS: dict[CommandName, type[Command]] = {
    CommandName.HELLO: Hello,
    CommandName.IMAGE: ImageCommand,
    CommandName.TURN: TurnCommand,
    CommandName.REGENERATE: Regenerate,
    CommandName.EDIT: Edit,
    CommandName.SELECT: Select,
    CommandName.CANCEL: Cancel,
    CommandName.EXPLAIN: Explain,
    CommandName.FEEDBACK: FeedbackCommand,
    CommandName.HISTORY: HistoryCommand,
    CommandName.SESSIONS: SessionsCommand,
    CommandName.NEW: New,
    CommandName.TITLE: TitleCommand,
    CommandName.FORGET: Forget,
    CommandName.LINK: Link,
}
