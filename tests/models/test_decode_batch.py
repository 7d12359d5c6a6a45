"""Rows that are decoded together give what each gives alone, whoever joins or leaves beside it."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from visavis.models.decode_batch import DecodeBatch
from visavis.models.kv_cache import KeyValue
from visavis.models.processor import Processor
from visavis.models.visavis_model import Memory, VisavisModel

QUESTIONS = ("is it?", "what color is the dog in the picture?", "describe the picture in one word.")


class Memories(list[Memory]):
    """With a short name in reports."""

    def __repr__(self) -> str:
        return "memories"


@pytest.fixture(scope="module")
def memories(tiny_model: VisavisModel, tiny_processor: Processor) -> Memories:
    """One of its own length for each question; the last hides half of the picture."""
    pixels = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    masks = (None, None, torch.arange(17)[None] < 9)
    with torch.inference_mode():
        return Memories(
            tiny_model.fuse(
                tiny_model.image_state(tiny_model.encode_image(picture[None])),
                **tiny_processor.encode_question(question),
                patch_mask=mask,
            )
            for picture, question, mask in zip(pixels, QUESTIONS, masks, strict=True)
        )


def alone(model: VisavisModel, memory: Memory, tokens: Sequence[int]) -> Tensor:
    """The logits after all of the tokens."""
    with torch.inference_mode():
        return model.decode(torch.tensor([tokens]), memory)[0, -1]


def spoiled(memory: Memory) -> Memory:
    layers = tuple(KeyValue(layer.key * torch.nan, layer.value) for layer in memory.layers)
    return Memory(layers, memory.mask)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["join", "leave", "step"]), st.integers(0, 99)), max_size=24))
def test_any_order_of_joining_and_leaving_gives_the_logits_of_one_pass(
    tiny_model: VisavisModel, memories: Memories, orders: list[tuple[str, int]]
) -> None:
    batch = DecodeBatch(tiny_model, max_rows=4)
    rows: list[tuple[Memory, list[int]]] = []
    for order, number in orders:
        if order == "join" and len(rows) < 4:
            batch.join(memories[number % 3])
            rows.append((memories[number % 3], [1]))
        elif order == "leave" and rows:
            batch.leave(number % len(rows))
            rows[number % len(rows)] = rows[-1]
            rows.pop()
        elif order == "step" and rows:
            with torch.inference_mode():
                logits = batch.step([tokens[-1] for _, tokens in rows])
            for row, (memory, tokens) in enumerate(rows):
                expected = alone(tiny_model, memory, tokens)
                torch.testing.assert_close(logits[row], expected, atol=5e-5, rtol=1e-4)  # sums in another order
                tokens.append(3 + (number + row) % 40)
    assert len(batch) == len(rows)


@torch.inference_mode()
def test_a_poisoned_row_spoils_neither_its_neighbours_nor_its_successor(
    tiny_model: VisavisModel, memories: Memories
) -> None:
    batch = DecodeBatch(tiny_model, max_rows=2)
    batch.join(memories[0])
    batch.join(spoiled(memories[1]))
    logits = batch.step([1, 1])
    torch.testing.assert_close(logits[0], alone(tiny_model, memories[0], [1]))
    assert logits[1].isnan().all()
    batch.leave(1)
    batch.join(memories[0])  # shorter than who was there before
    torch.testing.assert_close(batch.step([5, 1])[1], alone(tiny_model, memories[0], [1]))


@torch.inference_mode()
def test_a_full_batch_refuses(tiny_model: VisavisModel, memories: Memories) -> None:
    batch = DecodeBatch(tiny_model, max_rows=1)
    batch.join(memories[0])
    with pytest.raises(ValueError, match="1 rows, and all are taken"):
        batch.join(memories[1])
    assert len(batch) == 1


def test_what_a_long_memory_took_is_given_back(
    tiny_model: VisavisModel, memories: Memories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.models.decode_batch._ROUNDING", 1)
    monkeypatch.setattr("visavis.models.decode_batch._WORTH_KEEPING", 0.99)
    short, long = sorted(memories, key=lambda memory: memory.layers[0].key.shape[2])[:: len(memories) - 1]
    lengths = [memory.layers[0].key.shape[2] for memory in (short, long)]
    assert lengths[0] < lengths[1]
    batch = DecodeBatch(tiny_model, max_rows=4)
    with torch.inference_mode():
        for memory in (long, short):
            batch.join(memory)
        assert batch._memory.keys.shape[3] == lengths[1]
        batch.leave(0)
        assert batch._memory.keys.shape[3] == lengths[0]
        torch.testing.assert_close(batch.step([1])[0], alone(tiny_model, short, [1]))
        batch.join(long)
        batch.leave(1)
        batch.leave(0)
        batch.join(short)
        assert batch._memory.keys.shape[3] == lengths[0]
        torch.testing.assert_close(batch.step([1])[0], alone(tiny_model, short, [1]))


@torch.inference_mode()
def test_an_answer_takes_room_as_it_grows_and_gives_it_back(
    tiny_model: VisavisModel, memories: Memories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visavis.models.decode_batch._ROUNDING", 4)
    batch, said = DecodeBatch(tiny_model, max_rows=2), [[1], [1]]
    batch.join(memories[0])
    room = []
    for step in range(9):
        if step == 7:
            batch.join(memories[1])
        logits = batch.step([tokens[-1] for tokens in said[: len(batch)]])
        for row, tokens in enumerate(said[: len(batch)]):
            torch.testing.assert_close(logits[row], alone(tiny_model, memories[row], tokens))
            tokens.append(int(logits[row].argmax()))
        room.append(batch._own.positions)
    assert room == [4, 4, 4, 4, 8, 8, 8, 8, 12]
    batch.leave(0)
    assert batch._own.positions == 4
    torch.testing.assert_close(batch.step([said[1][-1]])[0], alone(tiny_model, memories[1], said[1]))


@torch.inference_mode()
def test_a_static_batch_has_room_for_the_longest_answer_from_the_start(
    tiny_model: VisavisModel, memories: Memories
) -> None:
    batch = DecodeBatch(tiny_model, max_rows=2, static=True)
    batch.join(memories[0])
    batch.step([1])
    assert batch._own.positions == tiny_model.config.decoder.max_positions
    assert batch._memory.positions % 64 == 0
