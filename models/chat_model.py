"""The model as LangChain's `BaseChatModel`: over an engine in this process, or over a model server's address.

It turns messages into requests and answers into messages, and sends a picture's bytes when they are asked for. It knows
no HTTP (`ModelClient` does) and no tensors; torch is not imported for a remote model.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails
from langchain_core.outputs import ChatGenerationChunk
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from visavis.models.chat_messages import read_conversation, read_region
from visavis.models.embeddings import VisavisEmbeddings
from visavis.models.errors import ServerLost, UnknownImage
from visavis.models.generation import (
    Completion,
    GenerationChunk,
    GenerationRequest,
    SamplingParameters,
    WordHeat,
)
from visavis.models.model_client import ModelClient
from visavis.models.streamed_chat_model import StreamedChatModel
from visavis.models.tracing import TRACING

if TYPE_CHECKING:
    from visavis.models.engine import InferenceEngine

_SAMPLING = ("temperature", "top_k", "top_p", "seed", "repetition_penalty", "max_new_tokens", "min_new_tokens", "beams")
_PAUSE_S = 0.2


class ImageSource(Protocol):
    """Where the bytes of a picture come from."""

    async def read(self, sha256: str) -> bytes:
        """The bytes whose sha256 this is; raises an error with `code` "unknown_image" if there are none."""
        ...


class VisavisChatModel(StreamedChatModel):
    """Answers questions about pictures; give it either an `engine` or a `base_url` (`http://.../v1`, `unix:///...`).

    Pictures come as `{"type": "image", "file_id": sha256}` (read from `image_source` when the model does not hold them
    yet), as base64 image blocks or as data URLs. Every sampling field can be given for one call as well, beside `stop`,
    `deadline_s` and `region` (`{"x", "y", "w", "h"}`, shares of the picture; not used with the `image` of another one).

    `context_tokens` is how much of a conversation may be sent, where the model itself leaves out what it cannot read.
    `patience_s` is how long a model server that cannot be reached is waited for: it may be starting.

    Closing a stream stops the work in the engine. The last chunk has `response_metadata` {model_name, finish_reason,
    confidence, image, images} and `usage_metadata`. Errors are `ModelError`s with a `code`.
    """

    # keep_connections: to the server, for an event loop that goes on; `aclose` ends them.
    model_config = ConfigDict(populate_by_name=True)

    engine: Any = Field(default=None, exclude=True, repr=False)
    base_url: str | None = None
    keep_connections: bool = False
    image_source: Any = Field(default=None, exclude=True, repr=False)
    model_name: str = "visavis-embedded"
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    max_new_tokens: int | None = Field(default=None, alias="max_tokens")
    min_new_tokens: int = 0
    beams: int = 1
    stop: list[str] | None = None
    deadline_s: float | None = Field(default=None, alias="timeout")
    patience_s: float = 60.0
    context_tokens: int | None = None
    _backend: InferenceEngine | ModelClient = PrivateAttr()

    @model_validator(mode="after")
    def _connect(self) -> Self:
        if (self.engine is None) == (self.base_url is None):
            raise ValueError("VisavisChatModel needs either an engine or a base_url")
        self._backend = self.engine if self.base_url is None else ModelClient(self.base_url, keep=self.keep_connections)
        self.model_name = getattr(self.engine, "model_name", self.model_name)
        return self

    @property
    def _llm_type(self) -> str:
        return "visavis"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model_name": self.model_name, **{name: getattr(self, name) for name in _SAMPLING}}

    async def aclose(self) -> None:
        """Close the connections to a model server; an engine stays its owner's."""
        if isinstance(self._backend, ModelClient):
            await self._backend.aclose()

    async def explain(self, messages: list[BaseMessage], answer: str) -> tuple[WordHeat, ...]:
        """Where in the picture the words of `answer` to the messages come from.

        Raises:
            ModelError: BadRequest without a picture; ServerLost: the server cannot be reached now.
        """
        conversation = read_conversation(messages)
        request = conversation.request(SamplingParameters(), read_region(conversation.region, conversation.image))
        try:
            return await self._backend.explain(request, answer)
        except UnknownImage as error:
            await self._send(error.images, conversation.inline)
            return await self._backend.explain(request, answer)

    async def likeness(self, text: str, images: Sequence[str]) -> tuple[float, ...]:
        """How well a text fits each of the pictures (sha256): the softmax of these numbers says which one is meant.

        Nothing from a model without a space that pictures and texts share; raises as `explain`.
        """
        try:
            return await self._backend.likeness(text, images)
        except UnknownImage as error:
            await self._send(error.images, {})
            return await self._backend.likeness(text, images)

    def embeddings(self) -> VisavisEmbeddings:
        """Texts and pictures as vectors, by the same engine or model server."""
        return VisavisEmbeddings.of(self._backend)

    async def speak(
        self, messages: list[BaseMessage], stop: list[str] | None = None, **kwargs: Any
    ) -> AsyncGenerator[str | AIMessageChunk, None]:
        """What `astream` gives, for a program that counts milliseconds: without callbacks, and a piece of nothing but
        words as a string. Raises as `astream`."""
        conversation = read_conversation(messages)
        request = conversation.request(
            self._sampling(stop, kwargs),
            read_region(kwargs.get("region", conversation.region), conversation.image),
            kwargs.get("deadline_s", self.deadline_s),
        )
        with TRACING.asking(request, self.model_name) as ended:
            async with contextlib.aclosing(self._answer(request, conversation.inline)) as chunks:
                async for chunk in chunks:
                    if chunk.completion is not None:
                        ended(chunk.completion)
                    is_plain = chunk.completion is None and chunk.position is None
                    yield chunk.text if is_plain else self._message(chunk)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        async with contextlib.aclosing(self.speak(messages, stop, **kwargs)) as pieces:
            async for piece in pieces:
                message = AIMessageChunk(content=piece) if isinstance(piece, str) else piece
                yield ChatGenerationChunk(message=message)

    async def _answer(
        self, request: GenerationRequest, inline: Mapping[str, bytes]
    ) -> AsyncGenerator[GenerationChunk, None]:
        """Wait for a model server that starts (again). One that dies in mid-answer is asked once more, and what was
        said already is left out: the same question gets the same answer, unless chance has a part in it."""
        said, broke_off, deadline = 0, False, time.monotonic() + self.patience_s
        while True:
            try:
                async with contextlib.aclosing(_after(said, self._ask(request, inline))) as chunks:
                    async for chunk in chunks:
                        said += len(chunk.text)
                        yield chunk
                    return
            except ServerLost as lost:
                if lost.broke_off and (broke_off or (said and not request.sampling.repeatable)):
                    raise
                deadline = time.monotonic() + self.patience_s if lost.broke_off else deadline
                broke_off |= lost.broke_off
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_PAUSE_S)

    async def _ask(
        self, request: GenerationRequest, inline: Mapping[str, bytes]
    ) -> AsyncGenerator[GenerationChunk, None]:
        """Ask; if the model does not hold the pictures, send them and ask once more."""
        try:
            async with contextlib.aclosing(self._backend.stream(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
                return
        except UnknownImage as error:
            missing = error.images
        request = await self._sent(request, missing, inline)
        async with contextlib.aclosing(self._backend.stream(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _sent(
        self, request: GenerationRequest, images: Sequence[str], inline: Mapping[str, bytes]
    ) -> GenerationRequest:
        """The request once its pictures are sent; one that is gone from a long conversation is no reason to fail."""
        gone = set()
        for sha256 in images:
            try:
                await self._send([sha256], inline)
            except Exception as error:
                if sha256 == request.image or getattr(error, "code", None) != UnknownImage.code:
                    raise
                gone.add(sha256)
        return request.without(gone) if gone else request

    async def _send(self, images: Sequence[str], inline: Mapping[str, bytes]) -> None:
        for sha256 in images:
            if sha256 not in inline and self.image_source is None:
                raise UnknownImage([sha256])
            data = inline[sha256] if sha256 in inline else await self.image_source.read(sha256)
            if isinstance(self._backend, ModelClient):
                await self._backend.add_image(data)
            else:
                self._backend.add_image(data)

    def _sampling(self, stop: list[str] | None, options: Mapping[str, Any]) -> SamplingParameters:
        chosen = {name: options.get(name, getattr(self, name)) for name in _SAMPLING}
        chosen["max_new_tokens"] = options.get("max_tokens", chosen["max_new_tokens"])
        return SamplingParameters(**chosen, stop=tuple(self.stop or () if stop is None else stop))

    def _message(self, chunk: GenerationChunk) -> AIMessageChunk:
        completion = chunk.completion
        if completion is None:  # a list, since LangChain adds up the numbers of chunks
            metadata = {} if chunk.position is None else {"queue_positions": [chunk.position]}
            return AIMessageChunk(content=chunk.text, response_metadata=metadata)
        return AIMessageChunk(
            content=chunk.text,
            chunk_position="last",
            response_metadata=self._metadata(completion),
            usage_metadata={
                "input_tokens": completion.input_tokens,
                "output_tokens": completion.output_tokens,
                "total_tokens": completion.input_tokens + completion.output_tokens,
                "input_token_details": cast(InputTokenDetails, {"image": completion.image_tokens}),
            },
        )

    def _metadata(self, completion: Completion) -> dict[str, Any]:
        return {
            "model_name": self.model_name,
            "finish_reason": completion.finish_reason.value,
            "confidence": completion.confidence,
            "image": completion.image,
            "images": list(completion.images or ([] if completion.image is None else [completion.image])),
        }


async def _after(said: int, chunks: AsyncGenerator[GenerationChunk, None]) -> AsyncGenerator[GenerationChunk, None]:
    """The chunks without the first `said` characters; places in the line only where nothing was said."""
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            text = chunk.text[said:]
            waits = chunk.position is not None and said == 0
            said -= len(chunk.text) - len(text)
            if text or waits or chunk.completion is not None:
                yield chunk if len(text) == len(chunk.text) else replace(chunk, text=text)
