"""How well a text fits pictures, asked of an engine: the model's own numbers, in process and over a socket."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import tiny_checkpoint
import torch
from test_chat_model import BLUE, PICTURES, RED, Pictures

from visavis.models.chat_model import VisavisChatModel
from visavis.models.engine import InferenceEngine
from visavis.models.errors import ModelError, UnknownImage
from visavis.models.generation import GenerationRequest
from visavis.models.images import decode_picture
from visavis.models.processor import Processor
from visavis.models.visavis_model import VisavisModel


@pytest.fixture(scope="module")
def sharing(tiny_processor: Processor) -> VisavisModel:
    return tiny_checkpoint.tiny_model(tiny_processor, shared={"size": 8})


@pytest.fixture
def engine(sharing: VisavisModel, tiny_processor: Processor) -> Iterator[InferenceEngine]:
    with InferenceEngine(sharing, tiny_processor, max_queue=4) as engine:
        yield engine


@pytest.fixture
async def remote(served: str) -> AsyncIterator[VisavisChatModel]:
    model = VisavisChatModel(base_url=served, image_source=Pictures())
    yield model
    await model.aclose()


async def test_it_is_the_cosine_times_the_scale_of_the_space(
    sharing: VisavisModel, tiny_processor: Processor, engine: InferenceEngine, remote: VisavisChatModel
) -> None:
    with torch.inference_mode():
        pixels = torch.cat([tiny_processor.pixel_values(decode_picture(data)) for data in PICTURES.values()])
        seen = sharing.embed_pictures(sharing.image_state(sharing.encode_image(pixels)))
        text = sharing.embed_texts(**tiny_processor.encode_question("a red dog"))[0]
        expected = (sharing.shared.scale * (seen @ text)).tolist()  # type: ignore[union-attr]
    with pytest.raises(UnknownImage) as missing:
        await engine.likeness("a red dog", [RED, BLUE])
    assert missing.value.images == (RED, BLUE)
    assert await remote.likeness("a red dog", [RED, BLUE]) == pytest.approx(expected, abs=1e-4)
    here = VisavisChatModel(engine=engine, image_source=Pictures())
    assert await here.likeness(" a  red\x00dog", [BLUE, RED]) == pytest.approx(expected[::-1], abs=1e-4)
    assert await here.likeness("a red dog", []) == ()
    assert engine.counters.encoder_forwards == 2, "each picture once"
    assert engine.counters.completed == 0 and not engine.running and not engine.waiting


async def test_it_needs_no_row_and_spoils_no_answer(engine: InferenceEngine) -> None:
    image = engine.add_image(PICTURES[RED])
    alone = await engine.generate(GenerationRequest("what is it?", (), image))
    answers = [asyncio.create_task(engine.generate(GenerationRequest("what is it?", (), image))) for _ in range(2)]
    await engine.likeness("a red dog", [image])
    assert [(await answer).text for answer in answers] == [alone.text] * 2
    with pytest.raises(ModelError, match="does not hold"):
        await engine.likeness("a red dog", ["0" * 64])


async def test_a_model_without_the_space_says_nothing(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    with InferenceEngine(tiny_model, tiny_processor) as engine:
        assert await engine.likeness("a red dog", [engine.add_image(PICTURES[RED])]) == ()


async def test_a_wrong_request_is_named(remote: VisavisChatModel) -> None:
    with pytest.raises(ModelError) as refused:
        await remote.likeness("dog " * 5_000, [])
    assert refused.value.code == "bad_request" and "text" in str(refused.value)
