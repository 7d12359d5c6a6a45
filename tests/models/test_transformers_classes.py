"""transformers' face of the model: its Auto classes, `generate`, labels, saving, and towers of its own."""

from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoint
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from visavis.models import register
from visavis.models.config import ModelConfig
from visavis.models.loading import load_model
from visavis.models.processor import MAX_TEXT_TOKENS, Processor
from visavis.models.prompt import render
from visavis.models.training.export import export_checkpoint
from visavis.models.transformers_classes import VisavisConfig
from visavis.models.transformers_generation import NoStutter
from visavis.models.transformers_processors import VisavisProcessor
from visavis.models.visavis_model import VisavisModel

PIXELS = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
LONG = (("what is it? " * 40, "a dog " * 30),)


def test_generate_equals_greedy_steps(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    questions = tiny_processor.encode_questions([("what color is the dog?", ()), ("is it?", ())])
    generating = tiny_checkpoint.with_generate(tiny_model)
    generated = generating.generate(**questions, pixel_values=PIXELS, max_new_tokens=8, do_sample=False)
    ids = torch.ones(2, 1, dtype=torch.long)
    with torch.inference_mode():
        memory = tiny_model.fuse(tiny_model.image_state(tiny_model.encode_image(PIXELS)), **questions)
        while ids.shape[1] < generated.shape[1]:
            scores = NoStutter(tiny_model.config.decoder.first_piece)(ids, tiny_model.decode(ids, memory)[:, -1])
            ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], 1)
    real = generated != tiny_model.config.decoder.pad_token_id
    assert torch.equal(ids[real], generated[real])


@pytest.mark.parametrize("options", [{"do_sample": False}, {"num_beams": 3}, {"do_sample": True, "top_k": 9}])
def test_generate_decodes_one_new_token_a_step(
    tiny_model: VisavisModel, tiny_processor: Processor, options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = tiny_processor.encode_questions([("what color is the dog?", ()), ("is it?", ())])
    model = tiny_checkpoint.with_generate(tiny_model)
    lengths: list[int] = []
    decode = model.decoder.forward

    def counted(ids: torch.Tensor, *arguments: Any) -> torch.Tensor:
        lengths.append(ids.shape[1])
        return decode(ids, *arguments)

    monkeypatch.setattr(model.decoder, "forward", counted)
    answers = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        options = {**options, "use_cache": use_cache, "max_new_tokens": 8}
        answers.append(model.generate(**questions, pixel_values=PIXELS, **options))
    assert torch.equal(*answers)
    steps = len(lengths) // 2
    assert lengths[:steps] == [1] * steps
    assert lengths[steps:] == list(range(1, steps + 1))


def test_gradients_reach_every_trained_part(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    model = tiny_checkpoint.with_generate(tiny_model)
    inputs = tiny_processor.encode_questions([("what is it?", ()), ("is it the dog?", (("what is it?", "a dog"),))])
    loss = model(**inputs, pixel_values=PIXELS, labels=torch.tensor([[9, 8, 2], [7, 2, -100]])).loss
    loss.backward()
    untouched = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    assert untouched == {"encoder.vision.tower.embeddings.mask_token"}


def test_an_exported_checkpoint_is_read_by_the_auto_classes(
    tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path
) -> None:
    export_checkpoint(tiny_model, tiny_processor, tmp_path)
    assert {file.name for file in tmp_path.glob("*.safetensors")} == {
        f"{part}.safetensors" for part in ("vision", "text", "joint")
    }
    register()
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, VisavisConfig)
    assert ModelConfig.from_dict(config.to_dict()) == tiny_model.config
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    for name, value in tiny_model.state_dict().items():
        lost = 1e-2 if name.startswith("encoder.vision.tower.") else 1e-3  # 8 bits, 16 bits
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-3, atol=lost)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor.batch_decode([processor.plain().encode_answer("a naïve dog!")]) == ["a naïve dog!"]


def test_what_transformers_saved_loads_too(tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path) -> None:
    tiny_checkpoint.with_generate(tiny_model).save_pretrained(tmp_path)
    VisavisProcessor.of(tiny_processor).save_pretrained(tmp_path)
    loaded, _ = load_model(tmp_path, "cpu")
    assert type(loaded) is VisavisModel
    assert loaded.config == tiny_model.config
    for name, value in tiny_model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value)


@pytest.mark.parametrize("saved_by", ["us", "transformers"])
def test_towers_of_other_kinds_are_transformers_own(tiny_processor: Processor, tmp_path: Path, saved_by: str) -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    names = {"vocab_size": len(tiny_processor.questions), "max_position_embeddings": 130}
    config = ModelConfig(
        vision={**sizes, "model_type": "clip_vision_model", "image_size": 28, "patch_size": 7},
        text={**sizes, **names, "model_type": "electra", "embedding_size": 16},
        fusion={"hidden_size": 24, "num_attention_heads": 2},
        decoder={"hidden_size": 24, "num_attention_heads": 2, "vocab_size": len(tiny_processor.answers)},
    )
    model = VisavisModel(config).eval()
    if saved_by == "us":
        export_checkpoint(model, tiny_processor, tmp_path)
    else:
        tiny_checkpoint.with_generate(model).save_pretrained(tmp_path)
        VisavisProcessor.of(tiny_processor).save_pretrained(tmp_path)
    loaded, _ = load_model(tmp_path, "cpu")
    question = tiny_processor.encode_question("is it?", (("what is it?", "a dog"),))
    first, second = (logits(item, question) for item in (model, loaded))
    torch.testing.assert_close(first, second, rtol=0.05, atol=0.02)  # 8 and 16 bits
    for name, value in model.named_buffers():  # some are in no checkpoint
        assert torch.equal(loaded.get_buffer(name), value), name


def logits(model: VisavisModel, question: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        memory = model.fuse(model.image_state(model.encode_image(PIXELS[:1])), **question)
        return model.decode(torch.tensor([[1, 5, 9]]), memory)


@pytest.mark.parametrize(
    "batch",
    [[("What IS it?", ())], [("is it?", ()), ("a", LONG)], [("what is it? " * 60, LONG), ("Ünïcode 猫", LONG * 3)]],
    ids=["alone", "padded", "cut"],
)
def test_texts_are_read_as_transformers_reads_them(
    tiny_processor: Processor, batch: list[tuple[str, tuple[tuple[str, str], ...]]]
) -> None:
    ours = tiny_processor.encode_questions(batch)
    texts, before = (list(part) for part in zip(*(render(*item) for item in batch), strict=True))
    tokenizer = VisavisProcessor.of(tiny_checkpoint.tiny_processor()).tokenizer
    options = {"max_length": MAX_TEXT_TOKENS, "truncation": "longest_first", "padding": True}
    theirs = tokenizer(
        texts, before if any(before) else None, return_token_type_ids=True, return_tensors="pt", **options
    )
    assert ours.keys() == dict(theirs).keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_the_processor_can_be_called_as_transformers_calls_one(tiny_processor: Processor) -> None:
    picture = Image.new("L", (50, 20), 90)
    features = VisavisProcessor.of(tiny_checkpoint.tiny_processor())(images=picture, text=["is it?", "what color?"])
    assert torch.equal(features["pixel_values"], tiny_processor.pixel_values(picture))
    assert features["input_ids"].shape == features["token_type_ids"].shape == features["attention_mask"].shape
    assert len(features["input_ids"]) == 2
