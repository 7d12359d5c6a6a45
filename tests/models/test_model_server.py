"""The model server over a real unix socket: what it answers, refuses and counts."""

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from tiny_checkpoint import drawn_picture, until

from visavis.models.decode_batch import DecodeBatch
from visavis.models.engine import InferenceEngine
from visavis.models.engine_api import create_app
from visavis.models.model_server import EngineServer

PICTURE = drawn_picture()
SHA256 = hashlib.sha256(PICTURE).hexdigest()
IMAGE = {"type": "image", "file_id": SHA256}


@pytest.fixture
async def client(served: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=served.removeprefix("unix://"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


def asking(*content: Any, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}], **options}


def text(words: str = "what color is it?") -> dict[str, str]:
    return {"type": "text", "text": words}


async def put_picture(client: httpx.AsyncClient) -> None:
    assert (await client.put(f"/v1/images/{SHA256}", content=PICTURE)).status_code == 201


async def streamed(client: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def refused(client: httpx.AsyncClient, body: Any, **options: Any) -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await client.post("/v1/chat/completions", content=content, **options)
    return response.status_code, response.json()["error"]


async def test_health_and_models(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok", "model": "visavis-embedded"}
    assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == ["visavis-embedded"]


async def test_unknown_picture_is_sent_once_and_then_known(client: httpx.AsyncClient) -> None:
    status, error = await refused(client, asking(IMAGE, text()))
    assert (status, error["code"], error["images"]) == (409, "unknown_image", [SHA256])
    await put_picture(client)
    assert (await client.post("/v1/chat/completions", json=asking(IMAGE, text()))).status_code == 200


async def test_streamed_and_whole_answers_are_the_same(client: httpx.AsyncClient) -> None:
    await put_picture(client)
    whole = (await client.post("/v1/chat/completions", json=asking(IMAGE, text()))).json()
    events = await streamed(client, asking(IMAGE, text()))
    said = "".join(event["choices"][0]["delta"]["content"] for event in events)
    assert said == whole["choices"][0]["message"]["content"] != ""
    assert events[-1]["visavis"] == whole["visavis"]
    assert events[-1]["usage"] == whole["usage"]
    assert whole["visavis"]["image"] == SHA256
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]
    assert {event["object"] for event in events} == {"chat.completion.chunk"}


async def test_pictures_come_as_data_urls_too(client: httpx.AsyncClient) -> None:
    url = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    body = asking({"type": "image_url", "image_url": {"url": url}}, text())
    assert (await client.post("/v1/chat/completions", json=body)).json()["visavis"]["image"] == SHA256


async def test_no_picture_is_answered_in_words(client: httpx.AsyncClient) -> None:
    events = await streamed(client, asking(text()))
    assert "picture" in "".join(event["choices"][0]["delta"]["content"] for event in events)
    assert events[-1]["visavis"]["confidence"] is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_request"),
        (b"\xff\xfe", "bad_request"),
        (b"[" * 100_000, "bad_request"),
        ([], "bad_request"),
        ({}, "bad_request"),
        ({"messages": []}, "bad_request"),
        ({"messages": [{"role": "assistant", "content": "hello"}]}, "bad_request"),
        ({"messages": [{"role": "user", "content": 7}]}, "bad_request"),
        ({"messages": [{"role": "user", "content": None}]}, "bad_request"),
        (asking({"type": "text", "text": 7}), "bad_request"),
        (asking({"type": "audio"}, text()), "bad_request"),
        (asking({"type": "image", "file_id": "../../etc/passwd"}), "bad_request"),
        (asking({"type": "image_url", "image_url": {"url": "http://localhost/a.png"}}), "bad_request"),
        (asking({"type": "image", "base64": "%%%"}), "bad_image"),
        (asking({"type": "image", "base64": "AAAA"}), "unsupported_image"),
        (asking(text(), temperature="hot"), "bad_request"),
        (asking(text(), temperature=-1), "bad_request"),
        (asking(text(), top_p=0), "bad_request"),
        (asking(text(), max_tokens=-5), "bad_request"),
        (asking(text(), seed=2**70), "bad_request"),
        (asking(text(), stop=["a"] * 99), "bad_request"),
        (asking(text(), visavis={"region": {"x": 0.9, "y": 0, "w": 0.9, "h": 1}}), "bad_request"),
        (asking(text("a" * 100_000)), "too_long"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "bad_request"),
    ],
)
async def test_hostile_requests_get_a_code(client: httpx.AsyncClient, body: Any, code: str) -> None:
    status, error = await refused(client, body)
    assert error["code"] == code
    assert status in (400, 415)
    assert error["message"] and error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("name", "data", "status", "code"),
    [
        ("0" * 64, PICTURE, 400, "bad_image"),
        (SHA256, b"GIF89a", 415, "unsupported_image"),
        (SHA256, b"\x89PNG\r\n\x1a\n", 415, "unsupported_image"),
        (SHA256, b"x" * (21 << 20), 413, "image_too_large"),
    ],
)
async def test_hostile_pictures_get_a_code(
    client: httpx.AsyncClient, name: str, data: bytes, status: int, code: str
) -> None:
    response = await client.put(f"/v1/images/{name}", content=data)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_other_routes_answer_in_the_same_form(client: httpx.AsyncClient) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/v1/chat/completions", 405)):
        response = await client.request(method, path)
        assert (response.status_code, response.json()["error"]["code"]) == (status, "bad_request")


async def test_an_error_before_the_first_word_has_a_status(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_picture(client)
    step = DecodeBatch.step
    monkeypatch.setattr(DecodeBatch, "step", lambda *arguments: step(*arguments) * float("nan"))
    status, error = await refused(client, asking(IMAGE, text(), stream=True))
    assert (status, error["code"], error["type"]) == (500, "model_error", "server_error")


@pytest.mark.parametrize("stream", [True, False])
async def test_closing_the_connection_frees_the_row(
    client: httpx.AsyncClient,
    engine: InferenceEngine,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
) -> None:
    await put_picture(client)
    step = DecodeBatch.step
    slow = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(*arguments: Any) -> Any:
        loop.call_soon_threadsafe(slow.set)
        asyncio.run(asyncio.sleep(0.2))
        return step(*arguments)

    monkeypatch.setattr(DecodeBatch, "step", slowly)
    asked = asyncio.create_task(client.post("/v1/chat/completions", json=asking(IMAGE, text(), stream=stream)))
    await slow.wait()
    asked.cancel()
    await until(lambda: not engine.running)
    assert engine.counters.cancelled == engine.counters.rows_freed == 1
    assert engine.counters.decode_steps <= 4


async def test_metrics_tell_what_the_engine_did(client: httpx.AsyncClient) -> None:
    await put_picture(client)
    await streamed(client, asking(IMAGE, text()))
    await streamed(client, asking(IMAGE, text("and how many are there?")))
    unknown = {"type": "image", "file_id": "0" * 64}
    assert (await refused(client, asking(unknown, text())))[0] == 409
    lines = (await client.get("/metrics")).text.splitlines()
    assert "visavis_engine_encoder_forwards_total 1.0" in lines
    assert "visavis_requests_waiting 0.0" in lines
    assert 'visavis_requests_total{outcome="completed"} 2.0' in lines
    assert 'visavis_cache_hits_total{kind="image_state"} 1.0' in lines
    assert 'visavis_cache_misses_total{kind="image_state"} 1.0' in lines
    assert 'visavis_cache_hits_total{kind="picture"} 2.0' in lines
    assert 'visavis_cache_misses_total{kind="picture"} 1.0' in lines
    for name in ("time_to_first_token", "request_queue_time", "request_duration", "time_per_output_token"):
        assert f"visavis_{name}_seconds_count 2.0" in lines
    said = next(line for line in lines if line.startswith("visavis_generation_tokens_total"))
    assert 2 < float(said.split()[1]) <= 24


async def test_a_dead_engine_shows(
    client: httpx.AsyncClient, engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a fault of the scheduler itself")

    monkeypatch.setattr("visavis.models.scheduler.Scheduler.advance", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    await put_picture(client)
    status, error = await refused(client, asking(IMAGE, text()))
    assert (status, error["code"]) == (500, "model_error")
    await until(lambda: not engine.alive)
    assert (await client.get("/healthz")).status_code == 503
    assert await EngineServer(uvicorn.Config(create_app(engine)), engine).on_tick(1)


async def test_who_waits_is_told_the_position_and_then_the_answer(
    client: httpx.AsyncClient, engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_picture(client)
    engine._handover.max_rows = 1
    all_there, step = threading.Event(), DecodeBatch.step

    def once_all_are_there(*arguments: Any) -> Any:
        assert all_there.wait(60)
        return step(*arguments)

    monkeypatch.setattr(DecodeBatch, "step", once_all_are_there)
    bodies = [asking(IMAGE, text(f"what is it {number}?")) for number in range(3)]
    asked = [asyncio.create_task(streamed(client, body)) for body in bodies]
    await until(lambda: engine.waiting == 2)
    all_there.set()
    told = [
        [event["visavis"].get("queue_position") for event in await answer if "visavis" in event] for answer in asked
    ]
    assert sorted((positions[-2:] for positions in told), key=len) == [[None], [1, None], [1, None]]
    for positions in told:
        assert positions[:-1] == sorted(set(positions[:-1]), reverse=True)
