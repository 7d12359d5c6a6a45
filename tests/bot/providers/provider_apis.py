"""Stand-ins of the HTTP APIs that providers have of their own; each fails in all the ways of the `MoodyServer`.

After their public descriptions: Anthropic's Messages, Google's `streamGenerateContent`, Ollama's `chat`.
"""

import json
from typing import Any

from moody_server import MoodyServer
from starlette.responses import JSONResponse, Response


class AnthropicApi(MoodyServer):
    """Events with names of their own; tokens are told at both ends."""

    path = "/v1/messages"

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        told = {"type": "error", "error": {"type": "some_error", "message": message}}
        return JSONResponse(told, status, headers)

    def _begin(self) -> bytes:
        usage = {"input_tokens": 7, "output_tokens": 1}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "inner", "content": []}
        message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
        block = {"type": "text", "text": ""}
        return named("message_start", message=message) + named("content_block_start", index=0, content_block=block)

    def _word(self, word: str) -> bytes:
        return named("content_block_delta", index=0, delta={"type": "text_delta", "text": word})

    def _end(self, *, counts: bool) -> bytes:
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        last = named("message_delta", delta=delta, usage={"input_tokens": 7, "output_tokens": 3})
        return named("content_block_stop", index=0) + last + named("message_stop")


class GoogleApi(MoodyServer):
    """Candidates as server-sent events; tokens are told with the last one."""

    path = "/{version}/models/{model}:streamGenerateContent"

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        return JSONResponse({"error": {"code": status, "message": message, "status": "SOME"}}, status, headers)

    def _word(self, word: str) -> bytes:
        return self._candidate(word)

    def _end(self, *, counts: bool) -> bytes:
        usage = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}
        return self._candidate("", finishReason="STOP", usageMetadata=usage)

    def _candidate(self, text: str, **more: Any) -> bytes:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        candidate |= {"finishReason": more.pop("finishReason")} if "finishReason" in more else {}
        body = {"candidates": [candidate], "modelVersion": "inner", "responseId": "x", **more}
        return f"data: {json.dumps(body)}\r\n\r\n".encode()


class MistralApi(MoodyServer):
    """OpenAI's wire, but tokens are told with the reason why the answer ended."""

    def _end(self, *, counts: bool) -> bytes:
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return self._event({"choices": [choice], "usage": usage}) + b"data: [DONE]\n\n"


class OllamaApi(MoodyServer):
    """A JSON object a line; there is no key."""

    path = "/api/chat"
    media_type = "application/x-ndjson"

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        return JSONResponse({"error": message}, status, headers)

    def _word(self, word: str) -> bytes:
        return self._line({"message": {"role": "assistant", "content": word}, "done": False})

    def _end(self, *, counts: bool) -> bytes:
        counted = {"prompt_eval_count": 7, "eval_count": 3} if counts else {}
        nothing = {"role": "assistant", "content": ""}
        return self._line({"message": nothing, "done": True, "done_reason": "stop", **counted})

    def _line(self, body: dict[str, Any]) -> bytes:
        return (json.dumps({"model": "inner", "created_at": "2026-01-01T00:00:00Z", **body}) + "\n").encode()


def named(event: str, **body: Any) -> bytes:
    """A server-sent event with a name."""
    return f"event: {event}\ndata: {json.dumps({'type': event, **body})}\n\n".encode()
