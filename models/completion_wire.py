"""The OpenAI-shaped form of requests, answers and errors, read and written here and nowhere else.

Both ends of a model server's socket use it: the server reads requests and writes answers, the client the reverse. It
does no I/O. Extension fields are under `visavis`; unknown fields are ignored.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visavis.models.chat_messages import Conversation, read_conversation
from visavis.models.errors import (
    BadImage,
    BadRequest,
    Busy,
    ImageTooLarge,
    ModelError,
    NoSharedSpace,
    ServerLost,
    TextTooLong,
    UnknownImage,
    UnsupportedImage,
)
from visavis.models.generation import (
    Completion,
    Embedding,
    FinishReason,
    GenerationChunk,
    GenerationRequest,
    Region,
    SamplingParameters,
    WordHeat,
)
from visavis.models.text_checks import MAX_TEXT_CHARACTERS

STATUS = {
    ModelError.code: 500,
    BadRequest.code: 400,
    TextTooLong.code: 400,
    BadImage.code: 400,
    UnknownImage.code: 409,
    ImageTooLarge.code: 413,
    UnsupportedImage.code: 415,
    NoSharedSpace.code: 404,
    Busy.code: 503,
}
MAX_COMPARED = 64
_DATA, _DONE_LINE = b"data: ", b"data: [DONE]"
DONE = _DONE_LINE + b"\n\n"


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
        kinds: dict[str, type[BaseMessage]] = {"user": HumanMessage, "assistant": AIMessage}
        known = [message for message in self.messages if message.role in kinds]
        return read_conversation([kinds[message.role](content=message.content or "") for message in known])

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
    messages: list[dict[str, Any]] = []
    for asked, answered in request.history:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    messages.append({"role": "user", "content": request.question})
    if request.image is not None:  # with the first message: history counts from where the picture was shown
        image = {"type": "image", "file_id": request.image}
        messages[0] = {"role": "user", "content": [image, {"type": "text", "text": messages[0]["content"]}]}
    sampling, region = request.sampling, request.region
    return {
        "messages": messages,
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
        },
    }


def write_chunk(chunk: GenerationChunk, answer_id: str, model_name: str) -> bytes:
    """One server-sent event of a streamed answer."""
    choice = {"index": 0, "delta": {"content": chunk.text}, "finish_reason": None}
    body = {**_head(answer_id, model_name, "chat.completion.chunk"), "choices": [choice]}
    if chunk.completion is not None:
        choice["finish_reason"] = _openai_reason(chunk.completion)
        body |= _tail(chunk.completion)
    elif chunk.position is not None:
        body["visavis"] = {"queue_position": chunk.position}
    return event(body)


def write_completion(completion: Completion, answer_id: str, model_name: str) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    message = {"role": "assistant", "content": completion.text}
    choice = {"index": 0, "message": message, "finish_reason": _openai_reason(completion)}
    return {**_head(answer_id, model_name, "chat.completion"), "choices": [choice], **_tail(completion)}


def event(body: Mapping[str, Any]) -> bytes:
    """A server-sent event; plain ASCII, so that no reader splits a line inside a text."""
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode("ascii")


async def read_events(pieces: AsyncIterable[bytes]) -> AsyncGenerator[GenerationChunk, None]:
    """The bytes of a streamed answer -> its chunks.

    Raises:
        ModelError: of the code that the server sent. ServerLost: the answer breaks off.
    """
    said, rest = "", b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(_DATA) or line == _DONE_LINE:
                continue
            body = json.loads(line[len(_DATA) :])
            if "error" in body:
                raise read_error(body)
            text = body["choices"][0]["delta"].get("content") or ""
            said += text
            own = body.get("visavis", {})
            is_last = "finish_reason" in own
            yield GenerationChunk(text, _read_tail(body, said) if is_last else None, own.get("queue_position"))
            if is_last:
                return
    raise ServerLost(broke_off=True)


def write_explanation(words: Sequence[WordHeat]) -> dict[str, Any]:
    """Where the words of an answer came from."""
    return {"object": "explanation", "words": [asdict(word) for word in words]}


def read_explanation(body: Any) -> tuple[WordHeat, ...]:
    """The reverse. Raises ModelError on anything else."""
    try:
        return tuple(
            WordHeat(item["word"], item["start"], item["end"], tuple(tuple(row) for row in item["rows"]))
            for item in body["words"]
        )
    except (KeyError, TypeError) as error:
        raise ModelError("the model server gave an unknown answer") from error


def read_likeness(body: Any) -> tuple[float, ...]:
    """The numbers that a server answered. Raises ModelError on anything else."""
    try:
        return tuple(float(value) for value in body["likeness"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError("the model server gave an unknown answer") from error


def read_embedding(body: Any) -> Embedding:
    """The vector that a server answered. Raises ModelError on anything else."""
    try:
        return Embedding(tuple(float(value) for value in body["vector"]), int(body["tokens"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError("the model server gave an unknown answer") from error


def write_error(error: ModelError) -> dict[str, Any]:
    """The OpenAI form of an error, with what helps to mend it."""
    kind = "server_error" if STATUS.get(error.code, 500) >= 500 else "invalid_request_error"
    body: dict[str, Any] = {"message": str(error), "type": kind, "code": error.code}
    if isinstance(error, UnknownImage):
        body["images"] = list(error.images)
    if isinstance(error, Busy):
        body["waiting"] = error.waiting
    return {"error": body}


def read_error(body: Any) -> ModelError:
    """The error that a server sent."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return ModelError("the model server gave an unknown answer")
    if error.get("code") == UnknownImage.code:
        return UnknownImage([str(image) for image in error.get("images") or ()])
    if error.get("code") == Busy.code:
        return Busy(int(error.get("waiting") or 0))
    return ModelError(str(error.get("message")), code=str(error.get("code")))


def _head(answer_id: str, model_name: str, kind: str) -> dict[str, Any]:
    return {"id": answer_id, "object": kind, "created": int(time.time()), "model": model_name}


def _openai_reason(completion: Completion) -> str:
    return "length" if completion.finish_reason is FinishReason.LENGTH else "stop"


def _tail(completion: Completion) -> dict[str, Any]:
    used, said = completion.input_tokens, completion.output_tokens
    return {
        "usage": {"prompt_tokens": used, "completion_tokens": said, "total_tokens": used + said},
        "visavis": {
            "confidence": completion.confidence,
            "image": completion.image,
            "image_tokens": completion.image_tokens,
            "finish_reason": completion.finish_reason,
        },
    }


def _read_tail(body: Mapping[str, Any], said: str) -> Completion:
    usage, own = body["usage"], body["visavis"]
    return Completion(
        text=said,
        finish_reason=FinishReason(own["finish_reason"]),
        confidence=own["confidence"],
        image=own["image"],
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        image_tokens=own["image_tokens"],
    )
