"""The model itself: cached decoding, masks, gates, saving."""

from pathlib import Path

import pytest
import tiny_checkpoint
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from visavis.models import register
from visavis.models.config import VisavisConfig
from visavis.models.kv_cache import KeyValue
from visavis.models.processor import VisavisProcessor
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import Memory, VisavisForConditionalGeneration


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def memory_of(model: VisavisForConditionalGeneration, pixels: Tensor, **inputs: Tensor) -> Memory:
    with torch.inference_mode():
        return model.fuse(model.image_state(model.encode_image(pixels)), **inputs)


def logits_of(model: VisavisForConditionalGeneration, memory: Memory, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.decode(ids, memory)


@pytest.fixture
def questions(tiny_processor: VisavisProcessor) -> dict[str, Tensor]:
    return dict(tiny_processor.encode_questions([("what color is the dog?", ()), ("is it?", ())]))


def test_cached_steps_give_the_logits_of_one_pass(
    tiny_model: VisavisForConditionalGeneration, questions: dict[str, Tensor], pixels: Tensor
) -> None:
    memory = memory_of(tiny_model, pixels, **questions)
    ids = torch.tensor([[1, 5, 9, 7, 30], [1, 8, 8, 6, 11]])
    whole = logits_of(tiny_model, memory, ids)
    cache = tiny_model.new_cache(2)
    with torch.inference_mode():
        pieces = [tiny_model.decode(part, memory, cache) for part in (ids[:, :2], ids[:, 2:3], ids[:, 3:])]
    torch.testing.assert_close(torch.cat(pieces, 1), whole)


def test_rows_that_share_a_memory_get_what_they_would_get_alone(
    tiny_model: VisavisForConditionalGeneration, questions: dict[str, Tensor], pixels: Tensor
) -> None:
    memory = memory_of(tiny_model, pixels, **questions)
    assert memory.mask is not None
    ids = torch.randint(3, 30, (6, 4), generator=torch.Generator().manual_seed(2))
    alone = logits_of(tiny_model, memory.rows(torch.tensor([0, 0, 0, 1, 1, 1])), ids)
    torch.testing.assert_close(logits_of(tiny_model, memory, ids), alone)


def test_generate_equals_greedy_steps(
    tiny_model: VisavisForConditionalGeneration, questions: dict[str, Tensor], pixels: Tensor
) -> None:
    generated = tiny_model.generate(**questions, pixel_values=pixels, max_new_tokens=8, do_sample=False)
    memory = memory_of(tiny_model, pixels, **questions)
    ids = torch.ones(2, 1, dtype=torch.long)
    while ids.shape[1] < generated.shape[1]:
        ids = torch.cat([ids, logits_of(tiny_model, memory, ids)[:, -1:].argmax(-1)], 1)
    real = generated != tiny_model.config.decoder.pad_token_id
    assert torch.equal(ids[real], generated[real])


def test_rows_and_padding_do_not_touch_a_row(
    tiny_model: VisavisForConditionalGeneration, tiny_processor: VisavisProcessor, pixels: Tensor
) -> None:
    together = dict(tiny_processor.encode_questions([("is it?", ()), ("what color is the dog in the picture?", ())]))
    alone = dict(tiny_processor.encode_question("is it?"))
    ids = torch.tensor([[1, 5, 9]])
    batched = logits_of(tiny_model, memory_of(tiny_model, pixels, **together), ids.repeat(2, 1))
    torch.testing.assert_close(batched[:1], logits_of(tiny_model, memory_of(tiny_model, pixels[:1], **alone), ids))


def test_closed_gates_make_the_fusion_text_only(tiny_processor: VisavisProcessor, pixels: Tensor) -> None:
    model = tiny_checkpoint.tiny_model(tiny_processor)
    question = tiny_processor.encode_question("what is it?")

    def fused(row: int) -> Tensor:
        image = model.encoder.fusion.remember(model.encoder.image_projection(model.encode_image(pixels[row : row + 1])))
        states = model.encoder.read(question["input_ids"], question["attention_mask"], question["token_type_ids"])
        return model.encoder.fuse(image, states, question["attention_mask"])

    with torch.inference_mode():
        assert not torch.allclose(fused(0), fused(1))
        for layer in model.encoder.fusion.layers:
            layer.cross_gate.zero_()
        torch.testing.assert_close(fused(0), fused(1))


def test_a_masked_patch_cannot_be_seen(
    tiny_model: VisavisForConditionalGeneration, questions: dict[str, Tensor]
) -> None:
    features = torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(2))
    changed = features.clone()
    changed[:, 5] += 3
    mask = torch.ones(2, 17, dtype=torch.bool)
    mask[:, 5] = False
    ids = torch.tensor([[1, 5], [1, 6]])
    with torch.inference_mode():
        first, second = (
            tiny_model.decode(ids, tiny_model.fuse(tiny_model.image_state(item), **questions, patch_mask=mask))
            for item in (features, changed)
        )
        torch.testing.assert_close(first, second)
        unmasked = tiny_model.decode(ids, tiny_model.fuse(tiny_model.image_state(changed), **questions))
    assert not torch.allclose(second, unmasked)


def test_gradients_reach_every_trained_part(tiny_processor: VisavisProcessor, pixels: Tensor) -> None:
    model = tiny_checkpoint.tiny_model(tiny_processor)
    inputs = tiny_processor.encode_questions([("what is it?", ()), ("is it the dog?", (("what is it?", "a dog"),))])
    loss = model(**inputs, pixel_values=pixels, labels=torch.tensor([[9, 8, 2], [7, 2, -100]])).loss
    loss.backward()
    untouched = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    assert untouched == {"encoder.vision.tower.embeddings.mask_token"}


def test_an_exported_checkpoint_is_read_by_the_auto_classes(
    tiny_model: VisavisForConditionalGeneration, tiny_processor: VisavisProcessor, tmp_path: Path
) -> None:
    export_checkpoint(tiny_model, tiny_processor, tmp_path)
    assert {file.name for file in tmp_path.glob("*.safetensors")} == {
        f"{part}.safetensors" for part in ("vision", "text", "joint")
    }
    register()
    assert isinstance(AutoConfig.from_pretrained(tmp_path), VisavisConfig)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    for name, value in tiny_model.state_dict().items():
        lost = 1e-2 if name.startswith("encoder.vision.tower.") else 1e-3  # 8 bits, 16 bits
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-3, atol=lost)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor.decode_answer(processor.answer_tokenizer("a naïve dog!")["input_ids"]) == "a naïve dog!"


def test_a_cache_refuses_more_than_it_holds(tiny_model: VisavisForConditionalGeneration) -> None:
    cache = tiny_model.new_cache(1, max_length=2)
    new = KeyValue(*torch.zeros(2, 1, 2, 3, 12))
    with pytest.raises(ValueError, match="the cache holds 2 positions, 3 are needed"):
        cache.write(0, new)
    cache.write(0, KeyValue(new.key[:, :, :2], new.value[:, :, :2]))
    cache.advance(2)
    cache.reset()
    assert cache.length == 0


def test_contradicting_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="fusion width 32 and decoder width 64 differ"):
        VisavisConfig(fusion={"hidden_size": 32}, decoder={"hidden_size": 64})
    with pytest.raises(ValueError, match="kind must be one of"):
        VisavisConfig(fusion={"kind": "telepathy"})
