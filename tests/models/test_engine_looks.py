"""How an engine looks at a picture: whole or in part, with its words read or not, and whether it is a photo at all."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import tiny_checkpoint
from PIL import Image

from visavis.models.confidence import confidence
from visavis.models.engine import InferenceEngine
from visavis.models.generation import GenerationRequest, Region
from visavis.models.processor import Processor
from visavis.models.replies import NOT_A_PHOTO
from visavis.models.visavis_model import VisavisModel
from visavis.models.words_in_pictures import WordReader

WHOLE = "what is it?"
READ = "what does it say?"


class CountingReader(WordReader):
    """Reads the same words in every picture."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []

    def read(self, picture: Image.Image) -> list[str]:
        self.sizes.append(picture.size)
        return ["wet dog", "2"]


@pytest.fixture
def reader() -> CountingReader:
    return CountingReader()


@pytest.fixture
def engine(tagging_model: VisavisModel, tiny_processor: Processor, reader: CountingReader) -> Iterator[InferenceEngine]:
    with InferenceEngine(tagging_model, tiny_processor, max_new_tokens=6, reader=reader) as engine:
        yield engine


@pytest.fixture
def request_(engine: InferenceEngine) -> GenerationRequest:
    return GenerationRequest(WHOLE, (), engine.add_image(tiny_checkpoint.drawn_picture()))


async def test_words_are_read_once_and_only_when_asked_for(
    engine: InferenceEngine, request_: GenerationRequest, reader: CountingReader
) -> None:
    await engine.generate(request_)
    assert reader.sizes == []
    asked = replace(request_, question=READ)
    first = await engine.generate(asked)
    assert reader.sizes == [(40, 30)]
    assert await engine.generate(asked) == first
    assert len(reader.sizes) == 1
    assert engine.counters.encoder_forwards == 1, "the words join what was encoded already"


async def test_words_change_what_the_model_knows(
    engine: InferenceEngine, request_: GenerationRequest, tagging_model: VisavisModel, tiny_processor: Processor
) -> None:
    with_words = await engine.generate(replace(request_, question=READ))
    with InferenceEngine(tagging_model, tiny_processor, max_new_tokens=6) as silent:
        silent.add_image(tiny_checkpoint.drawn_picture())
        without = await silent.generate(replace(request_, question=READ))
    assert with_words.log_probabilities != without.log_probabilities


async def test_a_part_is_a_look_of_its_own(engine: InferenceEngine, request_: GenerationRequest) -> None:
    part = replace(request_, region=Region(0, 0, 0.25, 0.25))
    for _ in range(2):
        await engine.generate(request_)
        await engine.generate(part)
    assert engine.counters.encoder_forwards == 2
    words = await engine.explain(part, "a red dog")
    hot = [(y, x) for y, row in enumerate(words[0].rows) for x, value in enumerate(row) if value]
    assert hot and all(y < 2 and x < 2 for y, x in hot), "heat lies where the part lies"


async def test_what_is_no_photo_is_not_described(
    engine: InferenceEngine, request_: GenerationRequest, tagging_model: VisavisModel
) -> None:
    tiny_checkpoint.set_photo(tagging_model, False)
    reply = await engine.generate(request_)
    assert reply.text in NOT_A_PHOTO
    assert reply.confidence is None
    assert engine.counters.decode_steps == 0
    assert engine.counters.completed == 1
    read = await engine.generate(replace(request_, question=READ))
    assert read.text not in NOT_A_PHOTO, "words that were read can be spoken about"


async def test_confidence_is_calibrated(
    engine: InferenceEngine, request_: GenerationRequest, tagging_model: VisavisModel
) -> None:
    said = await engine.generate(request_)
    assert said.log_probabilities
    assert said.confidence == confidence(said.log_probabilities, tagging_model.config.calibration)
    assert said.confidence != confidence(said.log_probabilities)
