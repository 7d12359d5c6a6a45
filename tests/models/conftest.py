"""Shared by the tests of the models package: one tiny model and engines over it."""

from collections.abc import Iterator

import pytest
import tiny_checkpoint

from visavis.models.engine import InferenceEngine
from visavis.models.processor import VisavisProcessor
from visavis.models.visavis_model import VisavisForConditionalGeneration


@pytest.fixture(scope="session")
def tiny_processor() -> VisavisProcessor:
    return tiny_checkpoint.tiny_processor()


@pytest.fixture(scope="session")
def tiny_model(tiny_processor: VisavisProcessor) -> VisavisForConditionalGeneration:
    return tiny_checkpoint.tiny_model(tiny_processor)


@pytest.fixture
def engine(tiny_model: VisavisForConditionalGeneration, tiny_processor: VisavisProcessor) -> Iterator[InferenceEngine]:
    with InferenceEngine(tiny_model, tiny_processor, max_queue=4, max_new_tokens=12) as engine:
        yield engine
