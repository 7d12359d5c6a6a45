"""The API with a session: the server remembers, pictures have ids, keys, and what is asked twice is answered once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from api_server import chat_model, data_url, picture, showing
from openai import AsyncOpenAI
from running_gateway import RunGateway, running_gateway
from scripted_engine import ScriptedEngine

from visavis.bot.client import ChatClient
from visavis.bot.settings import Settings
from visavis.dialogue.store import open_store

MODEL = "visavis-embedded"
ANSWER = "a red square on white "


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
async def url(run_gateway: RunGateway, engine: ScriptedEngine, settings: Settings) -> AsyncIterator[str]:
    store = open_store(settings.redis_url or "")
    model = chat_model(engine, store.images)
    async with run_gateway(model) as url:
        yield url
    await store.aclose()


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        yield http


@pytest.fixture
async def session(http: httpx.AsyncClient) -> str:
    begun = await http.post("/v1/sessions")
    assert begun.status_code == 201
    return str(begun.json()["id"])


@pytest.fixture
async def client(url: str, session: str) -> AsyncIterator[AsyncOpenAI]:
    headers = {"X-Visavis-Session": session}
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, default_headers=headers) as client:
        yield client


async def ask(client: AsyncOpenAI, message: Any, **more: Any) -> Any:
    done = await client.chat.completions.create(model=MODEL, messages=[message], **more)
    return done.model_dump()


async def test_the_server_remembers_what_was_said(
    client: AsyncOpenAI, engine: ScriptedEngine, url: str, session: str
) -> None:
    first = await ask(client, showing(data_url(picture())))
    assert first["choices"][0]["message"]["content"] == ANSWER
    second = await ask(client, {"role": "user", "content": "Is it large?"})
    assert engine.asked[1].image == engine.asked[0].image == first["visavis"]["image"]
    assert engine.asked[1].history == (("What is this?", ANSWER.strip()),)
    assert second["visavis"]["session"] == session
    async with ChatClient(url, session=session) as widget:
        assert [turn["text"] for turn in widget.turns if turn["role"] == "user"] == ["What is this?", "Is it large?"]


async def test_clients_that_send_the_history_again_do_not_double_it(
    client: AsyncOpenAI, engine: ScriptedEngine
) -> None:
    await ask(client, showing(data_url(picture())))
    again: Any = [
        showing(data_url(picture())),
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "Is it large?"},
    ]
    await client.chat.completions.create(model=MODEL, messages=again)
    assert engine.asked[1].history == (("What is this?", ANSWER.strip()),)


async def test_a_turn_of_a_session_is_streamed_and_explained(client: AsyncOpenAI) -> None:
    messages: Any = [showing(data_url(picture()))]
    stream = await client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, extra_body={"visavis": {"explain": True}}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert (chunks[-1].model_extra or {})["visavis"]["explanation"]["grid"] == [2, 2]


async def test_an_uploaded_picture_is_named_by_its_id_with_and_without_memory(
    http: httpx.AsyncClient, client: AsyncOpenAI, engine: ScriptedEngine, session: str
) -> None:
    stored = await http.post("/v1/images", content=picture(), headers={"X-Visavis-Session": session})
    image = stored.json()["image"]
    for part in [
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "image_file", "image_file": {"file_id": image}},
        {"type": "file", "file": {"file_id": image}},
        {"type": "image", "file_id": image},
    ]:
        content: Any = [{"type": "text", "text": "What is this?"}, part]
        done = await ask(client, {"role": "user", "content": content}, store=False)
        assert "turn" not in done["visavis"]
        assert engine.asked[-1].image == image
        assert engine.asked[-1].history == ()
    kept = await ask(client, {"role": "user", "content": content})
    assert kept["visavis"]["image"] == image


async def test_a_picture_is_for_its_session_alone(http: httpx.AsyncClient, session: str) -> None:
    stored = await http.post("/v1/images", content=picture(), headers={"X-Visavis-Session": session})
    other = (await http.post("/v1/sessions")).json()["id"]
    for store in (True, False):
        body = {
            "messages": [showing(stored.json()["image"])],
            "metadata": {"session": other},
            "store": store,
        }
        refused = await http.post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_image")


async def test_the_same_idempotency_key_asks_once(
    http: httpx.AsyncClient, engine: ScriptedEngine, session: str
) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "visavis": {"session": session}}
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(http.post("/v1/chat/completions", json=body, headers=headers) for _ in range(3)))
    assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {ANSWER}
    assert len({answer.json()["visavis"]["turn"] for answer in answers}) == 1
    assert len(engine.asked) == 1


async def test_an_unknown_or_forgotten_session_is_told(http: httpx.AsyncClient, session: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    await http.post("/v1/chat/completions", json=body, headers={"X-Visavis-Session": session})
    gone = await http.delete(f"/v1/sessions/{session}")
    assert gone.json() == {"object": "session.deleted", "id": session, "deleted": True, "turns": 2, "images": 0}
    for unknown in (session, "f" * 32, "not one", ""):
        refused = await http.post("/v1/chat/completions", json=body, headers={"X-Visavis-Session": unknown})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_session")
    assert (await http.delete(f"/v1/sessions/{session}")).status_code == 404


async def test_what_fails_in_a_session_has_a_status(http: httpx.AsyncClient, session: str) -> None:
    async def refused(message: dict[str, object], **visavis: object) -> tuple[int, str]:
        body = {"messages": [message], "visavis": {"session": session, **visavis}}
        answer = await http.post("/v1/chat/completions", json=body)
        return answer.status_code, answer.json()["error"]["code"]

    assert await refused({"role": "user", "content": "x" * 4_001}) == (413, "too_long")
    assert await refused({"role": "user", "content": "What?"}, region={"x": 0, "y": 0, "w": 1, "h": 1}) == (
        400,
        "bad_request",
    )
    assert await refused(showing("data:image/png;base64,AAAA")) == (400, "bad_image")
    for key in ("", "a b", "k" * 256):
        body = {"messages": [{"role": "user", "content": "What?"}]}
        answer = await http.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "idempotency-key")


async def test_leaving_a_stream_stops_the_turn(run_gateway: RunGateway) -> None:
    engine = ScriptedEngine(answer="word " * 500, pause_s=0.02)
    async with run_gateway(chat_model(engine)) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        session = (await http.post("/v1/sessions")).json()["id"]
        body = {
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
            "visavis": {"session": session},
        }
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for _ in answer.aiter_lines():
                break
        async with asyncio.timeout(20):
            await engine.freed.wait()


async def test_keys_are_asked_for_where_there_are_some(settings: Settings) -> None:
    keyed = settings.model_copy(update={"api_keys": ("first-key", "second/key/")})
    async with running_gateway(keyed, chat_model(ScriptedEngine())) as url:
        for key in ("first-key", "second/key/"):
            async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
                assert [model.id async for model in client.models.list()] == [MODEL]
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await client.models.list()
            assert refused.value.code == "unauthorized"
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            for method, path in [
                ("POST", "/v1/sessions"),
                ("DELETE", f"/v1/sessions/{'0' * 32}"),
                ("GET", "/v1/models"),
            ]:
                assert (await http.request(method, path)).status_code == 401
            assert (await http.get("/openapi.json")).status_code == 200


async def test_beyond_loopback_nobody_comes_in_without_a_key(settings: Settings) -> None:
    public = settings.model_copy(update={"host": "0.0.0.0", "allow_public": True})
    async with (
        running_gateway(public, chat_model(ScriptedEngine())) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        refused = await http.get("/v1/models", headers={"Authorization": "Bearer any"})
    assert refused.status_code == 401
    assert "VISAVIS_API_KEYS" in refused.json()["error"]["message"]


def test_keys_do_not_show(settings: Settings) -> None:
    assert "first-key" not in repr(settings.model_copy(update={"api_keys": ("first-key",)}))
