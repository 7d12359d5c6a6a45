"""A model of somebody else's over a real socket: what is sent to it, and what its failures do to us."""

import asyncio
import base64
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from moody_server import WORDS, MoodyServer, running
from tenacity import AsyncRetrying, RetryCallState

from visavis.bot.providers.failures import Away, BrokeOff, Denied, Refused, TakesNoPictures
from visavis.bot.providers.fallback_chat_model import FallbackChatModel
from visavis.bot.providers.names import RemoteName
from visavis.bot.providers.opening import open_remote
from visavis.bot.providers.patience import Patience, pauses
from visavis.bot.providers.remote_chat_model import RemoteChatModel

ANSWER = "".join(WORDS)
KEY = "sk-very-secret-key"
QUICK = Patience(word_s=0.5, attempts=3, first_pause_s=0.01, longest_pause_s=1.5, failures=4, rest_s=30)


@pytest.fixture
def server() -> MoodyServer:
    return MoodyServer()


@pytest.fixture
async def model(server: MoodyServer, photo: bytes) -> AsyncIterator[RemoteChatModel]:
    async with running(server) as url:
        model = opened(f"{url}/v1", photo)
        yield model
        await model.aclose()


def opened(url: str, photo: bytes = b"") -> RemoteChatModel:
    class Images:
        async def read(self, sha256: str) -> bytes:
            assert sha256 == hashlib.sha256(photo).hexdigest()
            return photo

    return open_remote(RemoteName("http", "inner", url), patience=QUICK, api_key=KEY, images=Images())


async def ask(model: RemoteChatModel, *messages: BaseMessage, **options: Any) -> AIMessage:
    return await model.ainvoke(list(messages) or "What is this?", **options)


async def test_an_answer_comes_word_by_word_with_its_ending(model: RemoteChatModel) -> None:
    chunks = [chunk async for chunk in model.astream("What is this?")]
    assert [chunk.text for chunk in chunks if chunk.text] == WORDS
    last = chunks[-1]
    assert last.response_metadata == {"model_name": "inner", "finish_reason": "stop", "confidence": None}
    assert last.usage_metadata is not None
    assert (last.usage_metadata["input_tokens"], last.usage_metadata["output_tokens"]) == (7, 3)


async def test_tokens_are_counted_here_when_nobody_else_does(model: RemoteChatModel, server: MoodyServer) -> None:
    server.moods = ["counts nothing"]
    usage = (await ask(model)).usage_metadata
    assert usage is not None
    assert 0 < usage["output_tokens"] < usage["total_tokens"] < 40


async def test_pictures_are_sent_as_bytes_and_parts_beside_them(
    model: RemoteChatModel, server: MoodyServer, photo: bytes
) -> None:
    block = {"type": "image", "file_id": hashlib.sha256(photo).hexdigest()}
    region = {"x": 0.5, "y": 0, "w": 0.5, "h": 1}
    await ask(model, HumanMessage([block, {"type": "text", "text": "What is this?"}]))
    await ask(model, HumanMessage([{**block, "extras": {"region": region}}, {"type": "text", "text": "And here?"}]))
    await ask(model, HumanMessage([block, {"type": "text", "text": "And here?"}]), region=region)
    whole, *parts = [asked["messages"][-1]["content"] for asked in server.asked]
    assert [part["type"] for part in whole] == ["image_url", "text"]
    url = whole[0]["image_url"]["url"]
    assert url == f"data:image/png;base64,{base64.b64encode(photo).decode()}"
    for content in parts:
        assert [part["type"] for part in content] == ["image_url", "text", "image_url", "text"]
        assert content[0] == whole[0]
        assert len(content[2]["image_url"]["url"]) != len(url)


async def test_a_model_for_texts_is_shown_no_picture(model: RemoteChatModel, server: MoodyServer, photo: bytes) -> None:
    blind = model.model_copy(update={"takes_pictures": False})
    shown = HumanMessage([{"type": "image", "file_id": "unread"}, {"type": "text", "text": "What is this?"}])
    with pytest.raises(TakesNoPictures):
        await ask(blind, shown)
    assert not server.asked
    await ask(blind, shown, AIMessage("A dog."), HumanMessage("Thank you"))
    assert "cannot see" in str(server.asked[0]["messages"][0])


async def test_options_of_a_call_are_sent_and_unknown_ones_are_not(model: RemoteChatModel, server: MoodyServer) -> None:
    options = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "max_tokens": 9, "repetition_penalty": 1.2, "nonsense": 1}
    await ask(model, stop=["\n"], **options)
    asked = server.asked[0]
    sent = {name: asked[name] for name in ("temperature", "top_p", "seed", "stop", "model", "stream")}
    wanted = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["\n"], "model": "inner", "stream": True}
    assert sent == wanted
    assert 9 in (asked.get("max_tokens"), asked.get("max_completion_tokens"))
    assert not {"nonsense", "repetition_penalty"} & asked.keys()
    await ask(model)
    assert "seed" not in server.asked[1]


async def test_what_is_refused_is_sent_in_another_form(model: RemoteChatModel, server: MoodyServer) -> None:
    server.moods = ["no temperature"]
    assert (await ask(model, temperature=0.5)).text == ANSWER
    server.moods = ["no system"]
    told = SystemMessage("Be brief.")
    assert (await ask(model, told, HumanMessage("What is this?"), temperature=0.5)).text == ANSWER
    count = len(server.asked)
    await ask(model, told, HumanMessage("What is this?"))
    assert len(server.asked) == count + 1, "it is remembered that there are no system prompts"
    assert [message["role"] for message in server.asked[-1]["messages"]] == ["user"]
    assert "Be brief." in str(server.asked[-1]["messages"])


async def test_what_is_refused_in_every_form_is_told_and_not_remembered(
    model: RemoteChatModel, server: MoodyServer
) -> None:
    server.moods = ["400"] * 3
    with pytest.raises(Refused):
        await ask(model, SystemMessage("Be brief."), HumanMessage("What is this?"), temperature=0.5)
    await ask(model, SystemMessage("Be brief."), HumanMessage("What is this?"), temperature=0.5)
    assert [message["role"] for message in server.asked[-1]["messages"]] == ["system", "user"]


@pytest.mark.parametrize("mood", ["500", "503", "429", "429 1", "asleep", "cut at once"])
async def test_a_failure_that_may_pass_is_tried_again(model: RemoteChatModel, server: MoodyServer, mood: str) -> None:
    server.moods = [mood]
    assert (await ask(model)).text == ANSWER
    assert len(server.asked) == 2


def test_pauses_are_random_and_as_long_as_the_other_side_asks_for() -> None:
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.set_exception((Away, Away(), None))
    assert len({pauses(QUICK)(state) for _ in range(20)}) > 10
    state.set_exception((Away, Away(retry_after_s=1), None))
    assert pauses(QUICK)(state) == 1


async def test_who_asks_for_a_long_rest_is_left_alone(model: RemoteChatModel, server: MoodyServer) -> None:
    server.moods = ["429 60"]
    for _ in range(2):
        with pytest.raises(Away) as failure:
            await ask(model)
        assert 55 < failure.value.retry_after_s <= 60
    assert len(server.asked) == 1


async def test_a_server_that_fails_on_and_on_is_not_asked_any_more(model: RemoteChatModel, server: MoodyServer) -> None:
    server.moods = ["503"] * 9
    for _ in range(4):
        with pytest.raises(Away):
            await ask(model)
    assert len(server.asked) == QUICK.failures


async def test_a_dead_server_is_away(photo: bytes) -> None:
    async with running(MoodyServer()) as url:
        dead = opened(f"{url}/v1", photo)
    with pytest.raises(Away):
        await ask(dead)


@pytest.mark.parametrize("mood", ["cut", "torn", "stuck"])
async def test_an_answer_that_breaks_off_is_no_answer(model: RemoteChatModel, server: MoodyServer, mood: str) -> None:
    server.moods = [mood]
    heard = []
    with pytest.raises(BrokeOff):
        async for chunk in model.astream("What is this?"):
            heard.append(chunk.text)
    assert heard == WORDS[:2]
    assert len(server.asked) == 1, "what was said is not said twice"


async def test_leaving_stops_the_other_side(model: RemoteChatModel, server: MoodyServer) -> None:
    server.moods = ["stuck"]
    async with contextlib.aclosing(model.astream("What is this?")) as chunks:  # type: ignore[type-var]
        await anext(chunks)
    async with asyncio.timeout(10):
        while not server.gone:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mood", ["401", "403", "404"])
async def test_no_right_to_ask_is_told_at_once_and_keys_are_not_logged(
    model: RemoteChatModel, server: MoodyServer, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.moods = [mood]
    with caplog.at_level(logging.INFO), pytest.raises(Denied) as failure:
        await ask(model)
    assert server.keys == [f"Bearer {KEY}"]
    assert mood in caplog.text
    assert KEY not in caplog.text + str(failure.value) + repr(model) + repr(failure.value.__cause__)


async def test_what_a_provider_says_of_a_question_is_not_logged(
    model: RemoteChatModel, server: MoodyServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.moods = ["echo"] * 3
    with caplog.at_level(logging.INFO, "visavis"), pytest.raises(Refused):
        await ask(model, HumanMessage("My secret is blue."))
    assert "400" in caplog.text and "blue" not in caplog.text


def test_they_can_be_asked_from_a_thread_without_an_event_loop() -> None:
    fake = RemoteChatModel(inner=FakeListChatModel(responses=["I am here."]), shown_name="fake")
    assert FallbackChatModel(models={"fake": fake}).invoke("Are you?").text == "I am here."


def test_a_model_can_be_asked_from_one_event_loop_and_another_model_of_the_same_server_from_the_next() -> None:
    first, second = opened("http://127.0.0.1:9/v1"), opened("http://127.0.0.1:9/v1")
    clients = [model.inner.root_async_client._client for model in (first, second)]
    assert clients[0] is not clients[1], "a connection belongs to the event loop that opened it"


async def test_any_chat_model_of_langchain_will_do() -> None:
    fake = RemoteChatModel(inner=FakeListChatModel(responses=["I am here."]), shown_name="fake")
    answer = await ask(fake, temperature=0.1)
    assert answer.text == "I am here."
    assert answer.response_metadata["model_name"] == "fake"
