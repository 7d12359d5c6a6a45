"""How a model is asked: without LangChain's wrapping where it can be, and with it where somebody listens or waits."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fake_chat_model import USAGE, FakeChatModel
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables.config import var_child_runnable_config

from visavis.dialogue.answering import Answer
from visavis.dialogue.context import Context
from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.turn_log import TurnLog

CONTEXT = Context([HumanMessage("What is it?")], (), ())


class Speaker(FakeChatModel):
    """Can say the same without wrapping."""

    spoken: int = 0

    async def speak(self, messages: list[BaseMessage], **options: Any) -> AsyncGenerator[AIMessageChunk | str, None]:
        self.spoken += 1
        yield AIMessageChunk(content="", response_metadata={"queue_positions": [1]})
        for piece in self.pieces:
            yield piece
        metadata = {"model_name": "fake", "confidence": options.get("temperature", 0.5)}
        yield AIMessageChunk(content="", response_metadata=metadata, usage_metadata=USAGE)


class Listener(AsyncCallbackHandler):
    heard = ""

    async def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.heard += token


async def answer(model: FakeChatModel, **options: Any) -> tuple[TurnCompleted, list[str]]:
    log = TurnLog("s", "t")
    log.begin(1, [])
    completed = await Answer(log, 1, 0.0).stream(model, CONTEXT, options)
    return completed, [str(event.name) for event in log.after(1, 0)]


async def test_a_model_that_can_speaks_without_wrapping() -> None:
    model = Speaker(pieces=["A ", "red \ud800", "ball."])
    completed, names = await answer(model, temperature=0.25)
    assert (model.spoken, model.asked) == (1, [])
    assert (completed.text, completed.confidence, completed.model) == ("A red ?ball.", 0.25, "fake")
    assert completed.usage.output_tokens == 3
    assert names == ["turn.queued", "turn.delta", "turn.delta", "turn.delta"]


async def test_callbacks_hear_every_word() -> None:
    own, around = Listener(), Listener()
    await answer(Speaker(callbacks=[own]))
    token = var_child_runnable_config.set({"callbacks": [around]})
    try:
        await answer(model := Speaker())
    finally:
        var_child_runnable_config.reset(token)
    assert (own.heard, around.heard, model.spoken) == ("A red ball.", "A red ball.", 0)


async def test_a_rate_limiter_is_waited_for() -> None:
    model = Speaker(rate_limiter=InMemoryRateLimiter(requests_per_second=1000))
    await answer(model)
    assert (model.spoken, len(model.asked)) == (0, 1)


@pytest.mark.parametrize("kind", [FakeChatModel, Speaker])
async def test_both_ways_give_the_same_answer(kind: type[FakeChatModel]) -> None:
    completed, _ = await answer(kind())
    assert (completed.text, completed.confidence, completed.usage.image_tokens) == ("A red ball.", 0.5, 4)
