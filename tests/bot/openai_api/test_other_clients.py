"""Clients of OpenAI's API that nobody here wrote, against a gateway on a real socket."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from api_server import chat_model, data_url, picture, showing
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from running_gateway import RunGateway
from scripted_engine import ScriptedEngine

MODEL = "visavis-embedded"
ANSWER = "a red square on white "


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
async def url(run_gateway: RunGateway, engine: ScriptedEngine) -> AsyncIterator[str]:
    async with run_gateway(chat_model(engine)) as url:
        yield url


@pytest.fixture
def langchain(url: str) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{url}/v1", api_key=SecretStr("any"), model=MODEL, max_retries=0, stream_usage=True)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": data_url(picture())}},
        {"type": "image", "base64": data_url(picture()).partition(",")[2], "mime_type": "image/png"},
        {"type": "image", "url": data_url(picture())},
    ],
)
async def test_langchain_openai_shows_pictures(
    langchain: ChatOpenAI, engine: ScriptedEngine, block: dict[str, Any]
) -> None:
    answer = await langchain.ainvoke([HumanMessage([block, {"type": "text", "text": "What is this?"}])])
    assert answer.content == ANSWER
    assert answer.usage_metadata is not None
    assert answer.response_metadata["finish_reason"] == "stop"
    assert engine.asked[0].image is not None


async def test_langchain_openai_streams_and_batches(langchain: ChatOpenAI) -> None:
    chunks = [chunk async for chunk in langchain.astream("Hello")]
    assert "".join(str(chunk.content) for chunk in chunks) == ANSWER
    assert any(chunk.usage_metadata for chunk in chunks)
    assert [answer.content for answer in await langchain.abatch(["Hello", "Hi"])] == [ANSWER, ANSWER]


LITELLM = """
import json, os, sys
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or its import looks for prices on the network
import litellm
place = {"model": f"openai/{sys.argv[1]}", "api_base": sys.argv[2], "api_key": "any", "num_retries": 0}
showing, broken = json.loads(sys.argv[3])
print(litellm.completion(messages=[showing], **place).choices[0].message.content)
stream = litellm.completion(messages=[{"role": "user", "content": "Hello"}], stream=True, **place)
print("".join(chunk.choices[0].delta.content or "" for chunk in stream))
try:
    litellm.completion(messages=[broken], **place)
except litellm.BadRequestError as error:
    print(error.status_code)
"""


@pytest.mark.timeout(600)  # its import alone takes many seconds
async def test_litellm_asks_streams_and_knows_the_errors(url: str, engine: ScriptedEngine) -> None:
    messages = json.dumps([showing(data_url(picture())), showing("data:image/png;base64,AAAA")])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", LITELLM, MODEL, f"{url}/v1", messages), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert [line for line in told.decode().splitlines() if line in (ANSWER, "400")] == [ANSWER, ANSWER, "400"]
    assert engine.asked[0].image is not None
