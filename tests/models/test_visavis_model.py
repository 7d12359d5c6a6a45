"""The model itself: cached decoding, masks, gates, saving."""

import pytest
import tiny_checkpoint
import torch
from torch import Tensor

from visavis.models.config import ModelConfig
from visavis.models.image_features import ImageFeatures
from visavis.models.kv_cache import KeyValue
from visavis.models.processor import Processor
from visavis.models.visavis_model import Memory, VisavisModel


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def memory_of(model: VisavisModel, pixels: Tensor, **inputs: Tensor) -> Memory:
    with torch.inference_mode():
        return model.fuse(model.image_state(model.encode_image(pixels)), **inputs)


def logits_of(model: VisavisModel, memory: Memory, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.decode(ids, memory)


@pytest.fixture
def questions(tiny_processor: Processor) -> dict[str, Tensor]:
    return dict(tiny_processor.encode_questions([("what color is the dog?", ()), ("is it?", ())]))


def test_cached_steps_give_the_logits_of_one_pass(
    tiny_model: VisavisModel, questions: dict[str, Tensor], pixels: Tensor
) -> None:
    memory = memory_of(tiny_model, pixels, **questions)
    ids = torch.tensor([[1, 5, 9, 7, 30], [1, 8, 8, 6, 11]])
    whole = logits_of(tiny_model, memory, ids)
    cache = tiny_model.new_cache(2)
    with torch.inference_mode():
        pieces = [tiny_model.decode(part, memory, cache) for part in (ids[:, :2], ids[:, 2:3], ids[:, 3:])]
    torch.testing.assert_close(torch.cat(pieces, 1), whole)


def test_rows_that_share_a_memory_get_what_they_would_get_alone(
    tiny_model: VisavisModel, questions: dict[str, Tensor], pixels: Tensor
) -> None:
    memory = memory_of(tiny_model, pixels, **questions)
    assert memory.mask is not None
    ids = torch.randint(3, 30, (6, 4), generator=torch.Generator().manual_seed(2))
    alone = logits_of(tiny_model, memory.rows(torch.tensor([0, 0, 0, 1, 1, 1])), ids)
    torch.testing.assert_close(logits_of(tiny_model, memory, ids), alone)


def test_rows_and_padding_do_not_touch_a_row(
    tiny_model: VisavisModel, tiny_processor: Processor, pixels: Tensor
) -> None:
    together = dict(tiny_processor.encode_questions([("is it?", ()), ("what color is the dog in the picture?", ())]))
    alone = dict(tiny_processor.encode_question("is it?"))
    ids = torch.tensor([[1, 5, 9]])
    batched = logits_of(tiny_model, memory_of(tiny_model, pixels, **together), ids.repeat(2, 1))
    torch.testing.assert_close(batched[:1], logits_of(tiny_model, memory_of(tiny_model, pixels[:1], **alone), ids))


def test_closed_gates_make_the_fusion_text_only(tiny_processor: Processor, pixels: Tensor) -> None:
    model = tiny_checkpoint.tiny_model(tiny_processor)
    question = tiny_processor.encode_question("what is it?")

    def fused(row: int) -> Tensor:
        image = model.image_state(model.encode_image(pixels[row : row + 1]))
        states = model.encoder.read(question["input_ids"], question["attention_mask"], question["token_type_ids"])
        return model.encoder.fuse(image, states, question["attention_mask"]).states

    with torch.inference_mode():
        assert not torch.allclose(fused(0), fused(1))
        for layer in model.encoder.fusion.layers:
            layer.cross_gate.zero_()
        torch.testing.assert_close(fused(0), fused(1))


def test_a_masked_patch_cannot_be_seen(tiny_model: VisavisModel, questions: dict[str, Tensor]) -> None:
    features = torch.randn(2, 17, 24, generator=torch.Generator().manual_seed(2))
    changed = features.clone()
    changed[:, 5] += 3
    mask = torch.ones(2, 17, dtype=torch.bool)
    mask[:, 5] = False
    ids = torch.tensor([[1, 5], [1, 6]])
    with torch.inference_mode():
        first, second = (
            tiny_model.decode(ids, tiny_model.fuse(tiny_model.image_state(item), **questions, patch_mask=mask))
            for item in (ImageFeatures(features), ImageFeatures(changed))
        )
        torch.testing.assert_close(first, second)
        unmasked = tiny_model.decode(ids, tiny_model.fuse(tiny_model.image_state(ImageFeatures(changed)), **questions))
    assert not torch.allclose(second, unmasked)


def test_a_cache_refuses_more_than_it_holds(tiny_model: VisavisModel) -> None:
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
        ModelConfig(fusion={"hidden_size": 32}, decoder={"hidden_size": 64})
    with pytest.raises(ValueError, match="kind must be one of"):
        ModelConfig(fusion={"kind": "telepathy"})
