"""What the core and a platform (Slack, Discord, ...) say to each other: value types and two small protocols.

A platform turns its events into an `Incoming` and shows text in numbered messages; all else is the core's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from visavis.dialogue.errors import BadImage
from visavis.dialogue.limits import ImageLimits


class PlatformError(Exception):
    """The platform did not do what it was asked for; it may later (it is out of reach, or does not answer)."""


class Limited(PlatformError):
    """Too many calls; the next one may come after `retry_after_s`, as the platform has said."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many calls; {retry_after_s:g} s to wait")
        self.retry_after_s = retry_after_s


class Refused(PlatformError):
    """It never will: the channel is gone, a permission is missing."""


class NotPermitted(BadImage):
    """The app may not read pictures: said even of those that are passed over when they are bad."""


def wait_told(retry_after: str | None, usual_s: float) -> float:
    """The seconds of a `Retry-After`; `usual_s` where it says none that can be read."""
    try:
        told_s = float(retry_after or "")
    except ValueError:
        return usual_s
    return told_s if math.isfinite(told_s) and told_s >= 0 else usual_s


@dataclass(frozen=True, slots=True)
class FileLink:
    """A file that somebody posted: where it is, and what the platform says of it (`size` in bytes, 0 unknown)."""

    url: str
    mime: str = ""
    size: int = 0
    id: str = ""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message to the assistant, in plain values: it is kept in Redis as JSON until it is answered.

    id: the platform's own name of the message; the id of the turn is made of it.
    place: names the conversation: a thread, or a channel and a person.
    person: `<platform>:<id>`. channel: whose budget of calls the answer uses.
    events: the ids by which repeats are recognised; `id` is one of them.
    is_private: only the person reads the place. can_whisper: an `Outcome.private` is shown to the person alone.
    replaces: the turn whose question is asked again.
    address: what the platform needs to know to answer. state: what has been shown already, see `Reply.state`.
    """

    id: str
    place: str
    person: str
    channel: str
    text: str = ""
    files: tuple[FileLink, ...] = ()
    events: tuple[str, ...] = ()
    is_private: bool = False
    can_whisper: bool = False
    replaces: str = ""
    address: dict[str, str] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)


def incoming_to_json(incoming: Incoming) -> str:
    """For the store."""
    return json.dumps(asdict(incoming), separators=(",", ":"))


def incoming_from_json(text: str) -> Incoming:
    """The inverse; raises `ValueError` or `TypeError` for what another version has written."""
    incoming = Incoming(**json.loads(text))
    files = tuple(FileLink(**link) for link in incoming.files)  # type: ignore[arg-type]
    return replace(incoming, files=files, events=tuple(incoming.events))


class Ending(StrEnum):
    """How a message to the assistant ended."""

    ANSWERED = "answered"
    STOPPED = "stopped"
    FAILED = "failed"
    MORE = "more"  # of a part that is not the last one
    NOTICE = "notice"  # a reply of the adapter's own, such as a link code


@dataclass(frozen=True, slots=True)
class Outcome:
    """What stands below a part of an answer that has its end: `turn` is empty where none was run.

    can_explain: a picture was looked at, so that "show why" makes sense. private: for the person alone.
    suggestions: questions that could come next.
    """

    ending: Ending
    turn: str = ""
    can_explain: bool = False
    private: bool = False
    suggestions: tuple[str, ...] = ()


class Reply(Protocol):
    """Where one answer is shown: in messages ("parts") that are numbered from 0 and can be edited.

    Methods raise `PlatformError`s. They are called one after the other, never at once.
    """

    @property
    def state(self) -> dict[str, str]:
        """What another process needs in order to go on, such as the ids of the messages that were posted; part 0's is
        kept as "0"."""
        ...

    @property
    def posts(self) -> Sequence[str]:
        """The names (unique on the platform) of the messages shown so far, by which buttons find the turn again."""
        ...

    async def status(self, text: str) -> None:
        """Say that the answer is being worked on; it may be shown in passing, or not at all. Said again while it takes
        a while."""
        ...

    async def open(self) -> str:
        """Of a question that stands nowhere yet: make it a message, once; the place of what follows. Else empty.

        Raises:
            DialogueError: a sentence for the person. PlatformError. Limited: it is asked again.
        """
        ...

    async def put(self, part: int, text: str, outcome: Outcome | None) -> None:
        """Let a part read `text`: post it, or edit what is there. With an `outcome` it has its end, and the whole
        answer as well unless that is `Ending.MORE`.

        The same call may come again after a `PlatformError`, and in another process. `text` has at most
        `Platform.message_limit` characters and pings nobody.
        """
        ...


class Platform(Protocol):
    """One platform. `edit_interval_s`: how often a channel takes a post or an edit, all answers in it together."""

    name: str
    message_limit: int
    edit_interval_s: float

    def reply(self, incoming: Incoming) -> Reply:
        """Where the answer goes; `incoming.state` says what was shown before, by whatever process."""
        ...

    async def own_files(self, incoming: Incoming) -> Sequence[FileLink]:
        """The message's own files; asked for where it came without any, since some platforms tell of them apart.

        Raises:
            Limited: it is asked again.
        """
        ...

    async def more_files(self, incoming: Incoming) -> Sequence[FileLink]:
        """Pictures that belong to the question but were posted before it; those that cannot be fetched are passed over.

        Raises:
            Limited: it is asked again.
        """
        ...

    async def fetch(self, file: FileLink, limits: ImageLimits) -> bytes:
        """The bytes of a posted file, see `files.fetch_file`.

        Raises:
            DialogueError: a sentence for the person. PlatformError. Limited: it is asked again.
        """
        ...
