"""Every extra's provider through its own client library, against a stand-in of its HTTP API on a real socket."""

import asyncio
import base64
import contextlib
import gc
import importlib.util
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from moody_server import WORDS, MoodyServer, running
from provider_apis import AnthropicApi, GoogleApi, MistralApi, OllamaApi

from visavis.bot.providers.failures import Away, BrokeOff, Denied, Refused
from visavis.bot.providers.names import RemoteName
from visavis.bot.providers.opening import open_remote, told_at_start
from visavis.bot.providers.patience import Patience
from visavis.bot.providers.remote_chat_model import RemoteChatModel

# Google's client derives from a class of aiohttp that does not want it, and forgets to await the body of an error.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'ClientResponse.json' was never awaited:RuntimeWarning"),
]

ANSWER = "".join(WORDS)
KEY = "sk-very-secret-key"
QUICK = Patience(word_s=2.5, attempts=3, first_pause_s=0.01, longest_pause_s=1.5, failures=4, rest_s=30)


@dataclass(frozen=True)
class Provider:
    """Where its client looks for address and key, and how its requests say things."""

    package: str
    api: type[MoodyServer]
    address: str
    key: str | None
    path: str = ""


PROVIDERS = {
    "openai": Provider("langchain_openai", MoodyServer, "OPENAI_API_BASE", "OPENAI_API_KEY", "/v1"),
    "anthropic": Provider("langchain_anthropic", AnthropicApi, "ANTHROPIC_API_URL", "ANTHROPIC_API_KEY"),
    "google_genai": Provider("langchain_google_genai", GoogleApi, "GOOGLE_GEMINI_BASE_URL", "GOOGLE_API_KEY"),
    "ollama": Provider("langchain_ollama", OllamaApi, "OLLAMA_HOST", None),
    "mistralai": Provider("langchain_mistralai", MistralApi, "MISTRAL_BASE_URL", "MISTRAL_API_KEY", "/v1"),
}
THERE = [name for name, provider in PROVIDERS.items() if importlib.util.find_spec(provider.package)]


@pytest.fixture(params=PROVIDERS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param not in THERE:
        pytest.skip(f"{PROVIDERS[request.param].package} is not installed")
    return str(request.param)


@pytest.fixture
def server(name: str) -> MoodyServer:
    return PROVIDERS[name].api()


@pytest.fixture
async def model(name: str, server: MoodyServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RemoteChatModel]:
    provider = PROVIDERS[name]
    async with running(server) as url:
        monkeypatch.setenv(provider.address, url + provider.path)
        if provider.key is not None:
            monkeypatch.setenv(provider.key, KEY)
        model = open_remote(RemoteName(name, "inner"), patience=QUICK)
        yield model
        await model.aclose()


async def ask(model: RemoteChatModel, *messages: BaseMessage, **options: object) -> AIMessage:
    return await model.ainvoke(list(messages) or "What is this?", **options)  # type: ignore[arg-type]


async def test_an_answer_comes_word_by_word_with_its_ending(
    model: RemoteChatModel, server: MoodyServer, name: str
) -> None:
    chunks = [chunk async for chunk in model.astream("What is this?")]
    assert [chunk.text for chunk in chunks if chunk.text] == WORDS
    last = chunks[-1]
    assert last.response_metadata["finish_reason"].lower() in ("stop", "end_turn")
    assert last.usage_metadata is not None
    assert (last.usage_metadata["input_tokens"], last.usage_metadata["output_tokens"]) == (7, 3)
    if PROVIDERS[name].key is not None:
        assert KEY in (server.keys[0] or "")
    assert any("127.0.0.1" in line for line in told_at_start(model)), "where it is asked is known and told"


async def test_pictures_system_prompts_and_options_are_sent_in_its_form(
    model: RemoteChatModel, server: MoodyServer, photo: bytes
) -> None:
    encoded = base64.b64encode(photo).decode()
    shown = HumanMessage(
        [{"type": "image", "base64": encoded, "mime_type": "image/png"}, {"type": "text", "text": "What is this?"}]
    )
    before = [SystemMessage("Be brief."), HumanMessage("Hello"), AIMessage("Hello!")]
    answer = await ask(model, *before, shown, temperature=0.25, top_p=0.75, max_tokens=77, stop=["###"])
    assert answer.text == ANSWER
    body = str(server.asked[0]).replace("-", "+").replace("_", "/")  # one of them writes base64 as in addresses
    assert len(server.asked) == 1
    for told in (encoded, "What is this?", "Be brief.", "Hello!", "0.25", "0.75", "77", "###"):
        assert told in body, told


@pytest.mark.parametrize("mood", ["500", "503", "429 1", "529", "asleep", "cut at once"])
async def test_a_failure_that_may_pass_is_tried_again(model: RemoteChatModel, server: MoodyServer, mood: str) -> None:
    server.moods = [mood]
    assert (await ask(model)).text == ANSWER
    assert len(server.asked) == 2


@pytest.mark.parametrize("mood", ["401", "403", "404"])
async def test_no_right_to_ask_is_told_at_once_and_keys_are_not_logged(
    model: RemoteChatModel, server: MoodyServer, mood: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.moods = [mood]
    with caplog.at_level(logging.INFO), pytest.raises(Denied) as failure:
        await ask(model)
    assert len(server.asked) == 1
    assert mood in caplog.text
    assert KEY not in caplog.text + str(failure.value) + repr(model)


async def test_a_refusal_is_told_and_not_logged(
    model: RemoteChatModel, server: MoodyServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.moods = ["400"] * 3
    with caplog.at_level(logging.INFO, "visavis"), pytest.raises(Refused):
        await ask(model, HumanMessage("My secret is blue."))
    assert "400" in caplog.text and "blue" not in caplog.text


@pytest.mark.parametrize("mood", ["cut", "torn", "stuck"])
async def test_an_answer_that_breaks_off_is_no_answer(model: RemoteChatModel, server: MoodyServer, mood: str) -> None:
    server.moods = [mood]
    heard = []
    with pytest.raises(BrokeOff):
        async for chunk in model.astream("What is this?"):
            heard.append(chunk.text)
    assert heard == WORDS[:2]
    assert len(server.asked) == 1


async def test_leaving_stops_the_other_side(model: RemoteChatModel, server: MoodyServer) -> None:
    server.moods = ["stuck"]
    async with contextlib.aclosing(model.astream("What is this?")) as chunks:  # type: ignore[type-var]
        await anext(chunks)
    async with asyncio.timeout(10):
        while not server.gone:
            gc.collect()  # Google's client lets go of the connection no sooner
            await asyncio.sleep(0.05)


async def test_a_dead_server_is_away(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = PROVIDERS[name]
    async with running(provider.api()) as url:
        monkeypatch.setenv(provider.address, url + provider.path)
        monkeypatch.setenv(provider.key or "UNUSED", KEY)
        model = open_remote(RemoteName(name, "inner"), patience=QUICK)
    with pytest.raises(Away):
        await ask(model)
