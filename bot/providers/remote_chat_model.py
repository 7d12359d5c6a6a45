"""A chat model of a provider, made fit for conversations of ours: pictures by reference, bounded waiting, tries again.

What goes wrong before the first word is tried again with growing, random pauses (tenacity); one that fails again and
again is left alone for a while. Knows no provider by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, SystemMessage, UsageMetadata
from langchain_core.messages.ai import add_usage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field, PrivateAttr

from visavis.bot.providers.breaker import CircuitBreaker
from visavis.bot.providers.failures import Away, BrokeOff, ProviderError, Refused, secrets_of, translated
from visavis.bot.providers.messages import readable, without_system
from visavis.bot.providers.patience import Patience
from visavis.models.streamed_chat_model import StreamedChatModel

_ENDS = ("finish_reason", "stop_reason", "done_reason")
_CLIENTS = ("root_async_client", "_async_client", "async_client")
# What each option is called by the chat models of LangChain.
_FIELDS: Mapping[str, Sequence[str]] = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "seed": ("seed",),
    "max_tokens": ("max_tokens", "max_output_tokens", "num_predict"),
    "repetition_penalty": ("repetition_penalty", "repeat_penalty"),
}
Said = AsyncGenerator[AIMessageChunk, None]


@dataclass
class _Told:
    """What the chunks of an answer tell beside their text."""

    usage: UsageMetadata | None = None
    reason: str | None = None
    text: str = ""

    def add(self, chunk: AIMessageChunk) -> str:
        if chunk.usage_metadata is not None:
            self.usage = add_usage(self.usage, chunk.usage_metadata)
        self.reason = next((str(r) for end in _ENDS if (r := chunk.response_metadata.get(end))), self.reason)
        self.text += (text := str(chunk.text))
        return text


class RemoteChatModel(StreamedChatModel):
    """`inner` as `shown_name`. `tells_its_end`: an answer without a reason why it ended was cut off.

    `takes_pictures` and `takes_sampling` False: what is known not to be taken is not sent. Options of a call
    (`temperature`, `top_p`, `top_k`, `seed`, `max_tokens`, `repetition_penalty`) are set where `inner` has such a
    field; a request that is refused is sent again without them, then without a system prompt.

    Raises `ProviderError`s alone, and what `image_source` raises.
    """

    inner: Any = Field(exclude=True, repr=False)
    shown_name: str
    image_source: Any = Field(default=None, exclude=True, repr=False)
    patience: Patience = Patience()
    takes_pictures: bool = True
    takes_sampling: bool = True
    tells_its_end: bool = False
    _breaker: CircuitBreaker = PrivateAttr()
    _takes_system: bool = PrivateAttr(default=True)

    def model_post_init(self, context: Any) -> None:
        """One circuit for all callers."""
        super().model_post_init(context)
        self._breaker = CircuitBreaker(self.patience.failures, self.patience.rest_s)

    @property
    def _llm_type(self) -> str:
        return "visavis-remote"

    async def aclose(self) -> None:
        """Close the connections that are kept open, where the provider's client can."""
        clients = [getattr(self.inner, name, None) for name in _CLIENTS]
        clients.append(getattr(getattr(self.inner, "client", None), "aio", None))  # Google's
        client = next((client for client in clients if client is not None), None)
        closing = getattr(client, "aclose", getattr(client, "close", lambda: None))()
        if inspect.isawaitable(closing):
            await closing

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        region = kwargs.pop("region", None)
        messages = await readable(messages, self.image_source, region, pictures=self.takes_pictures)
        told = _Told()
        begun, rest = await self._begin_somehow(messages, stop, kwargs)
        async with contextlib.aclosing(rest):
            for chunk in begun:
                if text := told.add(chunk):
                    yield _words(text)
            async with contextlib.aclosing(self._to_its_end(rest, told)) as words:
                async for text in words:
                    yield _words(text)
        yield self._last(messages, told)

    async def _to_its_end(self, rest: Said, told: _Told) -> AsyncGenerator[str, None]:
        try:
            while (chunk := await self._next(rest)) is not None:
                if text := told.add(chunk):
                    yield text
        except Exception as error:
            self._breaker.failed()
            self._translated(error)  # for the log
            raise BrokeOff from None
        if self.tells_its_end and told.reason is None:
            self._breaker.failed()
            raise BrokeOff

    async def _begin_somehow(
        self, messages: list[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> tuple[list[AIMessageChunk], Said]:
        """The first form of the request that is not refused; that system prompts are is remembered."""
        has_system = any(isinstance(message, SystemMessage) for message in messages)
        plain = without_system(messages) if has_system else messages
        forms = (
            [(messages, options), (messages, {}), (plain, {})]
            if self._takes_system
            else [(plain, options), (plain, {})]
        )
        refusal: ProviderError | None = None
        for number, (form, given) in enumerate(forms):
            if (form, given) in forms[:number]:
                continue
            try:
                begun = await self._begin(form, stop, given)
            except Refused as error:
                refusal = error
                continue
            if form is not messages and has_system:
                self._takes_system = False
            return begun
        assert refusal is not None
        raise refusal

    async def _begin(
        self, messages: list[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> tuple[list[AIMessageChunk], Said]:
        async for attempt in self.patience.tries():
            with attempt:
                return await self._try(messages, stop, options)
        raise AssertionError("tenacity raises what was raised last")

    async def _try(
        self, messages: list[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> tuple[list[AIMessageChunk], Said]:
        """The chunks up to the first word, and the stream of the others."""
        if wait_s := self._breaker.wait_s():
            raise Away(retry_after_s=max(1, round(wait_s)))
        stream = cast(Said, self._with(options).astream(messages, stop=stop))
        begun: list[AIMessageChunk] = []
        try:
            async with asyncio.timeout(self.patience.word_s):
                async for chunk in stream:
                    begun.append(chunk)
                    if chunk.text:
                        break
            self._check_whole(begun)
        except BaseException as error:
            await stream.aclose()
            if not isinstance(error, Exception):
                raise
            raise self._translated(error) from None
        self._breaker.succeeded()
        return begun, stream

    def _check_whole(self, begun: list[AIMessageChunk]) -> None:
        """An answer that ends before its first word has to say why."""
        told = _Told()
        if self.tells_its_end and not "".join(map(told.add, begun)) and told.reason is None:
            raise BrokeOff

    async def _next(self, rest: Said) -> AIMessageChunk | None:
        async with asyncio.timeout(self.patience.word_s):
            return await anext(rest, None)

    def _with(self, options: Mapping[str, Any]) -> BaseChatModel:
        """`inner` with the options as fields, which every class has in common, unlike arguments of a call."""
        names = type(self.inner).model_fields
        wanted = {
            field: value
            for name, value in options.items()
            if self.takes_sampling or name == "max_tokens"
            if (field := next((field for field in _FIELDS.get(name, ()) if field in names), None)) is not None
        }
        model: BaseChatModel = self.inner.model_copy(update=wanted) if wanted else self.inner
        return model

    def _translated(self, error: Exception) -> ProviderError:
        failure = translated(error, self.shown_name, secrets_of(self.inner))
        if isinstance(failure, Away):
            self._breaker.failed(failure.retry_after_s)
        return failure

    def _last(self, messages: list[BaseMessage], told: _Told) -> ChatGenerationChunk:
        """What is told at the end. Tokens that the other side did not count are counted here, about."""
        read, said = (
            count_tokens_approximately(messages),
            count_tokens_approximately([AIMessageChunk(content=told.text)]),
        )
        usage = UsageMetadata(input_tokens=read, output_tokens=said, total_tokens=read + said)
        if told.usage is not None and told.usage["total_tokens"]:
            usage = told.usage
        metadata = {"model_name": self.shown_name, "finish_reason": told.reason or "stop", "confidence": None}
        last = AIMessageChunk(content="", response_metadata=metadata, usage_metadata=usage, chunk_position="last")
        return ChatGenerationChunk(message=last)


def _words(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text))
