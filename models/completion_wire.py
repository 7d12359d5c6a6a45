"""What a model server answers, in OpenAI's form: written by the server, read by its client, here and nowhere else.

Errors too. Extension fields are under `visavis`. It does no I/O; `completion_requests` has the other direction.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson

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
    WordHeat,
)

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
_DATA, _DONE_LINE = b"data: ", b"data: [DONE]"
_ENCODER = json.JSONEncoder(separators=(",", ":"))  # `dumps` would make one for each event
DONE = _DONE_LINE + b"\n\n"


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
    return f"data: {_ENCODER.encode(body)}\n\n".encode("ascii")


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
            body = orjson.loads(line[len(_DATA) :])
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
            "images": list(completion.images),
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
        images=tuple(own.get("images") or ()),
    )
