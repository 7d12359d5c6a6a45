"""Beam search: the same answers as transformers' `generate` with `num_beams`, alone and through the engine."""

import asyncio

import pytest
import torch
from tiny_checkpoint import drawn_picture, with_generate

from visavis.models.beam_search import beam_search
from visavis.models.engine import InferenceEngine
from visavis.models.errors import BadRequest, ModelError
from visavis.models.generation import FinishReason, GenerationRequest, SamplingParameters
from visavis.models.images import decode_picture
from visavis.models.kv_cache import KeyValue
from visavis.models.processor import Processor
from visavis.models.visavis_model import Memory, VisavisModel

QUESTIONS = ("what color is the dog?", "is it?", "describe the picture in one word, what is it?")
COLORS = ("red", "blue", "green", "white")


def by_generate(
    model: VisavisModel, processor: Processor, color: str, question: str, beams: int, shortest: int = 0
) -> list[int]:
    pixels = processor.pixel_values(decode_picture(drawn_picture(color)))
    options = {"num_beams": beams, "do_sample": False, "max_new_tokens": 12, "min_new_tokens": shortest}
    inputs = processor.encode_question(question)
    ids: list[int] = with_generate(model).generate(**inputs, pixel_values=pixels, **options)[0].tolist()
    end = model.config.decoder.eos_token_id
    return [token for token in ids[1:] if token != end]


def memory_of(model: VisavisModel, processor: Processor, color: str, question: str) -> Memory:
    pixels = processor.pixel_values(decode_picture(drawn_picture(color)))
    with torch.inference_mode():
        return model.fuse(model.image_state(model.encode_image(pixels)), **processor.encode_question(question))


@pytest.mark.parametrize(("beams", "shortest"), [(1, 0), (2, 0), (3, 6), (5, 0)])
def test_as_generate(tiny_model: VisavisModel, tiny_processor: Processor, beams: int, shortest: int) -> None:
    for color, question in zip(COLORS, QUESTIONS, strict=False):
        memory = memory_of(tiny_model, tiny_processor, color, question)
        with torch.inference_mode():
            best = beam_search(tiny_model, memory, beams, max_new_tokens=12, min_new_tokens=shortest)
        said = [token for token in best.token_ids if token != tiny_model.config.decoder.eos_token_id]
        assert said == by_generate(tiny_model, tiny_processor, color, question, beams, shortest)


def test_it_finds_likelier_answers_than_greed(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    gains = []
    for color in COLORS:
        memory = memory_of(tiny_model, tiny_processor, color, QUESTIONS[0])
        with torch.inference_mode():
            greedy, wide = (beam_search(tiny_model, memory, beams, max_new_tokens=12).mean for beams in (1, 5))
        gains.append(wide - greedy)
    assert min(gains) >= -1e-5 and max(gains) > 0.01


async def test_the_engine_gives_it_as_one_piece(
    engine: InferenceEngine, tiny_model: VisavisModel, tiny_processor: Processor
) -> None:
    sampling = SamplingParameters(beams=3)
    request = GenerationRequest(QUESTIONS[0], (), engine.add_image(drawn_picture()), sampling=sampling)
    chunks = [chunk async for chunk in engine.stream(request)]
    (piece, completion) = chunks[-1].text, chunks[-1].completion
    assert completion is not None and completion.text == "".join(chunk.text for chunk in chunks) == piece
    expected = by_generate(tiny_model, tiny_processor, "red", QUESTIONS[0], 3)
    assert completion.text == tiny_processor.decode_answer(expected).replace("\ufffd", "").strip()
    assert completion.output_tokens == len(expected) == len(completion.log_probabilities)
    assert completion.confidence is not None and completion.image == request.image
    assert (engine.counters.completed, engine.counters.decode_steps, engine.running) == (1, 0, 0)


async def test_a_deadline_ends_the_search_with_the_best_so_far(engine: InferenceEngine) -> None:
    image = engine.add_image(drawn_picture())
    await engine.generate(GenerationRequest(QUESTIONS[0], (), image))
    late = GenerationRequest(QUESTIONS[0], (), image, sampling=SamplingParameters(beams=3), deadline_s=0.0)
    assert (await engine.generate(late)).finish_reason is FinishReason.CANCELLED
    patient = asyncio.create_task(engine.generate(GenerationRequest(QUESTIONS[0], (), image, sampling=late.sampling)))
    assert (await patient).finish_reason is not FinishReason.CANCELLED


def test_scores_that_are_no_numbers_are_told(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    memory = memory_of(tiny_model, tiny_processor, "red", QUESTIONS[0])
    spoiled = Memory(tuple(KeyValue(layer.key * torch.nan, layer.value) for layer in memory.layers), memory.mask)
    with torch.inference_mode(), pytest.raises(ModelError):
        beam_search(tiny_model, spoiled, 3, max_new_tokens=12)


@pytest.mark.parametrize("wrong", [{"beams": 0}, {"beams": 17}, {"beams": 2, "temperature": 1.0}])
def test_wrong_numbers_of_beams_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadRequest):
        SamplingParameters(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("beams", [1, 3])
def test_no_piece_of_a_word_is_said_twice_running(
    tiny_model: VisavisModel, tiny_processor: Processor, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    piece = tiny_model.config.decoder.first_piece
    likely = torch.full((tiny_model.config.decoder.vocab_size,), -9.0)
    likely[[piece, piece + 1]] = torch.tensor([3.0, 1.0])
    memory = memory_of(tiny_model, tiny_processor, "red", QUESTIONS[0])
    monkeypatch.setattr(VisavisModel, "decode", lambda _, said, *__: likely.expand(*said.shape, -1))
    with torch.inference_mode():
        best = beam_search(tiny_model, memory, beams, max_new_tokens=6)
    assert best.token_ids == (piece, piece + 1) * 3
