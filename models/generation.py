"""What is asked of an engine and what comes back: frozen value types without tensors, for both sides of a socket.

It knows no model and no messages; ranges are checked here, so that whoever makes a request gets the error.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from visavis.models.errors import BadRequest
from visavis.models.request_trace import RequestTrace

MAX_STOP_STRINGS = 8
MAX_BEAMS = 16
Role = Literal["system", "user", "assistant"]


def _check(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise BadRequest(f"{name} must be between {low:g} and {high:g}, not {value!r}")


@dataclass(frozen=True)
class SamplingParameters:
    """How tokens are chosen; the defaults are greedy.

    `temperature` 0 takes the likeliest token, `top_k` 0 and `top_p` 1 leave all tokens in. The same `seed` repeats the
    same answer; without one, each answer draws its own. `max_new_tokens` None means the engine's default; before
    `min_new_tokens` an answer does not end by itself. With several `beams` the likeliest of what so many beginnings
    lead to is searched for, and said at once when it is found; nothing is left to chance then, nor penalised.

    Raises:
        BadRequest: a value is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    min_new_tokens: int = 0
    beams: int = 1

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0.0, 10.0)
        _check("top_k", self.top_k, 0, 1_000_000)
        _check("top_p", self.top_p, 1e-6, 1.0)
        _check("repetition_penalty", self.repetition_penalty, 0.1, 10.0)
        _check("seed", self.seed or 0, -(2**63), 2**63 - 1)
        _check("max_new_tokens", 1 if self.max_new_tokens is None else self.max_new_tokens, 1, 1_000_000)
        _check("min_new_tokens", self.min_new_tokens, 0, 1_000_000)
        _check("beams", self.beams, 1, MAX_BEAMS)
        if self.beams > 1 and not (self.greedy and self.repetition_penalty == 1.0):
            raise BadRequest("a search with several beams takes no temperature and no repetition penalty")
        if len(self.stop) > MAX_STOP_STRINGS or not all(self.stop):
            raise BadRequest(f"stop takes at most {MAX_STOP_STRINGS} strings, none of them empty")

    @property
    def greedy(self) -> bool:
        """True if nothing is drawn by chance."""
        return self.temperature == 0.0

    @property
    def repeatable(self) -> bool:
        """True if the same question gets the same answer again."""
        return self.greedy or self.seed is not None


@dataclass(frozen=True)
class Region:
    """A part of the picture, as shares (0..1) of its width and height: "what is *this*?".

    Raises:
        BadRequest: it is empty or does not lie in the picture.
    """

    x: float
    y: float
    w: float
    h: float

    def __post_init__(self) -> None:
        for name in ("x", "y", "w", "h"):
            _check(f"region.{name}", getattr(self, name), 0.0, 1.0)
        if not self.w or not self.h or self.x + self.w > 1.001 or self.y + self.h > 1.001:
            raise BadRequest("a region must have a size and lie inside the picture")


@dataclass(frozen=True)
class Shown:
    """A picture in a message, by its sha256; or a part of it alone."""

    sha256: str
    region: Region | None = None


@dataclass(frozen=True)
class Message:
    """What one side said: words, and pictures of the user's, in their order."""

    role: Role
    parts: tuple[str | Shown, ...]

    @property
    def images(self) -> tuple[str, ...]:
        """Its pictures."""
        return tuple(part.sha256 for part in self.parts if isinstance(part, Shown))


@dataclass(frozen=True)
class GenerationRequest:
    """One question. `image` is the sha256 of the picture it is about; `history` holds earlier (question, answer) pairs.

    `dialogue` is all that was said, for models that read more than that; without one it is made of the rest.

    `deadline_s` counts from now: what is said by then is the answer, with finish reason `cancelled`. `trace` notes when
    it passed what; two requests are equal without it.
    """

    question: str
    history: tuple[tuple[str, str], ...] = ()
    image: str | None = None
    region: Region | None = None
    sampling: SamplingParameters = SamplingParameters()
    deadline_s: float | None = None
    trace: RequestTrace = field(default_factory=RequestTrace, compare=False, repr=False)
    dialogue: tuple[Message, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.deadline_s is not None:
            _check("deadline_s", self.deadline_s, 0.0, 86_400.0)
        object.__setattr__(self, "dialogue", self.dialogue or tuple(self._dialogue()))

    def without(self, images: Collection[str]) -> GenerationRequest:
        """The same where older pictures cannot be shown any more."""
        left = (
            replace(one, parts=tuple(part for part in one.parts if isinstance(part, str) or part.sha256 not in images))
            for one in self.dialogue
        )
        return replace(self, dialogue=tuple(one for one in left if one.parts))

    def _dialogue(self) -> Iterator[Message]:
        """The picture comes with the first question: history counts from where it was shown."""
        shown: tuple[Shown, ...] = () if self.image is None else (Shown(self.image),)
        for asked, answered in self.history:
            yield Message("user", (*shown, asked))
            yield Message("assistant", (answered,))
            shown = ()
        yield Message("user", (*shown, self.question))


class FinishReason(StrEnum):
    """Why an answer ended: by itself or at a stop string, at its length limit, or at its deadline."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Completion:
    """A whole answer. `confidence` (0..1) comes from the `log_probabilities` that the model gave to the tokens it said,
    before temperature and penalties and without the end token; None if it said none.

    `input_tokens` include the `image_tokens`; `image` is the picture looked at, `images` are all of them if there are
    several.
    """

    text: str
    finish_reason: FinishReason
    confidence: float | None = None
    image: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    image_tokens: int = 0
    log_probabilities: tuple[float, ...] = ()
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embedding:
    """A text or a picture as a unit vector of the space that they share, and the tokens or patches that it took."""

    vector: tuple[float, ...]
    tokens: int


@dataclass(frozen=True)
class WordHeat:
    """A word of an answer, its place in the text (`start` up to `end`), and where it was looked at: rows of a square
    grid over the picture, all cells sum to 1."""

    word: str
    start: int
    end: int
    rows: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class GenerationChunk:
    """A piece of an answer; the last one carries the completion, whose text is all pieces joined.

    While a question waits, chunks without text tell its `position` in the queue: 1 is next.
    """

    text: str
    completion: Completion | None = None
    position: int | None = None


def spoken(reply: str, image: str | None) -> list[GenerationChunk]:
    """The chunks of a ready reply, word by word like any answer."""
    words = reply.split(" ")
    pieces = [words[0], *(f" {word}" for word in words[1:])]
    completion = Completion(reply, FinishReason.STOP, image=image, output_tokens=len(words))
    return [*(GenerationChunk(piece) for piece in pieces), GenerationChunk("", completion)]
