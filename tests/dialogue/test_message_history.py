"""LangChain's view of a conversation on plain Redis: synchronous and not, in a chain, bounded, told when it is away."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables.history import RunnableWithMessageHistory
from redis.asyncio import Redis

from visavis.dialogue import store_message_history
from visavis.dialogue.errors import BadRequest, StoreUnavailable
from visavis.dialogue.store_message_history import VisavisChatMessageHistory

PICTURE = {"type": "image", "file_id": "0" * 64}


@pytest.fixture
async def history(store_url: str) -> AsyncIterator[VisavisChatMessageHistory]:
    history = VisavisChatMessageHistory("user:1", store_url)
    await history.aclear()
    yield history
    await history.aclose()


async def test_both_faces_see_the_same(history: VisavisChatMessageHistory) -> None:
    said = [HumanMessage([PICTURE, {"type": "text", "text": "What is this?"}]), AIMessage("A dog.")]
    await history.aadd_messages(said)
    assert await asyncio.to_thread(lambda: history.messages) == said
    await asyncio.to_thread(history.add_user_message, "Is it large?")
    assert [message.text for message in await history.aget_messages()] == ["What is this?", "A dog.", "Is it large?"]
    history.messages = said[:1]
    assert await history.aget_messages() == said[:1]
    await asyncio.to_thread(history.clear)
    assert await history.aget_messages() == []
    history.add_messages([])
    await history.aadd_messages([])


async def test_it_is_kept_for_a_while_and_up_to_a_number(
    history: VisavisChatMessageHistory, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_message_history, "MOST_MESSAGES", 2)
    for text in ("one", "two", "three"):
        await history.aadd_messages([HumanMessage(text)])
    assert [message.text for message in await history.aget_messages()] == ["two", "three"]
    async with Redis.from_url(store_url) as redis:
        assert 0 < await redis.ttl("visavis:{user:1}:messages") <= 30 * 24 * 3600


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
async def test_a_chain_remembers(store_url: str, history: VisavisChatMessageHistory) -> None:
    chain = RunnableWithMessageHistory(FakeListChatModel(responses=["A dog.", "Yes."]), lambda session: history)
    config = {"configurable": {"session_id": "user:1"}}
    await chain.ainvoke([HumanMessage("What is this?")], config=config)  # type: ignore[arg-type]
    await chain.ainvoke([HumanMessage("Is it large?")], config=config)  # type: ignore[arg-type]
    texts = [message.text for message in await history.aget_messages()]
    assert texts == ["What is this?", "A dog.", "Is it large?", "Yes."]


async def test_what_is_wrong_is_told() -> None:
    for name in ("", "two words", "a{b}", "x" * 257):
        with pytest.raises(BadRequest):
            VisavisChatMessageHistory(name)
    away = VisavisChatMessageHistory("a", "redis://127.0.0.1:1")
    with pytest.raises(StoreUnavailable):
        await away.aget_messages()
    with pytest.raises(StoreUnavailable):
        await asyncio.to_thread(lambda: away.messages)
    await away.aclose()
