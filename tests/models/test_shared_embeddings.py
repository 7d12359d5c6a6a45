"""Texts and pictures as vectors: the model's own numbers, in process and over a socket; LangChain's own suites."""

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import tiny_checkpoint
import torch
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from test_chat_model import BLUE, PICTURES, RED

from visavis.models.chat_model import VisavisChatModel
from visavis.models.embeddings import VisavisEmbeddings
from visavis.models.engine import InferenceEngine
from visavis.models.errors import ModelError, NoSharedSpace, UnknownImage
from visavis.models.images import decode_picture
from visavis.models.processor import Processor
from visavis.models.visavis_model import VisavisModel

PLACE: dict[str, Any] = {}


@pytest.fixture(scope="module")
def sharing(tiny_processor: Processor) -> VisavisModel:
    return tiny_checkpoint.tiny_model(tiny_processor, shared={"size": 8})


@pytest.fixture
def engine(sharing: VisavisModel, tiny_processor: Processor) -> Iterator[InferenceEngine]:
    with InferenceEngine(sharing, tiny_processor, max_queue=4) as engine:
        PLACE.update(engine=engine)
        yield engine
        PLACE.clear()


@pytest.fixture
async def remote(served: str) -> AsyncIterator[VisavisEmbeddings]:
    embeddings = VisavisEmbeddings(base_url=served)
    yield embeddings
    await embeddings.aclose()


async def test_they_are_the_models_own(
    sharing: VisavisModel, tiny_processor: Processor, engine: InferenceEngine, remote: VisavisEmbeddings
) -> None:
    with torch.inference_mode():
        pixels = torch.cat([tiny_processor.pixel_values(decode_picture(PICTURES[name])) for name in (RED, BLUE)])
        seen = sharing.embed_pictures(sharing.image_state(sharing.encode_image(pixels)))
        said = sharing.embed_texts(**tiny_processor.encode_question("a red dog"))
    made = await remote.aembed([PICTURES[RED], "a red dog", PICTURES[BLUE]])
    expected = torch.stack([seen[0], said[0], seen[1]])
    torch.testing.assert_close(torch.tensor([one.vector for one in made]), expected, atol=1e-4, rtol=1e-3)
    assert made[0].tokens > made[1].tokens > 2
    url = f"data:image/png;base64,{base64.b64encode(PICTURES[RED]).decode()}"
    here = await VisavisChatModel(engine=engine).embeddings().aembed_documents([url, "a red dog"])
    torch.testing.assert_close(torch.tensor(here), expected[:2], atol=1e-4, rtol=1e-3)
    assert engine.counters.completed == 0 and not engine.running and not engine.waiting


async def test_what_cannot_be_embedded_is_told(
    engine: InferenceEngine, remote: VisavisEmbeddings, tiny_model: VisavisModel, tiny_processor: Processor
) -> None:
    with pytest.raises(UnknownImage):
        await engine.embed(image="0" * 64)
    for input, code in (("dog " * 5_000, "too_long"), (b"no picture", "unsupported_image")):
        with pytest.raises(ModelError) as refused:
            await remote.aembed([input])
        assert refused.value.code == code
    with pytest.raises(ModelError) as refused:
        await remote.aembed_query("data:image/png;base64,!!!")
    assert refused.value.code == "bad_image"
    with InferenceEngine(tiny_model, tiny_processor) as blind, pytest.raises(NoSharedSpace) as missing:
        await blind.embed("a red dog")
    assert missing.value.code == "no_shared_space"


@pytest.mark.usefixtures("engine")
class _OfVisavis:
    @property
    def embeddings_class(self) -> type[VisavisEmbeddings]:
        return VisavisEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return PLACE


class TestUnit(_OfVisavis, EmbeddingsUnitTests):  # type: ignore[misc]
    pass


class TestIntegration(_OfVisavis, EmbeddingsIntegrationTests):  # type: ignore[misc]
    pass
