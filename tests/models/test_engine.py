"""The engine against the slow reference, and what it counts: nothing is computed twice, nothing runs for nobody."""

import asyncio
import contextlib
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_checkpoint import drawn_picture, with_generate

from visavis.models.decode_batch import DecodeBatch
from visavis.models.engine import InferenceEngine
from visavis.models.engine_jobs import EngineCounters
from visavis.models.errors import BadImage, BadRequest, Busy, ModelError, UnknownImage, UnsupportedImage
from visavis.models.generation import Completion, FinishReason, GenerationRequest, Region, SamplingParameters
from visavis.models.image_states import Encoding
from visavis.models.images import decode_picture
from visavis.models.processor import Processor
from visavis.models.visavis_model import VisavisModel

QUESTION = "what color is the dog?"
HISTORY = (("is it a dog?", "yes"), ("what is it?", "a red dog"))


class Gate:
    """Holds the model before a method, every decode step if no other is named, until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type = DecodeBatch, name: str = "step") -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        method = getattr(kind, name)

        def gated(*arguments: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return method(*arguments)

        monkeypatch.setattr(kind, name, gated)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 60)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def reference(model: VisavisModel, processor: Processor, request: GenerationRequest, **options: object) -> str:
    """The same answer from `generate`."""
    inputs = processor.encode_question(request.question, request.history)
    pixels = processor.pixel_values(decode_picture(drawn_picture()))
    ids = with_generate(model).generate(**inputs, pixel_values=pixels, max_new_tokens=12, **options)
    return processor.decode_answer(ids[0]).replace("\ufffd", "").strip()


async def pieces_of(engine: InferenceEngine, request: GenerationRequest) -> tuple[list[str], Completion]:
    chunks = [chunk async for chunk in engine.stream(request)]
    assert [chunk.completion for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    completion = chunks[-1].completion
    assert completion is not None
    return [chunk.text for chunk in chunks], completion


@pytest.mark.parametrize("history", [(), HISTORY])
async def test_greedy_tokens_equal_generate(
    engine: InferenceEngine,
    tiny_model: VisavisModel,
    tiny_processor: Processor,
    history: tuple[tuple[str, str], ...],
) -> None:
    request = GenerationRequest(QUESTION, history, engine.add_image(drawn_picture()))
    completion = await engine.generate(request)
    assert completion.text == reference(tiny_model, tiny_processor, request, do_sample=False)
    assert completion.text


@pytest.mark.parametrize(
    "options",
    [{"top_k": 0}, {"top_k": 5}, {"top_k": 0, "top_p": 0.7}, {"top_k": 20, "top_p": 0.9, "repetition_penalty": 1.5}],
)
async def test_seeded_tokens_equal_generate(
    engine: InferenceEngine,
    tiny_model: VisavisModel,
    tiny_processor: Processor,
    options: dict[str, float],
) -> None:
    sampling = SamplingParameters(temperature=1.3, seed=7, **options)  # type: ignore[arg-type]
    request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()), sampling=sampling)
    completion = await engine.generate(request)
    torch.manual_seed(7)
    assert completion.text == reference(tiny_model, tiny_processor, request, do_sample=True, temperature=1.3, **options)
    assert (await engine.generate(request)).text == completion.text


async def test_repetition_penalty_equals_generate(
    engine: InferenceEngine, tiny_model: VisavisModel, tiny_processor: Processor
) -> None:
    sampling = SamplingParameters(repetition_penalty=2.0)
    request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()), sampling=sampling)
    expected = reference(tiny_model, tiny_processor, request, do_sample=False, repetition_penalty=2.0)
    assert (await engine.generate(request)).text == expected


async def test_words_that_come_sooner_than_asked_for_are_sent_with_the_end(
    engine: InferenceEngine, tiny_model: VisavisModel, tiny_processor: Processor
) -> None:
    loud = SamplingParameters(temperature=5.0, seed=1, max_new_tokens=48)
    request = GenerationRequest(QUESTION, HISTORY, engine.add_image(drawn_picture()), sampling=loud)
    each, expected = await pieces_of(engine, request)
    with InferenceEngine(tiny_model, tiny_processor, words_every_s=60) as patient:
        patient.add_image(drawn_picture())
        pieces, completion = await pieces_of(patient, request)
    assert completion == expected
    assert len(each) > 3 and pieces == [each[0], "".join(each[1:])]


async def test_streamed_pieces_join_to_the_batch_answer(engine: InferenceEngine) -> None:
    sampling = SamplingParameters(temperature=1.0, seed=3)
    request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()), sampling=sampling)
    pieces, completion = await pieces_of(engine, request)
    assert "".join(pieces) == completion.text == (await engine.generate(request)).text


async def test_completion_tells_usage_and_confidence(engine: InferenceEngine, tiny_processor: Processor) -> None:
    sampling = SamplingParameters(max_new_tokens=3)
    request = GenerationRequest(QUESTION, HISTORY, engine.add_image(drawn_picture()), sampling=sampling)
    completion = await engine.generate(request)
    assert completion.image == request.image
    assert completion.image_tokens == 17  # 4 x 4 patches and the class token
    assert completion.input_tokens == 17 + tiny_processor.encode_question(QUESTION, HISTORY)["input_ids"].shape[1]
    assert completion.output_tokens <= 3
    assert completion.confidence is not None and 0 < completion.confidence <= 1


async def test_stop_string_ends_the_answer_before_it(engine: InferenceEngine) -> None:
    request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()))
    whole = (await engine.generate(request)).text
    stop = whole[3:5]
    stopped = await engine.generate(replace(request, sampling=SamplingParameters(stop=(stop,))))
    assert stopped.text == whole[: whole.index(stop)].rstrip()
    assert stopped.finish_reason is FinishReason.STOP


async def test_longer_answers_than_the_decoder_has_positions_end_in_time(engine: InferenceEngine) -> None:
    sampling = SamplingParameters(max_new_tokens=10_000, temperature=5.0, seed=1)
    completion = await engine.generate(
        GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()), sampling=sampling)
    )
    assert completion.output_tokens <= 24


async def test_two_turns_on_a_picture_encode_it_once(engine: InferenceEngine, tiny_model: VisavisModel) -> None:
    before = tiny_model.encoder.vision.forwards
    image = engine.add_image(drawn_picture())
    first = await engine.generate(GenerationRequest(QUESTION, (), image))
    await engine.generate(GenerationRequest("is it a dog?", ((QUESTION, first.text),), image))
    assert tiny_model.encoder.vision.forwards - before == engine.counters.encoder_forwards == 1
    assert (engine.counters.fusion_forwards, engine.counters.image_hits, engine.counters.image_misses) == (2, 1, 1)


async def test_concurrent_questions_about_a_picture_encode_it_once(engine: InferenceEngine) -> None:
    image = engine.add_image(drawn_picture())
    questions = [GenerationRequest(f"{QUESTION} {number}", (), image) for number in range(4)]
    await asyncio.gather(*(engine.generate(question) for question in questions))
    assert engine.counters.encoder_forwards == 1
    assert engine.counters.rows_freed == engine.counters.completed == 4


async def test_dropped_features_are_made_again(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    with InferenceEngine(tiny_model, tiny_processor, cache_bytes=1) as engine:
        request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()))
        assert (await engine.generate(request)).text == (await engine.generate(request)).text
        assert engine.counters.encoder_forwards == 2
        assert engine.images.cached_bytes == 0


async def test_closing_a_stream_frees_the_row_within_two_steps(engine: InferenceEngine, gate: Gate) -> None:
    image = engine.add_image(drawn_picture())
    stream = engine.stream(GenerationRequest(QUESTION, (), image))
    reading = asyncio.ensure_future(anext(stream))
    await gate.wait()
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    gate.open.set()
    await engine.generate(GenerationRequest(QUESTION, (), image, sampling=SamplingParameters(max_new_tokens=1)))
    assert engine.counters.decode_steps <= 2 + 1
    assert engine.counters.rows_freed == 2
    assert engine.counters.cancelled == 1


async def test_leaving_the_queue_costs_nothing(engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Encoding, "advance")
    images = [engine.add_image(drawn_picture(color)) for color in ("red", "green", "blue")]
    asked = [asyncio.ensure_future(engine.generate(GenerationRequest(QUESTION, (), image))) for image in images]
    await gate.wait()
    await asyncio.sleep(0.01)
    assert (engine.running, engine.waiting) == (0, 3)  # two pictures are in hand
    last = asked.pop()
    last.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await last
    assert engine.waiting == 2
    gate.open.set()
    await asyncio.gather(*asked)
    assert engine.counters.encoder_forwards == engine.counters.fusion_forwards == 2


async def test_a_full_queue_is_busy_at_once(tiny_model: VisavisModel, tiny_processor: Processor, gate: Gate) -> None:
    engine = InferenceEngine(tiny_model, tiny_processor, max_rows=1, max_queue=4)
    request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()))
    running = [asyncio.ensure_future(engine.generate(request))]
    await gate.wait()
    running += [asyncio.ensure_future(engine.generate(request)) for _ in range(4)]
    await asyncio.sleep(0.01)
    with pytest.raises(Busy) as refused:
        await engine.generate(request)
    assert (refused.value.waiting, refused.value.code) == (4, "busy")
    gate.open.set()
    answers = await asyncio.gather(*running)
    assert len({answer.text for answer in answers}) == 1
    assert engine.counters.rejected == 1
    engine.close()


async def test_deadline_ends_with_what_was_said(engine: InferenceEngine) -> None:
    request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()), deadline_s=0.0)
    completion = await engine.generate(request)
    assert (completion.text, completion.finish_reason, completion.confidence) == ("", FinishReason.CANCELLED, None)
    assert engine.counters.encoder_forwards == 0


async def test_an_unexpected_failure_is_logged_and_told_plainly(
    engine: InferenceEngine,
    tiny_model: VisavisModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(tiny_model, "fuse", broken)
    with pytest.raises(ModelError, match=r"^the model failed on this question$"):
        await engine.generate(GenerationRequest(QUESTION, (), engine.add_image(drawn_picture())))
    assert "/secret/path" in caplog.text


async def test_unknown_and_broken_pictures(engine: InferenceEngine) -> None:
    with pytest.raises(UnknownImage) as unknown:
        await engine.generate(GenerationRequest(QUESTION, (), "0" * 64))
    assert unknown.value.images == ("0" * 64,)
    with pytest.raises(UnsupportedImage):
        engine.add_image(b"not a picture")
    cut = engine.add_image(drawn_picture(size=(400, 300), kind="JPEG")[:1200])
    with pytest.raises(BadImage):
        await engine.generate(GenerationRequest(QUESTION, (), cut))


async def test_region_changes_what_is_seen(engine: InferenceEngine) -> None:
    request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()))
    whole = await engine.generate(request)
    part = await engine.generate(replace(request, region=Region(0, 0, 0.25, 0.25)))
    assert part.confidence != whole.confidence


async def test_an_answer_is_explained_word_by_word(engine: InferenceEngine) -> None:
    request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()))
    words = await engine.explain(request, "a red dog")
    assert [(word.word, word.start, word.end) for word in words] == [("a", 0, 1), ("red", 2, 5), ("dog", 6, 9)]
    for word in words:
        assert sum(map(sum, word.rows)) == pytest.approx(1, abs=0.01) and len(word.rows) == len(word.rows[0]) == 4
    assert (await engine.generate(request)).text  # the worker lives on
    assert engine.counters.encoder_forwards == 1
    with pytest.raises(BadRequest, match="only answers about a picture"):
        await engine.explain(GenerationRequest(QUESTION), "a red dog")
    assert await engine.explain(request, "") == ()


async def test_replies_without_a_picture_stream_like_answers(engine: InferenceEngine) -> None:
    pieces, completion = await pieces_of(engine, GenerationRequest(QUESTION))
    assert "".join(pieces) == completion.text
    assert "picture" in completion.text and len(pieces) > 3
    assert (completion.confidence, completion.image, engine.counters.fusion_forwards) == (None, None, 0)


async def test_close_fails_who_waits(tiny_model: VisavisModel, tiny_processor: Processor, gate: Gate) -> None:
    engine = InferenceEngine(tiny_model, tiny_processor, max_rows=1)
    request = GenerationRequest(QUESTION, (), engine.add_image(drawn_picture()))
    running = asyncio.ensure_future(engine.generate(request))
    await gate.wait()
    waiting = asyncio.ensure_future(engine.generate(request))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    await asyncio.sleep(0.05)
    gate.open.set()
    await closing
    assert (await running).finish_reason is FinishReason.CANCELLED
    with pytest.raises(ModelError, match="shutting down"):
        await waiting
    with pytest.raises(ModelError, match="shutting down"):
        await engine.generate(request)


async def test_warming_up_leaves_nothing_behind(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    with InferenceEngine(tiny_model, tiny_processor, max_new_tokens=6) as cold:
        expected = await cold.generate(GenerationRequest("what is it?", (), cold.add_image(drawn_picture())))
    with InferenceEngine(tiny_model, tiny_processor, max_new_tokens=6) as warm:
        warm.warm_up()
        assert warm.counters == EngineCounters() and not warm.running
        assert await warm.generate(GenerationRequest("what is it?", (), warm.add_image(drawn_picture()))) == expected
