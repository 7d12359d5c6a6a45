"""Answers -> the bodies of `/v1/chat/completions`, whole or as server-sent events. Does no I/O."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from visavis.bot.openai_api.answers import Ending, Tokens

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class CompletionWriter:
    """The bodies of one answer, which share its head. With `include_usage`, a stream ends with a chunk that has it."""

    id: str
    model: str
    include_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, ending: Ending) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": ending.finish_reason}
        rest = {"usage": _usage(ending.tokens), "visavis": dict(ending.extension)}
        return {**self._head("chat.completion"), "choices": [choice], **rest}

    def first(self) -> bytes:
        """The chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        """A piece of the answer."""
        return self._chunk({"content": piece})

    def last(self, ending: Ending) -> bytes:
        """The finish reason, the usage if it was asked for, and the end of the stream."""
        end = self._chunk({}, ending.finish_reason, visavis=dict(ending.extension))
        if self.include_usage:
            end += event({**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(ending.tokens)})
        return end + DONE

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self.include_usage else {}
        return event({**self._head("chat.completion.chunk"), "choices": [choice], **usage, **more})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
            "service_tier": None,
        }


def event(body: Mapping[str, Any]) -> bytes:
    """A server-sent event; plain ASCII, so that no reader splits a line inside a text."""
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode("ascii")


def _usage(tokens: Tokens | None) -> dict[str, Any]:
    """OpenAI's clients take it for granted, so a model that counts nothing has zeros."""
    known = tokens or Tokens(0, 0)
    return {
        "prompt_tokens": known.prompt,
        "completion_tokens": known.completion,
        "total_tokens": known.prompt + known.completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, "image_tokens": known.image},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
