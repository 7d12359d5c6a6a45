"""Several chat models as one: the next one is asked when one fails before its first word."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field

from visavis.bot.providers.failures import TakesNoPictures
from visavis.dialogue.errors import ErrorCode
from visavis.models.streamed_chat_model import StreamedChatModel

log = logging.getLogger(__name__)

# What is wrong with a question stays wrong, whoever is asked.
_THE_QUESTION = frozenset(ErrorCode) - {ErrorCode.BUSY, ErrorCode.MODEL_ERROR, ErrorCode.INTERNAL_ERROR}


class FallbackChatModel(StreamedChatModel):
    """`models` by name, in the order in which they are asked. Raises what the last one raises."""

    models: dict[str, Any] = Field(exclude=True, repr=False)

    @property
    def _llm_type(self) -> str:
        return "visavis-fallback"

    def speaker(self, name: str) -> BaseChatModel | None:
        """The model that has told `name` as its own."""
        return self.models.get(name)

    @property
    def context_tokens(self) -> int | None:
        """What the first one says of itself."""
        return getattr(next(iter(self.models.values())), "context_tokens", None)

    async def aclose(self) -> None:
        """Close those that can be closed."""
        for model in self.models.values():
            if (close := getattr(model, "aclose", None)) is not None:
                await close()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        last = next(reversed(self.models))
        for name, model in self.models.items():
            has_spoken = False
            stream = cast(AsyncGenerator[AIMessageChunk, None], model.astream(messages, stop=stop, **kwargs))
            try:
                async with contextlib.aclosing(stream) as chunks:
                    async for chunk in chunks:
                        has_spoken |= bool(chunk.text)
                        yield ChatGenerationChunk(message=chunk)
                return
            except Exception as error:  # the edge to any model
                if has_spoken or name == last or not _may_another(error):
                    raise
                log.warning("%s does not answer (%s); the next model is asked", name, type(error).__name__)


def _may_another(error: Exception) -> bool:
    return isinstance(error, TakesNoPictures) or getattr(error, "code", None) not in _THE_QUESTION
