"""A chat model that says what a test wants, word by word, as slowly as it wants it, or fails."""

import asyncio
import re
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field


class ScriptedChatModel(BaseChatModel):
    answer: str = "a red square on white"
    pause_s: float = 0.0
    confidence: float | None = 0.5
    error: Exception | None = None
    looks: bool = False
    asked: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    async def explain(self, messages: list[BaseMessage], answer: str) -> list[SimpleNamespace]:
        """Where it looked for each word: one cell after another of two by two."""
        return [
            SimpleNamespace(
                start=word.start(), end=word.end(), rows=[[place % 4 == 0, place % 4 == 1], [0, place % 4 > 1]]
            )
            for place, word in enumerate(re.finditer(r"\S+", answer))
        ]

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("this model only streams")

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.asked.append(messages)
        if self.error is not None:
            raise self.error
        for word in re.findall(r"\S+\n*", self.answer):
            await asyncio.sleep(self.pause_s)
            yield ChatGenerationChunk(message=AIMessageChunk(word if word.endswith("\n") else word + " "))
        metadata = {
            "model_name": "scripted",
            "finish_reason": "stop",
            "confidence": self.confidence,
            "image": _last_picture(messages) if self.looks else None,
            "image_tokens": 0,
        }
        usage = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
        last = AIMessageChunk("", response_metadata=metadata, usage_metadata=usage, chunk_position="last")
        yield ChatGenerationChunk(message=last)


def _last_picture(messages: list[BaseMessage]) -> str | None:
    blocks = [block for message in messages for block in message.content if isinstance(block, dict)]
    return next((block["file_id"] for block in reversed(blocks) if block.get("type") == "image"), None)
