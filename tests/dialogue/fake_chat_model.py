"""A chat model whose answers a test writes; it records what it was asked and whether its stream was closed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field

USAGE = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10, "input_token_details": {"image": 4}}


class CodedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class FakeChatModel(BaseChatModel):
    """Tells its `places` in a line, answers with `pieces`; waits for `gate` before each piece when there is one; then
    raises `error` if set."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    pieces: list[str] = Field(default_factory=lambda: ["A ", "red ", "ball."])
    places: list[int] = Field(default_factory=list)
    error: Exception | None = None
    gate: asyncio.Semaphore | None = None
    image: str | None = None
    asked: list[list[BaseMessage]] = Field(default_factory=list)
    options: list[dict[str, Any]] = Field(default_factory=list)
    closed: int = 0
    running: int = 0
    most_running: int = 0

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kw: Any) -> AsyncIterator[ChatGenerationChunk]:
        self.asked.append(messages)
        self.options.append({name: value for name, value in kw.items() if name in ("seed", "temperature")})
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            for place in self.places:
                waiting = AIMessageChunk(content="", response_metadata={"queue_positions": [place]})
                yield ChatGenerationChunk(message=waiting)
            for piece in self.pieces:
                if self.gate is not None:
                    await self.gate.acquire()
                yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if self.error is not None:
                raise self.error
            metadata = {"model_name": "fake", "finish_reason": "stop", "confidence": 0.5, "image": self.image}
            last = AIMessageChunk(content="", response_metadata=metadata, usage_metadata=USAGE)
            yield ChatGenerationChunk(message=last)
        finally:
            self.running -= 1
            self.closed += 1
