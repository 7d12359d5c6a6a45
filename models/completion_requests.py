"""What a model server is asked, in OpenAI's form: read by the server, written by its client, here and nowhere else.

Extension fields are under `visavis`; unknown fields are ignored. It does no I/O.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visavis.models.chat_messages import Conversation, read_conversation
from visavis.models.errors import BadRequest
from visavis.models.generation import GenerationRequest, Message, Region, SamplingParameters, Shown
from visavis.models.text_checks import MAX_TEXT_CHARACTERS

MAX_COMPARED = 64
_KINDS: dict[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "developer": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Message(_Part):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[str | dict[Any, Any]] | None = None


class _Region(_Part):
    x: float
    y: float
    w: float
    h: float


class _Extension(_Part):
    region: _Region | None = None
    deadline_s: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    min_new_tokens: int | None = None
    beams: int | None = None
    answer: str | None = None


class CompletionRequest(_Part):
    """The body of `POST /v1/chat/completions`."""

    messages: list[_Message] = Field(min_length=1, max_length=10_000)
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    visavis: _Extension = _Extension()

    def conversation(self) -> Conversation:
        """What the messages ask. Raises BadRequest, TextTooLong or BadImage."""
        known = [message for message in self.messages if message.role in _KINDS]
        return read_conversation([_KINDS[message.role](content=message.content or "") for message in known])

    def generation_request(self, conversation: Conversation) -> GenerationRequest:
        """The request for the engine. Raises BadRequest when a value is out of range."""
        named = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "max_new_tokens": self.max_completion_tokens or self.max_tokens,
            "top_k": self.visavis.top_k,
            "repetition_penalty": self.visavis.repetition_penalty,
            "min_new_tokens": self.visavis.min_new_tokens,
            "beams": self.visavis.beams,
        }
        given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        region = None if self.visavis.region is None else Region(**self.visavis.region.model_dump())
        return conversation.request(SamplingParameters(**given, stop=stop), region, self.visavis.deadline_s)

    def answer(self) -> str:
        """The answer that is to be explained. Raises BadRequest if there is none."""
        if self.visavis.answer is None:
            raise BadRequest("visavis.answer: expected the answer to be explained")
        return self.visavis.answer[:MAX_TEXT_CHARACTERS]


class LikenessRequest(_Part):
    """The body of `POST /v1/likeness`: how well does `text` fit each of `images` (sha256)?"""

    text: str = Field(max_length=MAX_TEXT_CHARACTERS)
    images: list[str] = Field(max_length=MAX_COMPARED)


class EmbeddingRequest(_Part):
    """The body of `POST /v1/embeddings`: a text, or the sha256 of a picture."""

    text: str = Field("", max_length=MAX_TEXT_CHARACTERS)
    image: str | None = None


Body = TypeVar("Body", CompletionRequest, LikenessRequest, EmbeddingRequest)


def read_request(body: bytes, kind: type[Body]) -> Body:
    """Check JSON and types.

    Raises:
        BadRequest: naming the field, what was expected and what came.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise BadRequest(f"{place}: {problem['msg']}" if place else problem["msg"]) from None


def write_request(request: GenerationRequest, *, stream: bool = True) -> dict[str, Any]:
    """The body that makes a server read this very request."""
    sampling, region = request.sampling, request.region
    return {
        "messages": [{"role": message.role, "content": _content(message)} for message in request.dialogue],
        "stream": stream,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_completion_tokens": sampling.max_new_tokens,
        "stop": list(sampling.stop),
        "visavis": {
            "region": None if region is None else vars(region),
            "deadline_s": request.deadline_s,
            "top_k": sampling.top_k,
            "repetition_penalty": sampling.repetition_penalty,
            "min_new_tokens": sampling.min_new_tokens,
            "beams": sampling.beams,
        },
    }


def _content(message: Message) -> str | list[dict[str, str]]:
    if len(message.parts) == 1 and isinstance(message.parts[0], str):
        return message.parts[0]
    return [
        {"type": "image", "file_id": part.sha256} if isinstance(part, Shown) else {"type": "text", "text": part}
        for part in message.parts
    ]
