"""Models of somebody else's behind a gateway: the upstream is another gateway of ours, on another port."""

import contextlib
import json
import socket
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import chat_model, data_url, picture, showing
from openai import AsyncOpenAI, InternalServerError
from openai.types.chat import ChatCompletion
from running_gateway import RunGateway, serving
from scripted_chat_model import ScriptedChatModel
from scripted_engine import ScriptedEngine
from wire_client import FINAL, Frame, WireClient

from visavis.bot import model_offer
from visavis.bot.app import create_app
from visavis.bot.chat_models import ModelNotFound, told_at_start
from visavis.bot.model_offer import create_chat_models, start_lines
from visavis.bot.settings import Settings, load_settings
from visavis.dialogue.context import Budget

ANSWER = "a red square on white "


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


class Tab(WireClient):
    """One tab of the page, connected to a gateway."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Tab"]:
        tab = cls([int(url.rpartition(":")[2])])
        await tab.connect()
        try:
            yield tab
        finally:
            await tab.close()

    async def show(self, data: bytes) -> str:
        """The id of a picture that the session has from now on."""
        await self.send(type="image", id=str(uuid.uuid4()), bytes=len(data))
        assert self._socket is not None
        await self._socket.send(data)
        return str((await self.until("image.stored"))["image"])

    async def end_of(self, **command: Any) -> Frame:
        """The event that ends what a command begins, or the error that refuses it."""
        await self.send(**{"id": str(uuid.uuid4()), **command})
        while True:
            frame = await self.receive()
            if frame["type"] in (*FINAL, "error"):
                return frame


def changed(settings: Settings, **fields: Any) -> Settings:
    return settings.model_copy(update=fields)


def nobody() -> str:
    """An address where nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


async def complete(url: str, model: str, message: Any, **options: Any) -> ChatCompletion:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        answer: ChatCompletion = await client.chat.completions.create(model=model, messages=[message], **options)
        return answer


async def http(method: str, url: str) -> Any:
    async with httpx.AsyncClient() as client:
        return (await client.request(method, url)).json()


HELLO = {"role": "user", "content": "Hello"}


async def test_a_gateway_talks_through_another_servers_model(run_gateway: RunGateway, settings: Settings) -> None:
    engine = ScriptedEngine()
    async with run_gateway(chat_model(engine)) as upstream:
        app = create_app(changed(settings, model=f"{upstream}/v1#visavis"))
        async with serving(app, settings) as url:
            assert (await http("GET", f"{url}/readyz"))["parts"]["model"] is True
            whole = await complete(url, "visavis", showing(data_url(picture())), temperature=0.3, seed=5)
            assert whole.choices[0].message.content == ANSWER
            assert whole.usage is not None and whole.usage.completion_tokens > 0
            assert engine.asked[0].image is not None
            assert (engine.asked[0].sampling.temperature, engine.asked[0].sampling.seed) == (0.3, 5)
            async with Tab.open(url) as wire:
                assert wire.ready["models"] == [{"name": "visavis", "pictures": True, "remote": False}]
                final = await wire.end_of(type="turn", text="What is this?", images=[await wire.show(picture())])
                assert (final["text"], final["model"]) == (ANSWER, "visavis")
                assert engine.asked[1].image is not None, "a picture that the store has goes along as bytes"


async def test_turns_and_requests_choose_their_model(run_gateway: RunGateway, settings: Settings) -> None:
    async with run_gateway(ScriptedChatModel(answer="one")) as one, run_gateway(ScriptedChatModel(answer="two")) as two:
        both = changed(settings, model=f"{one}/v1#visavis-embedded", more_models=(f"{two}/v1#visavis",))
        async with serving(create_app(both), both) as url:
            names = [model["id"] for model in (await http("GET", f"{url}/v1/models"))["data"]]
            assert names == ["visavis-embedded", "visavis"]
            async with Tab.open(url) as wire:
                assert [card["name"] for card in wire.ready["models"]] == names
                told = [await wire.end_of(type="turn", text="What?", **named) for named in ({}, {"model": names[1]})]
                assert [(final["text"].strip(), final["model"]) for final in told] == [
                    ("one", names[0]),
                    ("two", names[1]),
                ]
                again = await wire.end_of(type="regenerate", turn=told[1]["turn"])
                assert again["text"].strip() == "two", "by the one that answered before"
                again = await wire.end_of(type="regenerate", turn=again["turn"], model=names[0])
                assert again["text"].strip() == "one"
                again = await wire.end_of(type="edit", turn=again["turn"], text="And now?", model=names[1])
                assert again["text"].strip() == "two"
                refused = await wire.end_of(type="turn", text="What?", model="nobody")
                assert (refused["type"], refused["code"]) == ("error", "bad_request")
            session = (await http("POST", f"{url}/v1/sessions"))["id"]
            for name, said in zip(names, ("one", "two"), strict=True):
                answer = await complete(url, name, HELLO, extra_body={"visavis": {"session": session}})
                assert (answer.choices[0].message.content or "").strip() == said


async def test_the_next_model_steps_in_for_a_dead_one(run_gateway: RunGateway, settings: Settings) -> None:
    engine = ScriptedEngine()
    async with run_gateway(chat_model(engine)) as upstream:
        safe = changed(settings, model=f"{nobody()}#first", fallback=(f"{nobody()}#second", f"{upstream}/v1#visavis"))
        async with serving(create_app(safe), safe) as url, Tab.open(url) as wire:
            final = await wire.end_of(type="turn", text="What is this?", images=[await wire.show(picture())])
            assert (final["text"], final["model"]) == (ANSWER, "visavis")
            whole = await complete(url, "first", showing(data_url(picture())))
            assert whole.model_dump()["visavis"]["model"] == "visavis"


async def test_nobody_left_to_ask_is_told_with_a_time_to_come_back(settings: Settings) -> None:
    dead = changed(settings, model=f"{nobody()}#first")
    async with serving(create_app(dead), dead) as url:
        with pytest.raises(InternalServerError) as failure:
            await complete(url, "first", HELLO)
        assert failure.value.status_code == 503
        assert failure.value.response.headers["Retry-After"]
        async with Tab.open(url) as wire:
            failed = await wire.end_of(type="turn", text="What?")
            assert (failed["type"], failed["code"]) == ("turn.failed", "busy")


async def test_a_question_that_is_wrong_is_asked_once(run_gateway: RunGateway, settings: Settings) -> None:
    one, two = ScriptedChatModel(error=_BadRequest("no")), ScriptedChatModel()
    chain = model_offer.FallbackChatModel(models={"one": one, "two": two})
    with pytest.raises(_BadRequest):
        await chain.ainvoke("What?")
    assert not two.asked
    assert (
        await chain.model_copy(update={"models": {"x": ScriptedChatModel(error=OSError()), "two": two}}).ainvoke("?")
    ).text


class _BadRequest(Exception):
    code = "bad_request"


def test_people_are_told_at_start_what_leaves_the_machine(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert start_lines(settings) == []
    far = changed(settings, model="https://models.example.org/v1#m", model_api_key="sk-other-secret")
    assert "leave this machine" in start_lines(far)[0] and "models.example.org" in start_lines(far)[0]
    near = changed(settings, model="http://127.0.0.1:9/v1#m")
    assert "on this machine" in start_lines(near)[0] and "leave" not in start_lines(near)[0]
    several = changed(
        settings, model="openai:gpt-4o", more_models=("openai:o3-mini",), fallback=("embedded",), instructions="!"
    )
    told = "\n".join(start_lines(several))
    assert "conversations with openai:gpt-4o are sent to its provider" in told
    assert "openai:o3-mini takes no pictures" in told
    assert "openai:o3-mini takes no temperature" in told
    assert "VISAVIS_INSTRUCTIONS are not for visavis-embedded" in told
    assert "next one is: visavis-embedded" in told
    assert "secret" not in told + "\n".join(start_lines(far)) + repr(far)


def test_instructions_are_for_checkpoints_of_others_and_not_for_ours(settings: Settings) -> None:
    assert told_at_start(changed(settings, instructions="Be kind.", model="hf:tiny/one")) == []
    [line] = told_at_start(changed(settings, instructions="Be kind.", more_models=("hf:tiny/one",)))
    assert "are not for visavis-embedded:" in line


def test_more_of_a_conversation_is_sent_to_checkpoints_of_others(settings: Settings) -> None:
    urls = {"embedded": "unix:///a.sock", "hf:tiny/one": "unix:///b.sock"}
    both = changed(settings, more_models=("hf:tiny/one",), model_urls=urls)
    tokens = [Budget().of(model).tokens for model in create_chat_models(both, _NoImages()).choice.models.values()]
    assert tokens == [2_048, 32_768]
    asked_for = create_chat_models(changed(both, context_tokens=500), _NoImages()).choice.models.values()
    assert [Budget(tokens=500).of(model).tokens for model in asked_for] == [500, 500]
    spare = create_chat_models(changed(both, model="hf:tiny/one", fallback=("embedded",)), _NoImages())
    assert Budget().of(spare.choice.models["one"]).tokens == 32_768


def test_nothing_is_sent_away_unless_somebody_chose_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    both = changed(
        settings, model="openai:gpt-4o", more_models=("embedded",), model_urls={"embedded": "unix:///x.sock"}
    )
    offer = create_chat_models(both, _NoImages())
    assert offer.unasked is offer.choice.models["visavis-embedded"], "alternative texts are made here"
    assert [card.remote for card in offer.choice.offered] == [True, False]
    fallen = changed(both, more_models=(), fallback=("embedded",))
    assert [card.remote for card in create_chat_models(fallen, _NoImages()).choice.offered] == [True]


def test_tracing_of_langchain_does_not_reach_the_servers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    environment = changed(
        settings, more_models=("openai:a", "openai:b"), model_urls={"m": "unix:///x"}
    ).child_environment()
    assert not [name for name in environment if "TRACING" in name]
    assert environment["OPENAI_API_KEY"] == "any", "providers find their keys where they always do"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    again = load_settings()
    assert (again.more_models, again.model_urls) == (("openai:a", "openai:b"), {"m": "unix:///x"})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("openai:gpt-4o", "OPENAI_API_KEY"),
        ("cohere:command", "pip install langchain and langchain-cohere|pip install langchain langchain-cohere"),
        ("nonsense:model", "nonsense"),
        ("http://host/v1", "#name"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_sentence(settings: Settings, name: str, says: str) -> None:
    with pytest.raises(ModelNotFound, match=says) as refused:
        start_lines(changed(settings, model=name))
    assert "\n" not in str(refused.value)


def test_two_models_of_one_name_are_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="Two models would be called m"):
        start_lines(changed(settings, model="http://a/v1#m", more_models=("http://b/v1#m",)))


class _NoImages:
    async def read(self, sha256: str) -> bytes:
        raise AssertionError(json.dumps(sha256))
