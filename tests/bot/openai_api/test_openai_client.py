"""The official `openai` client against a gateway on a real socket: what it sends is understood, what it reads fits."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from api_server import chat_model, data_url, picture, showing
from openai import AsyncOpenAI, OpenAI
from running_gateway import RunGateway
from scripted_engine import ScriptedEngine

from visavis.dialogue.images import normalise_image
from visavis.dialogue.limits import ImageLimits

MODEL = "visavis-embedded"
ANSWER = "a red square on white "


def stored_id(data: bytes) -> str:
    return normalise_image(data, ImageLimits()).ref.sha256


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
async def url(run_gateway: RunGateway, engine: ScriptedEngine) -> AsyncIterator[str]:
    async with run_gateway(chat_model(engine)) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


async def test_a_picture_is_asked_about(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    messages: Any = [{"role": "system", "content": "Be brief."}, showing(data_url(picture()))]
    done = await client.chat.completions.create(model=MODEL, messages=messages)
    assert done.choices[0].message.content == ANSWER
    assert (done.choices[0].finish_reason, done.choices[0].message.role, done.model) == ("stop", "assistant", MODEL)
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert engine.asked[0].question == "What is this?"
    assert engine.asked[0].image == stored_id(picture())
    assert done.model_extra is not None
    assert done.model_extra["visavis"]["confidence"] == 0.5


@pytest.mark.parametrize("nothing", [None, "", " ", []])
async def test_a_message_without_words_asks_for_a_description(
    client: AsyncOpenAI, engine: ScriptedEngine, nothing: Any
) -> None:
    messages: Any = [showing(data_url(picture())), {"role": "user", "content": nothing}]
    await client.chat.completions.create(model=MODEL, messages=messages)
    assert engine.asked[-1].question == "Describe the picture."
    assert engine.asked[-1].image == stored_id(picture())


async def test_the_synchronous_client_is_served_too(url: str) -> None:
    def ask() -> str | None:
        with OpenAI(base_url=f"{url}/v1", api_key="any") as client:
            done = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
            return done.choices[0].message.content

    assert await asyncio.to_thread(ask) == ANSWER


async def test_a_stream_has_a_role_the_words_a_reason_and_the_usage_that_was_asked_for(client: AsyncOpenAI) -> None:
    messages: Any = [showing(data_url(picture()))]
    stream = await client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_without_stream_options_there_is_no_usage_chunk(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    assert {len(chunk.choices) async for chunk in stream} == {1}


async def test_the_stream_helper_puts_the_answer_together(client: AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model=MODEL, messages=[{"role": "user", "content": "Hello"}]) as stream:
        async for _ in stream:
            pass
        done = await stream.get_final_completion()
    assert done.choices[0].message.content == ANSWER


async def test_every_parameter_reaches_the_engine(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    messages: Any = [showing(data_url(picture()))]
    region = {"x": 0.1, "y": 0.2, "w": 0.5, "h": 0.5}
    await client.chat.completions.create(
        model=MODEL,
        messages=messages,
        temperature=0.7,
        top_p=0.9,
        seed=4,
        max_tokens=3,
        max_completion_tokens=7,
        stop=["red", ""],
        n=1,
        user="somebody",
        presence_penalty=0,
        extra_body={"visavis": {"region": region, "top_k": 5, "repetition_penalty": 1.1}},
    )
    sampling = engine.asked[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.max_new_tokens) == (0.7, 0.9, 4, 7)
    assert (sampling.stop, sampling.top_k, sampling.repetition_penalty) == (("red",), 5, 1.1)
    assert engine.asked[0].region is not None
    assert engine.asked[0].region.w == 0.5
    await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=3, stop="x", top_p=0)
    assert (engine.asked[1].sampling.max_new_tokens, engine.asked[1].sampling.stop) == (3, ("x",))
    await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=2**31 - 1)  # "as long as you like"
    assert engine.asked[2].sampling.max_new_tokens == 1_000_000


async def test_fields_that_say_nothing_change_nothing(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    named = "temperature top_p n stop seed max_tokens max_completion_tokens logit_bias user tools tool_choice metadata"
    named += " store response_format logprobs modalities reasoning_effort visavis"
    nothing = dict.fromkeys(named.split())
    extra: Any = {**nothing, "functions": [], "stream_options": {"include_usage": None}}
    said: Any = {"role": "assistant", "content": None, "refusal": None, "audio": None, "tool_calls": None}
    content: Any = [
        {"type": "text", "text": "What is this?", "image_url": None},
        {"type": "image_url", "image_url": {"url": data_url(picture()), "detail": None}, "text": None},
    ]
    messages: Any = [{"role": "user", "content": "Hi", "name": None}, said, {"role": "user", "content": content}]
    await client.chat.completions.create(model=MODEL, messages=messages, extra_body=extra)
    assert engine.asked[0].question == "What is this?"
    assert engine.asked[0].image == stored_id(picture())


async def test_the_whole_conversation_comes_with_the_request(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    messages: Any = [
        showing(data_url(picture("red"))),
        {"role": "assistant", "content": "A red square."},
        showing(data_url(picture("blue", "JPEG"), "image/jpeg"), "And this?"),
        {"role": "assistant", "content": [{"type": "text", "text": "A blue one."}]},
        {"role": "user", "content": "Is it larger?"},
    ]
    await client.chat.completions.create(model=MODEL, messages=messages)
    assert engine.asked[0].image == stored_id(picture("blue", "JPEG"))
    assert engine.asked[0].history == (("And this?", "A blue one."),)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": data_url(picture())},
        {"type": "image_url", "image_url": {"url": data_url(picture()), "detail": "high"}},
        {"type": "input_image", "image_url": data_url(picture())},
        {"type": "file", "file": {"file_data": data_url(picture()), "filename": "a.png"}},
        {"type": "image", "base64": data_url(picture()).partition(",")[2], "mime_type": "image/png"},
        {"type": "image", "source": {"type": "url", "url": data_url(picture())}},
        {"type": "image", "source": {"type": "base64", "data": data_url(picture()).partition(",")[2]}},
        {"type": "image_url", "image_url": {"url": data_url(picture()).replace("image/png;", "image/png;name=a;")}},
        {"type": "image_url", "image_url": {"url": data_url(picture()).rstrip("=") + "\n"}},
    ],
)
async def test_pictures_in_the_forms_that_clients_write(
    client: AsyncOpenAI, engine: ScriptedEngine, part: dict[str, object]
) -> None:
    content: Any = [part, {"type": "text", "text": "What is this?"}]
    await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    assert engine.asked[0].image == stored_id(picture())


@pytest.mark.parametrize("beside", [True, False])
async def test_a_list_of_files_that_open_webui_writes_is_no_part_of_the_question(
    client: AsyncOpenAI, engine: ScriptedEngine, beside: bool
) -> None:
    files = '<attached_files>\n<file type="file" id="1" content_type="image/png" name="a.png"/>\n</attached_files>\n\n'
    texts = [
        {"type": "text", "text": text} for text in ([files, "What is this?"] if beside else [f"{files}What is this?"])
    ]
    content: Any = [*texts, {"type": "image_url", "image_url": {"url": data_url(picture())}}]
    await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    assert engine.asked[0].question == "What is this?"


async def test_what_agents_send_back_is_understood(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    """Calls of tools without words, their results, thoughts, no limit in LM Studio's way, a begun answer."""
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    messages: Any = [
        {
            "role": "developer",
            "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        },
        showing(data_url(picture())),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "42"}]},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "A red square."}]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "Is it red?", "name": "Ann"},
        {"role": "assistant", "content": "It"},
    ]
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    done = await client.chat.completions.create(
        model=MODEL, messages=messages, tools=tools, tool_choice="auto", max_tokens=-1, logprobs=False, top_logprobs=0
    )
    assert done.choices[0].message.content == ANSWER
    assert engine.asked[0].question == "Is it red?"
    assert engine.asked[0].history == (("What is this?", "A red square."),)
    assert engine.asked[0].sampling.max_new_tokens is None


async def test_the_forms_of_pictures_are_named_in_words(client: AsyncOpenAI) -> None:
    for address in ("iVBORw0KGgo=", "file:///etc/passwd"):
        with pytest.raises(openai.BadRequestError, match="Expected a data URL, an http"):
            await client.chat.completions.create(model=MODEL, messages=[showing(address)])  # type: ignore[list-item]
    content: Any = [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    assert refused.value.message.count("'image'") == 1


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody/nothing")


async def test_an_unknown_model_is_not_found(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "Hello"}])
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert MODEL in refused.value.message


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "I"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "robot", "content": "Hello"}]}, "messages.0.role"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"stop": ["a"] * 9}, "stop"),
    ],
)
async def test_wrong_requests_name_the_field(client: AsyncOpenAI, wrong: dict[str, Any], param: str) -> None:
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], **wrong}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**body)
    assert (refused.value.code, refused.value.type) == ("bad_request", "invalid_request_error")
    assert (refused.value.param or "").startswith(param)


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("data:image/png;base64,AAAA", 400, "bad_image"),
        ("data:image/png;base64,%%%", 400, "bad_image"),
        ("data:image/png", 400, "bad_image"),
        ("data:image/svg+xml,<svg/>", 415, "unsupported_image"),
        ("https://example.org/photo.jpg", 400, "bad_image"),
        ("file:///etc/passwd", 400, "bad_request"),
        ("0" * 64, 400, "bad_request"),
    ],
)
async def test_wrong_pictures_name_their_place(client: AsyncOpenAI, address: str, status: int, code: str) -> None:
    messages: Any = [showing(address)]
    with pytest.raises(openai.APIStatusError) as refused:
        await client.chat.completions.create(model=MODEL, messages=messages)
    assert (refused.value.status_code, refused.value.code) == (status, code)
    assert refused.value.param in ("messages.0.content.1", "messages.0.content.1.image_url.url", "image_url")


async def test_leaving_a_stream_stops_the_engine(run_gateway: RunGateway) -> None:
    engine = ScriptedEngine(answer="word " * 500, pause_s=0.02)
    async with run_gateway(chat_model(engine)) as url, AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        async for _ in stream:
            break
        assert engine.running == 1
        await stream.close()
        async with asyncio.timeout(20):
            await engine.freed.wait()


async def test_a_busy_model_is_503_with_a_time_to_wait(run_gateway: RunGateway) -> None:
    engine = ScriptedEngine(busy_times=1)
    async with run_gateway(chat_model(engine)) as url:
        body = {"messages": [{"role": "user", "content": "Hello"}]}
        async with httpx.AsyncClient(trust_env=False) as plain:
            refused = await plain.post(f"{url}/v1/chat/completions", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["type"] == "server_error"
        engine.busy_times = 1
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=2) as client:  # it waits and comes back
            done = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
        assert done.choices[0].message.content == ANSWER


async def test_an_error_after_the_first_word_ends_the_stream(run_gateway: RunGateway) -> None:
    engine = ScriptedEngine(breaks_after=2)
    async with run_gateway(chat_model(engine)) as url, AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        words = []
        with pytest.raises(openai.APIError, match="could not answer"):
            async for chunk in stream:
                words.append(chunk.choices[0].delta.content)
        assert words == ["", "a ", "red "]


async def test_heat_maps_when_they_are_asked_for(client: AsyncOpenAI) -> None:
    messages: Any = [showing(data_url(picture()))]
    done = await client.chat.completions.create(
        model=MODEL, messages=messages, extra_body={"visavis": {"explain": True}}
    )
    assert done.model_extra is not None
    told = done.model_extra["visavis"]
    assert told["explanation"]["grid"] == [2, 2]
    assert told["explanation"]["image"] == told["image"] == stored_id(picture())
    text = done.choices[0].message.content or ""
    words = [text[word["start"] : word["end"]] for word in told["explanation"]["words"]]
    assert words == ANSWER.split()


async def test_the_name_of_a_picture_is_the_hash_of_its_bytes(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    messages: Any = [showing(data_url(picture()))]
    await client.chat.completions.create(model=MODEL, messages=messages)
    assert engine.asked[0].image == hashlib.sha256(normalise_image(picture(), ImageLimits()).data).hexdigest()


async def test_embeddings_need_a_model_that_has_them(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="embeddings"):
        await client.embeddings.create(model=MODEL, input="a red square")
