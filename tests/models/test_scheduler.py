"""Many people at once: the same tokens in any company, and failures that stay where they are."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from typing import cast

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_checkpoint import drawn_picture, until, with_generate

from visavis.models.admission import Admission
from visavis.models.decode_batch import DecodeBatch
from visavis.models.engine import InferenceEngine
from visavis.models.engine_jobs import Job
from visavis.models.errors import BadImage, ModelError
from visavis.models.generation import Completion, FinishReason, GenerationRequest, SamplingParameters
from visavis.models.handover import Handover, Prepared
from visavis.models.image_features import ImageFeatures
from visavis.models.image_states import Encoding
from visavis.models.images import decode_picture
from visavis.models.kv_cache import KeyValue
from visavis.models.processor import Processor
from visavis.models.visavis_model import ImageState, Memory, VisavisModel

QUESTIONS = ("what color is the dog?", "is it?", "describe the picture in one word, what is it?")
COLORS = ("red", "blue", "green")
LONGEST = 10
Step = Callable[[DecodeBatch, Sequence[int]], torch.Tensor]
Reference = Callable[[str, str, int], str]
Visitor = tuple[str, str, int, int, int]
visitors = st.tuples(
    st.sampled_from(COLORS), st.sampled_from(QUESTIONS), st.integers(0, 5), st.integers(0, 6), st.integers(0, 12)
)


@pytest.fixture
def one_row(tiny_model: VisavisModel, tiny_processor: Processor) -> InferenceEngine:
    return InferenceEngine(tiny_model, tiny_processor, max_rows=1)


def slower(step: Step) -> Step:
    """So that an answer still runs when others come."""

    def slow(batch: DecodeBatch, tokens: Sequence[int]) -> torch.Tensor:
        time.sleep(0.02)
        return step(batch, tokens)

    return slow


def forced(tokens: int) -> SamplingParameters:
    return SamplingParameters(max_new_tokens=tokens, min_new_tokens=tokens)


def sampling(number: int) -> SamplingParameters:
    """Every other visitor is greedy."""
    chance = {"temperature": 1.2, "seed": number, "top_k": 30} if number % 2 else {}
    return SamplingParameters(max_new_tokens=LONGEST, **chance)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def reference(tiny_model: VisavisModel, tiny_processor: Processor) -> Reference:
    model, processor = with_generate(tiny_model), tiny_processor

    @cache
    def answer(color: str, question: str, number: int) -> str:
        """From transformers' `generate`, alone."""
        chosen = sampling(number)
        options = {"do_sample": False}
        if not chosen.greedy:
            options = {"do_sample": True, "temperature": chosen.temperature, "top_k": chosen.top_k}  # type: ignore[dict-item]
        pixels = processor.pixel_values(decode_picture(drawn_picture(color)))
        torch.manual_seed(number)
        inputs = processor.encode_question(question)
        ids = model.generate(**inputs, pixel_values=pixels, max_new_tokens=LONGEST, **options)
        return processor.decode_answer(ids[0]).replace("\ufffd", "").strip()

    return answer


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(visitors, max_size=14), st.sampled_from([1, 3, 32]), st.sampled_from([0, 1, 2, 3]))
async def test_answers_equal_generate_in_any_company(
    tiny_model: VisavisModel,
    tiny_processor: Processor,
    reference: Reference,
    schedule: list[Visitor],
    max_rows: int,
    preparing: int,
) -> None:
    """Each visitor asks about a picture, after a pause, and leaves after so many pieces."""

    async def visit(engine: InferenceEngine, visitor: Visitor) -> str | None:
        color, question, number, pause, patience = visitor
        request = GenerationRequest(question, (), engine.add_image(drawn_picture(color)), sampling=sampling(number))
        await asyncio.sleep(pause / 1000)
        async with contextlib.aclosing(engine.stream(request)) as chunks:
            async for chunk in chunks:
                patience -= bool(chunk.text)
                if chunk.completion is not None:
                    return chunk.completion.text
                if patience < 0:
                    break
        return None

    with InferenceEngine(tiny_model, tiny_processor, max_rows=max_rows, preparing=preparing) as engine:
        together = await asyncio.gather(*(visit(engine, visitor) for visitor in schedule))
        await until(lambda: not engine.running)
        counters = replace(engine.counters)
    for visitor, text in zip(schedule, together, strict=True):
        assert text is None or text == reference(*visitor[:3])
    assert counters.encoder_forwards == counters.image_misses == len({color for color, *_ in schedule})
    assert counters.image_hits + counters.image_misses == len(schedule)
    assert counters.rows_freed == counters.fusion_forwards == len(schedule)
    assert counters.completed + counters.cancelled == len(schedule)
    assert counters.decode_steps <= (LONGEST + 1) * len(schedule)


async def test_a_crowd_takes_the_steps_of_its_longest_answer(engine: InferenceEngine) -> None:
    """Eight conversations of three turns about a picture each, in answers of forced lengths."""
    lengths = [2, 11, 5, 8]

    async def converse(person: int) -> None:
        image = engine.add_image(drawn_picture(size=(40, 30 + person)))
        for turn in range(3):
            length = lengths[(person + turn) % 4]
            forced = SamplingParameters(max_new_tokens=length, min_new_tokens=length)
            completion = await engine.generate(GenerationRequest(QUESTIONS[turn], (), image, sampling=forced))
            assert (completion.output_tokens, completion.finish_reason) == (length, FinishReason.LENGTH)

    engine._line.max_length = 8
    await asyncio.gather(*(converse(person) for person in range(8)))
    counters = engine.counters
    assert (counters.encoder_forwards, counters.fusion_forwards, counters.completed) == (8, 24, 24)
    longest_chain = max(sum(lengths[(person + turn) % 4] for turn in range(3)) for person in range(4))
    assert counters.decode_steps <= longest_chain + counters.fusion_forwards


async def test_a_poisoned_row_fails_alone(
    engine: InferenceEngine, tiny_model: VisavisModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = engine.add_image(drawn_picture())
    expected = await engine.generate(GenerationRequest(QUESTIONS[0], (), image))
    fuse, calls = tiny_model.fuse, count(1)

    def second_is_spoiled(*arguments: torch.Tensor) -> Memory:
        number = next(calls)
        memory = fuse(*arguments)  # type: ignore[arg-type]
        if number != 2:
            return memory
        return Memory(tuple(KeyValue(layer.key * torch.nan, layer.value) for layer in memory.layers), memory.mask)

    monkeypatch.setattr(tiny_model, "fuse", second_is_spoiled)
    asked = (engine.generate(GenerationRequest(QUESTIONS[0], (), image)) for _ in range(3))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    (failure,) = (answer for answer in answers if isinstance(answer, ModelError))
    assert failure.code == "model_error"
    assert [answer.text for answer in answers if isinstance(answer, Completion)] == [expected.text] * 2
    assert (engine.counters.failed, engine.counters.rows_freed, engine.running) == (1, 4, 0)


async def test_a_step_that_breaks_costs_the_newest_row(
    engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    request = GenerationRequest(QUESTIONS[0], (), engine.add_image(drawn_picture()))
    expected = await engine.generate(request)
    step = DecodeBatch.step

    def for_two(batch: DecodeBatch, tokens: Sequence[int]) -> torch.Tensor:
        if len(tokens) > 2:
            raise torch.OutOfMemoryError("no memory for a third row")
        return step(batch, tokens)

    monkeypatch.setattr(DecodeBatch, "step", for_two)
    answers = await asyncio.gather(*(engine.generate(request) for _ in range(3)), return_exceptions=True)
    (newest,) = (answer for answer in answers if isinstance(answer, ModelError))
    assert str(newest) == "the model failed on this question"
    assert [answer.text for answer in answers if isinstance(answer, Completion)] == [expected.text] * 2
    assert (await engine.generate(request)).text == expected.text
    assert "no memory for a third row" in caplog.text


async def test_who_waits_learns_the_position(one_row: InferenceEngine) -> None:
    with one_row as engine:
        image = engine.add_image(drawn_picture())

        async def positions(number: int) -> list[int]:
            chunks = [chunk async for chunk in engine.stream(GenerationRequest(f"what is it {number}?", (), image))]
            assert all(not chunk.text for chunk in chunks if chunk.position)
            return [chunk.position for chunk in chunks if chunk.position is not None]

        told = await asyncio.gather(*(positions(number) for number in range(4)))
    assert [seen[-1:] for seen in told[1:]] == [[1]] * 3
    for seen in told:
        assert seen == sorted(set(seen), reverse=True)
    assert max(told[3]) >= 3


async def test_a_deadline_in_mid_answer_keeps_what_was_said(engine: InferenceEngine) -> None:
    image = engine.add_image(drawn_picture())
    request = GenerationRequest(QUESTIONS[0], (), image, deadline_s=0.2)
    step = DecodeBatch.step

    def slowly(batch: DecodeBatch, tokens: Sequence[int]) -> torch.Tensor:
        asyncio.run(asyncio.sleep(0.05))
        return step(batch, tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecodeBatch, "step", slowly)
        late, whole = await asyncio.gather(engine.generate(request), engine.generate(replace(request, deadline_s=None)))
    assert late.finish_reason is FinishReason.CANCELLED
    assert whole.finish_reason is not FinishReason.CANCELLED and whole.text.startswith(late.text)
    assert engine.counters.rows_freed == 2


@pytest.mark.parametrize("preparing", [1, 2])
async def test_running_answers_do_not_wait_for_pictures(
    tiny_model: VisavisModel, tiny_processor: Processor, preparing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every worker held by a picture, whoever talks about another one is answered."""
    first, *others = (drawn_picture(size=(40, 30 + number)) for number in range(1 + preparing))
    reached, opened, encode = threading.Semaphore(0), threading.Event(), Encoding.advance

    def held(encoding: Encoding) -> ImageState | None:
        reached.release()
        assert opened.wait(60)
        return encode(encoding)

    step = DecodeBatch.step

    def slowly(batch: DecodeBatch, tokens: Sequence[int]) -> torch.Tensor:
        time.sleep(0.02)  # so that the first answer still runs when the other pictures come
        return step(batch, tokens)

    with InferenceEngine(tiny_model, tiny_processor, preparing=preparing) as engine:
        await engine.generate(GenerationRequest(QUESTIONS[0], (), engine.add_image(first)))
        monkeypatch.setattr(Encoding, "advance", held)
        monkeypatch.setattr(DecodeBatch, "step", slowly)
        about_first = GenerationRequest(QUESTIONS[0], (), engine.add_image(first), sampling=forced(24))
        running = asyncio.create_task(engine.generate(about_first))
        await until(lambda: engine._scheduler.running > 0)
        asked = [GenerationRequest(QUESTIONS[0], (), engine.add_image(other)) for other in others]
        waiting = [asyncio.create_task(engine.generate(request)) for request in asked]
        for _ in others:
            assert await asyncio.to_thread(reached.acquire, timeout=60)
        assert not running.done()
        assert (await running).output_tokens == 24
        assert not any(task.done() for task in waiting)
        opened.set()
        await asyncio.gather(*waiting)


async def test_two_pictures_are_encoded_at_once_and_neither_of_them_twice(
    engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    met, encode = threading.Barrier(2), Encoding.advance
    begun: list[Encoding] = []

    def meeting(encoding: Encoding) -> ImageState | None:
        if encoding not in begun:
            begun.append(encoding)
            met.wait(60)  # both are in hand, or nothing goes on
        return encode(encoding)

    monkeypatch.setattr(Encoding, "advance", meeting)
    images = [engine.add_image(drawn_picture(size=(40, 30 + number))) for number in range(2)]
    asked = [GenerationRequest(question, (), image) for question in QUESTIONS[:2] for image in images]
    await asyncio.gather(*map(engine.generate, asked))
    assert sorted(encoding.look.sha256 for encoding in begun) == sorted(images)
    assert (engine.counters.encoder_forwards, engine.counters.image_hits) == (2, 2)


async def test_one_worker_steps_between_the_slices_of_a_picture(
    tiny_model: VisavisModel, tiny_processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless more people wait for pictures than get words."""
    engine = InferenceEngine(tiny_model, tiny_processor, preparing=0)
    log: list[str] = []
    step, encode = DecodeBatch.step, Encoding.advance

    def logged_step(batch: DecodeBatch, tokens: Sequence[int]) -> torch.Tensor:
        log.append("step")
        time.sleep(0.05)  # so that the first answer still runs when the second question comes
        return step(batch, tokens)

    def logged_encode(encoding: Encoding) -> ImageState | None:
        log.append("slice")
        return encode(encoding)

    monkeypatch.setattr(DecodeBatch, "step", logged_step)
    monkeypatch.setattr(Encoding, "advance", logged_encode)
    first, second = (engine.add_image(drawn_picture(size=(40, 30 + number))) for number in range(2))
    forced = SamplingParameters(max_new_tokens=12, min_new_tokens=12)
    running = asyncio.create_task(engine.generate(GenerationRequest(QUESTIONS[0], (), first, sampling=forced)))
    await until(lambda: engine.running > 0)
    log.clear()
    await engine.generate(GenerationRequest(QUESTIONS[0], (), second))
    assert log.count("slice") == 2
    assert ["slice", "slice"] not in [log[at : at + 2] for at in range(len(log))]
    assert (await running).output_tokens == 12
    engine.close()


async def test_who_came_after_a_picture_that_is_in_hand_comes_after_it(
    tiny_model: VisavisModel, tiny_processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = InferenceEngine(tiny_model, tiny_processor, preparing=0)
    log: list[str] = []
    asked, encode, fuse = threading.Event(), Encoding.advance, Admission._fuse

    def held(encoding: Encoding) -> ImageState | None:
        asked.wait(60)
        log.append("slice")
        return encode(encoding)

    def logged_fuse(admission: Admission, request: GenerationRequest, state: ImageState) -> tuple[Memory, int]:
        log.append("known" if request.image == known else "new")
        return fuse(admission, request, state)

    known, new = (engine.add_image(drawn_picture(size=(40, 30 + number))) for number in range(2))
    await engine.generate(GenerationRequest(QUESTIONS[0], (), known))
    monkeypatch.setattr(DecodeBatch, "step", slower(DecodeBatch.step))
    running = asyncio.create_task(engine.generate(GenerationRequest(QUESTIONS[0], (), known, sampling=forced(24))))
    await until(lambda: engine._scheduler.running > 0)
    monkeypatch.setattr(Encoding, "advance", held)
    monkeypatch.setattr(Admission, "_fuse", logged_fuse)
    requests = [GenerationRequest(QUESTIONS[0], (), image) for image in (new, known)]
    waiting = [asyncio.create_task(engine.generate(request)) for request in requests]
    await until(lambda: engine.waiting == 2)
    asked.set()
    await asyncio.gather(running, *waiting)
    assert log == ["slice", "slice", "new", "known"]
    engine.close()


@pytest.mark.parametrize("preparing", [1, 2])
def test_a_step_waits_for_two_rounds_of_each_who_prepares_or_for_somebody_new(
    preparing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.models.handover._LONGEST_PAUSE_S", 60)
    handover = Handover(4, lambda: None)
    handover.prepares(preparing)
    taken = threading.Semaphore(0)

    def take_steps() -> None:
        for _ in range(3):
            handover.keep_pace()
            taken.release()

    thread = threading.Thread(target=take_steps)
    thread.start()
    for _ in range(2 * preparing - 1):
        handover.round_over()
    assert not taken.acquire(timeout=0.1)
    handover.round_over()
    assert taken.acquire(timeout=60)
    assert not taken.acquire(timeout=0.1)
    assert handover.reserve()
    handover.put(Prepared(cast("Job", None), cast("Memory", None), 0, 0))
    assert taken.acquire(timeout=60)
    handover.take_all()
    handover.prepares(-preparing)
    thread.join(60)
    assert not thread.is_alive()


async def test_a_picture_that_nobody_wants_any_more_is_not_encoded(
    engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one person's long answer runs, others show pictures and leave at once: no more are begun than workers have
    in hand."""
    monkeypatch.setattr(DecodeBatch, "step", slower(DecodeBatch.step))
    image = engine.add_image(drawn_picture())
    forced = SamplingParameters(max_new_tokens=12, min_new_tokens=12)
    running = asyncio.create_task(engine.generate(GenerationRequest(QUESTIONS[0], (), image, sampling=forced)))
    await until(lambda: engine.running > 0)
    opened, encode = threading.Event(), Encoding.advance
    monkeypatch.setattr(Encoding, "advance", lambda encoding: opened.wait(60) and encode(encoding))
    for number in range(6):
        other = engine.add_image(drawn_picture(size=(41 + number, 30)))
        stream = engine.stream(GenerationRequest(QUESTIONS[0], (), other))
        asked = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
    opened.set()
    assert (await running).output_tokens == 12
    await until(lambda: not engine.running and not engine.waiting)
    assert engine.counters.cancelled == 6
    assert engine.counters.fusion_forwards == 1
    assert engine.counters.encoder_forwards <= 1 + 2


async def test_pictures_are_encoded_together_and_a_broken_one_fails_alone(
    tiny_model: VisavisModel, tiny_processor: Processor, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwards: list[int] = []
    encode = tiny_model.encode_image

    def counted(pixels: torch.Tensor) -> ImageFeatures:
        forwards.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(tiny_model, "encode_image", counted)
    with InferenceEngine(tiny_model, tiny_processor, preparing=0, pictures_together=8) as engine:
        images = [engine.add_image(drawn_picture(color)) for color in COLORS]
        broken = engine.add_image(drawn_picture()[:-40])
        asked = [
            GenerationRequest(QUESTIONS[0], (), image, sampling=sampling(0)) for image in [*images, broken, images[0]]
        ]
        *answers, again = await asyncio.gather(*map(engine.generate, asked), return_exceptions=True)
        assert isinstance(answers.pop(), BadImage)
        for color, answer in zip(COLORS, [*answers, again], strict=False):
            assert isinstance(answer, Completion) and answer.text == reference(color, QUESTIONS[0], 0)
        assert engine.counters.encoder_forwards == engine.counters.image_misses == 3
        assert engine.counters.image_hits == 1
    assert max(forwards) > 1 and sum(forwards) == 3
