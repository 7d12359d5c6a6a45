"""The bodies of requests: what is accepted, as pydantic models, which are the OpenAPI document's schemas as well.

Wrong types are refused, unknown fields ignored. Knows no models, no sessions and no answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from visavis.bot.openai_api.content_parts import Body, PicturePart, RefusalPart, TextPart, ThoughtPart
from visavis.bot.openai_api.errors import ApiError

MAX_STOP_STRINGS = 4
Share = Annotated[float, Field(ge=0, le=1)]
SessionId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
MOST_TOKENS = 1_000_000
TokenLimit = Annotated[
    int, Field(ge=-1, le=2**31 - 1, description="Below 1 there is none, as LM Studio's clients say.")
]
_FIELD = re.compile(r"(?!str$)[a-z0-9_]+")
B = TypeVar("B", bound=BaseModel)


class Message(Body):
    """One message; those of tools are passed over."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart | RefusalPart | ThoughtPart | PicturePart | str] | None = None


class Region(Body):
    """The part of the picture that is meant, as shares of its width and height."""

    x: Share
    y: Share
    w: Share
    h: Share


class Extension(Body):
    """What OpenAI's API has no field for."""

    session: SessionId | None = Field(default=None, description="Go on with this conversation; as X-Visavis-Session.")
    explain: bool = Field(default=False, description="Add heat maps: where in the picture each word came from.")
    region: Region | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] | None = None


class StreamOptions(Body):
    """`include_usage`: one more chunk at the end of a stream, with the number of tokens."""

    include_usage: bool | None = False


class ResponseFormat(Body):
    """Plain text is the only one."""

    type: Literal["text"] = "text"


class ChatRequest(Body):
    """The body of `POST /v1/chat/completions`."""

    model: str | None = Field(default=None, description="One of GET /v1/models; the default one when absent.")
    messages: list[Message] = Field(
        min_length=1,
        max_length=2_000,
        json_schema_extra={"contains": {"properties": {"role": {"const": "user"}}, "required": ["role"]}},
    )
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=MAX_STOP_STRINGS)] | None = None
    n: Literal[1] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = Field(default=None, description="`session`: as visavis.session.")
    store: bool | None = Field(
        default=None, description="False: a session gives its pictures only; nothing is remembered."
    )
    logprobs: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    response_format: ResponseFormat | None = None
    tool_choice: Literal["none", "auto"] | None = None
    visavis: Extension | None = None

    @property
    def extension(self) -> Extension:
        """What was asked for beyond OpenAI's fields."""
        return self.visavis or Extension()

    @property
    def stop_strings(self) -> list[str]:
        """Where the answer ends; empty strings would end it before it begins."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in given if text]

    @property
    def sampling(self) -> dict[str, Any]:
        """The options that were given, as chat models of LangChain take them."""
        given = {
            "temperature": self.temperature,
            "top_p": None if self.top_p is None else max(self.top_p, 1e-6),  # 0 is OpenAI's way to say greedy
            "seed": self.seed,
            "max_tokens": self._most_tokens(),
            "top_k": self.extension.top_k,
            "repetition_penalty": self.extension.repetition_penalty,
            "region": None if self.extension.region is None else self.extension.region.model_dump(),
        }
        return {name: value for name, value in given.items() if value is not None}

    def _most_tokens(self) -> int | None:
        given = (self.max_completion_tokens, self.max_tokens)
        return next((min(most, MOST_TOKENS) for most in given if most is not None and most > 0), None)


class EmbeddingsRequest(Body):
    """The body of `POST /v1/embeddings`: texts, and pictures as data URLs or in the forms that messages have.
    Numbers of tokens are refused: they are another model's."""

    input: str | Annotated[list[str | TextPart | PicturePart], Field(min_length=1, max_length=256)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Nothing but the size that the model has."
    )
    user: str | None = None


def read_body(kind: type[B], body: bytes) -> B:
    """Check JSON and types.

    Raises:
        ApiError: status 400, naming the field.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False)) from None


def _refusal(problems: Sequence[ErrorDetails]) -> ApiError:
    """Of alternatives (the forms of a picture), one whose type is the one given is the one that was meant."""
    others = {problem["loc"][:-1] for problem in problems if problem["type"] == "literal_error"}
    meant = [p for p in problems if p["loc"][-1:] != ("str",) and not any(p["loc"][: len(o)] == o for o in others)]
    first = max(meant or problems, key=lambda problem: (len(problem["loc"]), problem["type"] == "literal_error"))
    place = _place(first)
    message = first["msg"]
    if first["type"] == "literal_error":
        same = [problem for problem in problems if _place(problem) == place and problem["type"] == "literal_error"]
        words = [word for problem in same for word in re.split(", | or ", problem["ctx"]["expected"])]
        message = "Input should be " + " or ".join(dict.fromkeys(words))
    if first["type"] == "string_pattern_mismatch" and "dD" in first["ctx"]["pattern"]:
        message = "Expected a data URL, an http(s) address or the id of a picture"
    return ApiError(f"{place}: {message}." if place else f"{message}.", param=place or None)


def _place(problem: ErrorDetails) -> str:
    """The path of fields without the names of types in between."""
    return ".".join(str(part) for part in problem["loc"] if isinstance(part, int) or _FIELD.fullmatch(part))
