"""`/v1/embeddings` with OpenAI's and LangChain's own clients, over a tiny model that has the space."""

import array
import base64
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from api_server import chat_model, data_url, picture
from langchain_openai import OpenAIEmbeddings
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from PIL import Image
from pydantic import SecretStr
from running_gateway import RunGateway
from scripted_engine import ScriptedEngine

from visavis.models.errors import NoSharedSpace
from visavis.models.generation import Embedding


@dataclass
class EmbeddingEngine(ScriptedEngine):
    """Vectors that tell what was embedded; none unless `has_space`."""

    has_space: bool = True

    async def embed(self, text: str = "", *, image: str | None = None) -> Embedding:
        if not self.has_space:
            raise NoSharedSpace
        assert image is None or image in self.images
        digest = hashlib.sha256((image or text).encode()).digest()
        return Embedding(tuple(byte / 256 for byte in digest[:8]), 3 if image is None else 100)


@pytest.fixture
def engine() -> EmbeddingEngine:
    return EmbeddingEngine()


@pytest.fixture
async def url(run_gateway: RunGateway, engine: EmbeddingEngine) -> AsyncIterator[str]:
    async with run_gateway(chat_model(engine)) as url:
        yield f"{url}/v1"


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
        yield client


async def vectors(client: AsyncOpenAI, input: Any, **options: Any) -> list[list[float]]:
    made = await client.embeddings.create(model="visavis", input=input, **options)
    assert [one.index for one in made.data] == list(range(len(made.data)))
    return [one.embedding for one in made.data]


def embedded(engine: EmbeddingEngine, name: str) -> Sequence[float]:
    return pytest.approx([byte / 256 for byte in hashlib.sha256(name.encode()).digest()[:8]])  # type: ignore[return-value]


async def test_texts_and_pictures_in_both_encodings(client: AsyncOpenAI, engine: EmbeddingEngine) -> None:
    url = data_url(picture())
    parts = ["a dog", url, {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "a dog"}]
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64", "dimensions": 8}):
        dog, red, again, text = [_floats(one) for one in await vectors(client, parts, **options)]
        assert dog == text == embedded(engine, "a dog")
        assert red == again == embedded(engine, next(iter(engine.images)))
    made = await client.embeddings.create(model="visavis", input=["a dog", url])
    assert (made.usage.prompt_tokens, made.usage.total_tokens, made.model) == (103, 103, "visavis-embedded")
    assert await vectors(client, "a dog") == [embedded(engine, "a dog")]


def _floats(encoded: Any) -> Sequence[float]:
    return list(array.array("f", base64.b64decode(encoded)) if isinstance(encoded, str) else encoded)


async def test_a_picture_of_a_session(client: AsyncOpenAI, url: str, engine: EmbeddingEngine) -> None:
    async with httpx.AsyncClient() as http:
        session = {"X-Visavis-Session": (await http.post(f"{url}/sessions")).json()["id"]}
        image = (await http.post(f"{url}/images", content=picture(), headers=session)).json()["image"]
    part = {"type": "image", "file_id": image}
    assert await vectors(client, [part], extra_headers=session) == [embedded(engine, image)]
    with pytest.raises(BadRequestError, match="session"):
        await vectors(client, [part])


async def test_langchains_client(url: str, engine: EmbeddingEngine) -> None:
    plain = {"check_embedding_ctx_length": False}  # else it sends numbers of OpenAI's own vocabulary
    embeddings = OpenAIEmbeddings(base_url=url, api_key=SecretStr("any"), model="visavis", max_retries=0, **plain)  # type: ignore[arg-type]
    assert await embeddings.aembed_query("a dog") == embedded(engine, "a dog")
    await embeddings.async_client._client.close()


@pytest.mark.parametrize(
    ("input", "param"),
    [
        ([], "input"),
        ([1, 2, 3], "input"),
        ([" "], "input.0"),
        (["a dog", "data:image/png;base64,AAAA"], "input.1"),
        (["a"] * 300, "input"),
        ([data_url(picture())] * 33, "input"),
    ],
)
async def test_what_is_no_input_is_named(client: AsyncOpenAI, input: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        await vectors(client, input)
    assert str(refused.value.param).startswith(param)


async def test_another_size_is_refused(client: AsyncOpenAI) -> None:
    with pytest.raises(BadRequestError, match="8 numbers"):
        await vectors(client, "a dog", dimensions=5)


async def test_a_model_without_the_space_is_told(client: AsyncOpenAI, engine: EmbeddingEngine) -> None:
    engine.has_space = False
    with pytest.raises(NotFoundError) as missing:
        await vectors(client, "a dog")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


async def test_pictures_are_made_upright_and_small(client: AsyncOpenAI, engine: EmbeddingEngine) -> None:
    large = io.BytesIO()
    Image.new("RGB", (3000, 20), "red").save(large, "PNG")
    await vectors(client, data_url(large.getvalue()))
    assert engine.images != {hashlib.sha256(large.getvalue()).hexdigest()}
