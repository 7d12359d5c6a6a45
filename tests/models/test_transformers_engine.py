"""Other people's model families behind the face of ours: tiny checkpoints with random weights, saved and loaded."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_families
import torch
from langchain_core.messages import AIMessage, HumanMessage
from tiny_checkpoint import drawn_picture, until

from visavis.models.chat_model import VisavisChatModel
from visavis.models.errors import BadRequest, Busy, ModelError, TextTooLong, UnknownImage
from visavis.models.generation import FinishReason, GenerationRequest, Message, SamplingParameters, Shown
from visavis.models.model_server import open_engine
from visavis.models.transformers_engine import TransformersEngine
from visavis.models.transformers_loading import load_transformers_engine
from visavis.models.transformers_prompts import Prompts

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # transformers' own
QUESTION = "What color is it?"
NEED_TORCHVISION = {"mistral3"}


def load(folder: Path, **options: Any) -> TransformersEngine:
    return load_transformers_engine(str(folder), model_name="tiny", device="cpu", **options)


def question(image: str | None, **sampling: Any) -> GenerationRequest:
    return GenerationRequest(QUESTION, (), image, sampling=SamplingParameters(**{"max_new_tokens": 8, **sampling}))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_families.save("llava", tmp_path_factory.mktemp("llava"))


@pytest.fixture
def engine(llava: Path) -> Iterator[TransformersEngine]:
    with load(llava, max_queue=2) as engine:
        yield engine


@pytest.mark.parametrize("family", [family for family in tiny_families.FAMILIES if family not in NEED_TORCHVISION])
async def test_a_family_answers_as_its_own_generate_does(family: str, tmp_path: Path) -> None:
    folder = tiny_families.save(family, tmp_path)
    with load(folder) as engine:
        red, blue = engine.add_image(drawn_picture()), engine.add_image(drawn_picture("blue"))
        chunks = [chunk async for chunk in engine.stream(question(red))]
        other = await engine.generate(question(blue))
    done = chunks[-1].completion
    assert done is not None
    assert "".join(chunk.text for chunk in chunks) == done.text
    assert done.output_tokens == len(done.log_probabilities) <= 8
    assert 0 < (done.confidence or 0) <= 1
    assert done.log_probabilities != other.log_probabilities  # it looks
    model, processor = tiny_families.make(family)
    picture = tiny_families.opened(drawn_picture())
    inputs = Prompts(processor, model.config).make(question(red), lambda shown: picture).inputs
    with torch.inference_mode():
        said = model.train(False).generate(**inputs, max_new_tokens=8, do_sample=False, num_beams=1)[0]
    text = processor.tokenizer.decode(said, skip_special_tokens=True).replace("\ufffd", "").strip()
    assert text.endswith(done.text)


async def test_a_dialogue_is_written_with_the_checkpoints_own_template(engine: TransformersEngine) -> None:
    image = engine.add_image(drawn_picture())
    short = await engine.generate(question(image))
    history = (("What is this?", "A ball."),)
    long = await engine.generate(
        GenerationRequest(QUESTION, history, image, sampling=SamplingParameters(max_new_tokens=8))
    )
    words = "user: What is this?assistant: A ball."
    assert long.input_tokens - short.input_tokens == len(words)  # a byte is a token here
    alone = await engine.generate(question(None))
    assert alone.output_tokens > 0
    assert alone.image is None


async def test_all_pictures_are_looked_at_and_counted(engine: TransformersEngine) -> None:
    red, blue, green = (engine.add_image(drawn_picture(color)) for color in ("red", "blue", "green"))

    def asked(first: str) -> GenerationRequest:
        talk = (
            Message("user", (Shown(first), "What is this?")),
            Message("assistant", ("A ball.",)),
            Message("user", (Shown(green), QUESTION)),
        )
        return GenerationRequest(QUESTION, (), green, sampling=SamplingParameters(max_new_tokens=8), dialogue=talk)

    one, other = [await engine.generate(asked(first)) for first in (red, blue)]
    assert one.log_probabilities != other.log_probabilities
    assert (one.image, one.images, one.image_tokens) == (green, (red, green), 2 * 4)
    with pytest.raises(UnknownImage) as unknown:
        await engine.generate(asked("0" * 64))
    assert list(unknown.value.images) == ["0" * 64]
    assert "all pictures" in engine.told


def test_a_model_server_says_at_its_start_what_the_model_takes(llava: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_engine(["--model", f"hf:{llava}", "--name", "tiny"]):
        assert "tiny: it looks at all pictures of a conversation" in capsys.readouterr().err


async def test_an_answer_ends_where_the_model_can_read_no_more(tmp_path: Path) -> None:
    folder = tiny_families.save("llava", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    rewrite(folder, text_config=config["text_config"] | {"max_position_embeddings": 64})
    with load(folder) as engine:
        done = await engine.generate(question(None, max_new_tokens=500, min_new_tokens=500))
        assert done.input_tokens + done.output_tokens == 64
        assert done.finish_reason is FinishReason.LENGTH
        with pytest.raises(TextTooLong):
            await engine.generate(GenerationRequest("What is it? " * 10))


async def test_leaving_a_stream_stops_the_model(engine: TransformersEngine) -> None:
    left = asyncio.create_task(engine.generate(question(None, max_new_tokens=1_500, min_new_tokens=1_500)))
    await until(lambda: engine.running == 1, timeout_s=60)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    await until(lambda: engine.running == 0, timeout_s=60)
    assert engine.counters.cancelled == 1
    assert engine.counters.decode_steps < 1_500
    assert (await engine.generate(question(None))).output_tokens > 0


async def test_a_deadline_ends_an_answer(engine: TransformersEngine) -> None:
    request = GenerationRequest(QUESTION, deadline_s=0.0)
    assert (await engine.generate(request)).finish_reason is FinishReason.CANCELLED


async def test_sampling_stop_strings_and_limits_count(engine: TransformersEngine) -> None:
    sampled = {"temperature": 1.5, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1, "seed": 3, "min_new_tokens": 8}
    first, again = [await engine.generate(question(None, **sampled)) for _ in range(2)]
    assert first.text == again.text
    assert first.finish_reason is FinishReason.LENGTH
    assert (await engine.generate(question(None, **{**sampled, "seed": 4}))).text != first.text
    stop = first.text[2:4]
    stopped = await engine.generate(question(None, **sampled, stop=(stop,)))
    assert stopped.text == first.text[: first.text.index(stop)].rstrip()
    assert stopped.finish_reason is FinishReason.STOP


async def test_beams_are_refused_by_a_model_that_streams(engine: TransformersEngine) -> None:
    with pytest.raises(BadRequest, match="beams"):
        await engine.generate(question(None, beams=2))


async def test_too_many_questions_and_unknown_pictures_are_refused(engine: TransformersEngine) -> None:
    with pytest.raises(UnknownImage):
        await engine.generate(question("0" * 64))
    with pytest.raises(BadRequest):
        await engine.explain(question(None), "a ball")
    asked = [asyncio.create_task(engine.generate(question(None, min_new_tokens=8))) for _ in range(8)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert any(isinstance(answer, Busy) for answer in answers)
    assert engine.counters.rejected == sum(isinstance(answer, Busy) for answer in answers)


PARTS = tiny_families.template("<image>")
WORDS = (
    "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}{% if add_generation_prompt %}bot: {% endif %}"
)
PRINTS = WORDS.replace("m.role + ': ' + m.content", "m.content")


@pytest.mark.parametrize("template", [PARTS, WORDS, PRINTS], ids=["parts", "words", "prints"])
def test_a_template_of_the_tokenizers_own_will_do(template: str) -> None:
    model, processor = tiny_families.make("llava")
    processor.chat_template, processor.tokenizer = None, tiny_families.tokenizer()
    processor.tokenizer.chat_template = template
    picture = tiny_families.opened(drawn_picture())
    ids = Prompts(processor, model.config).make(question("a" * 64), lambda shown: picture).inputs["input_ids"][0]
    text = processor.tokenizer.decode(ids)
    assert text.count("<image>") == 4
    assert QUESTION in text and "type" not in text


async def test_a_model_that_only_looks_asks_for_a_picture(tmp_path: Path) -> None:
    with load(tiny_families.save("blip", tmp_path)) as engine:
        done = await engine.generate(question(None))
    assert "picture" in done.text.lower()
    assert engine.counters.decode_steps == 0


async def test_the_chat_model_speaks_through_it(engine: TransformersEngine) -> None:
    model = VisavisChatModel(engine=engine, max_tokens=8)
    block = {"type": "image", "base64": tiny_families.encoded(drawn_picture()), "mime_type": "image/png"}
    asked = HumanMessage([block, {"type": "text", "text": QUESTION}])
    answer = await model.ainvoke([asked, AIMessage("A ball."), HumanMessage("Is it red?")])
    assert answer.response_metadata["model_name"] == "tiny"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"), "cannot be loaded"),
        (lambda folder: rewrite(folder, model_type="their-own", auto_map={"AutoConfig": "x.X"}), "code of its own"),
        (lambda folder: rewrite(folder, model_type="bert"), "cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_a_sentence(tmp_path: Path, change: Any, words: str) -> None:
    folder = tiny_families.save("llava", tmp_path)
    change(folder)
    with pytest.raises(ModelError, match=words) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_unknown_numbers_of_bits_are_told(llava: Path) -> None:
    with pytest.raises(ModelError, match="4bit"):
        load_transformers_engine(f"{llava}#3bit", model_name="tiny", device="cpu")


@pytest.mark.filterwarnings("ignore")  # of kernels that this machine does without
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_fewer_bits_take_less_memory(bits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra `quantised` is not installed")
    for sizes in (tiny_families.TEXT, tiny_families.VISION):  # a block of 4 bits is 64 numbers wide
        for name, size in {"hidden_size": 128, "intermediate_size": 256}.items():
            monkeypatch.setitem(sizes, name, size)
    monkeypatch.setitem(tiny_families.TEXT, "head_dim", 32)
    folder = tiny_families.save("llava", tmp_path)
    bytes_held = []
    for place in (str(folder), f"{folder}#{bits}"):
        with load_transformers_engine(place, model_name="tiny", device="cpu") as engine:
            done = asyncio.run(engine.generate(question(engine.add_image(drawn_picture()))))
            assert 0 < done.output_tokens <= 8
            bytes_held.append(engine._model.get_memory_footprint())
    assert bytes_held[1] < 0.5 * bytes_held[0]


def test_missing_torchvision_is_told_by_name(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    try:
        folder = tiny_families.save("mistral3", tmp_path)
    except ImportError:  # as on a machine without torchvision: what somebody else saved
        folder = tiny_families.save("llava", tmp_path)
        rewrite(folder, "processor_config.json", processor_class="PixtralProcessor")
        with pytest.raises(ModelError, match=r"visavis\[vision\]"):
            load(folder)
        return
    with load(folder) as engine:
        image = engine.add_image(drawn_picture())
        assert asyncio.run(engine.generate(question(image))).output_tokens > 0


def rewrite(folder: Path, name: str = "config.json", **changes: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
