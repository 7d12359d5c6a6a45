"""Linear layers in 8 bits and bf16: near the exact ones, row by row; which parts of a model get them."""

import asyncio
import copy

import pytest
import torch
from tiny_checkpoint import drawn_picture
from torch import Tensor, nn

from visavis.models.attention import ReadsTogether
from visavis.models.config import ObjectConfig
from visavis.models.decode_batch import DecodeBatch
from visavis.models.efficientnet_lite import SameConv2d
from visavis.models.engine import InferenceEngine
from visavis.models.generation import GenerationRequest
from visavis.models.precision import (
    LAYERS,
    Bf16Linear,
    Int8Linear,
    PackedConvolution,
    PackedLinear,
    Precision,
    best_for,
    serve_with,
)
from visavis.models.processor import Processor
from visavis.models.visavis_model import VisavisModel
from visavis.models.vision_encoder import ObjectTower

LOWERED = pytest.mark.parametrize("kind", [Int8Linear, Bf16Linear])


@pytest.fixture
def states() -> Tensor:
    """Rows of very different sizes."""
    sizes = torch.tensor([1.0, 100.0, 0.01, 1.0])[:, None]
    return torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(1)) * sizes


@pytest.fixture
def linear() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Linear(64, 24).requires_grad_(False)


@LOWERED
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_lowered_layer_is_near_the_exact_one(
    kind: type[nn.Module], has_bias: bool, linear: nn.Linear, states: Tensor
) -> None:
    if not has_bias:
        linear.bias = None  # type: ignore[assignment]
    exact, lowered = linear(states), kind(linear)(states)
    assert lowered.shape == exact.shape and lowered.dtype == torch.float32
    error = (lowered - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert float(error.max()) < 0.03


@LOWERED
def test_rows_do_not_touch_each_other(kind: type[nn.Module], linear: nn.Linear, states: Tensor) -> None:
    layer = kind(linear)
    together = layer(states)
    spoiled = states.clone()
    spoiled[0, 1], spoiled[1, 2] = torch.nan, 0
    torch.testing.assert_close(layer(states[1:, 3:])[0, 0], together[1, 3])
    kept = layer(spoiled)
    assert kept[0, 1].isnan().all() and not kept[1].isnan().any()
    torch.testing.assert_close(kept[1, 3], together[1, 3])
    torch.testing.assert_close(kept[0, 2:], together[0, 2:])


@pytest.mark.parametrize("clips", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "size"), [(1, 1, 5), (3, 1, 5), (3, 2, 6), (5, 2, 7)])
def test_a_packed_convolution_is_the_plain_one_for_any_size(kernel: int, stride: int, size: int, clips: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        plain = SameConv2d(8, 8, kernel, stride, groups=8 if kernel > 1 else 1, clips=clips).requires_grad_(False)
        pictures = [4 * torch.randn(count, 8, side, side) for count, side in ((1, size), (2, size), (1, size + 1))]
    packed = PackedConvolution(plain)
    for picture in pictures:
        torch.testing.assert_close(packed(picture), plain(picture), atol=1e-5, rtol=1e-4)
    assert (packed(pictures[1]).min() >= 0) == clips


def test_a_served_object_tower_has_packed_convolutions_alone_and_sees_the_same(
    tiny_model: VisavisModel,
) -> None:
    plain = ObjectTower(ObjectConfig(resolution=64, head_size=20)).eval()
    model = copy.deepcopy(tiny_model)
    model.encoder.vision.objects = copy.deepcopy(plain)
    serve_with(model, Precision.FP32)
    served = model.encoder.vision.objects
    assert sum(isinstance(module, PackedConvolution) for module in served.modules()) == 63
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for seen, expected in zip(served(pixels), plain(pixels), strict=True):
            torch.testing.assert_close(seen, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.BF16])
def test_what_runs_once_a_picture_or_turn_is_lowered(tiny_model: VisavisModel, precision: Precision) -> None:
    model = copy.deepcopy(tiny_model)
    assert serve_with(model, precision) is precision
    left = {name.split(".")[0] for name, module in model.named_modules() if type(module) is nn.Linear}
    assert model.step_decoder is not None
    quick = {type(module) for name, module in model.step_decoder.named_modules() if name.endswith((".query", ".out"))}
    assert quick <= set(LAYERS.values())
    assert left == {"decoder"}
    kept = [name for name, module in model.decoder.named_modules() if type(module) is LAYERS[precision]]
    assert kept == [f"layers.{layer}.cross_attention.key_value" for layer in range(len(model.decoder.layers))]


@pytest.mark.parametrize(("has", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_object_tower_takes_bf16_where_the_processor_has_it(
    tiny_model: VisavisModel, monkeypatch: pytest.MonkeyPatch, has: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    model = copy.deepcopy(tiny_model)
    model.encoder.vision.objects = ObjectTower(ObjectConfig(kinds=5))
    serve_with(model, Precision.INT8)
    pixels = torch.randn(1, 3, 32, 32)
    cells, kinds = model.encoder.vision.objects(pixels)
    assert model.encoder.vision.objects.network.stem.weight.dtype is expected
    assert cells.dtype is kinds.dtype is torch.float32


def test_fp32_changes_nothing(tiny_model: VisavisModel) -> None:
    model = copy.deepcopy(tiny_model)
    assert serve_with(model, Precision.FP32) is Precision.FP32
    assert not any(isinstance(module, Int8Linear | Bf16Linear) for module in model.modules())


@pytest.mark.parametrize(("has", "expected"), [(True, Precision.INT8), (False, Precision.FP32)])
def test_auto_asks_the_processor(monkeypatch: pytest.MonkeyPatch, has: bool, expected: Precision) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: has)
    assert best_for(torch.device("cpu")) is expected
    assert best_for(torch.device("cuda")) is Precision.FP32


async def test_answers_in_8_bits_are_the_same_in_any_company(
    tiny_model: VisavisModel, tiny_processor: Processor
) -> None:
    model = copy.deepcopy(tiny_model)
    serve_with(model, Precision.INT8)
    with InferenceEngine(model, tiny_processor, max_new_tokens=12) as engine:
        images = [engine.add_image(drawn_picture(color)) for color in ("red", "blue", "green")]
        requests = [GenerationRequest(f"what is it {number}?", (), images[number % 3]) for number in range(9)]
        together = await asyncio.gather(*map(engine.generate, requests))
        assert [answer.text for answer in together] == [(await engine.generate(one)).text for one in requests]


@pytest.mark.parametrize("kind", [Int8Linear, Bf16Linear])
def test_three_layers_that_read_the_same_are_served_as_one(kind: type[nn.Module], tiny_model: VisavisModel) -> None:
    precision = next(name for name, layer in LAYERS.items() if layer is kind)
    exact, lowered = copy.deepcopy(tiny_model), copy.deepcopy(tiny_model)
    serve_with(lowered, precision)
    together = [part for part in lowered.encoder.modules() if isinstance(part, ReadsTogether)]
    assert together and all(type(part.joined) is kind for part in together)
    assert not any(hasattr(part, name) for part in together for name in part.parts)
    assert lowered.step_decoder is not None
    assert all(isinstance(layer.self_attention.joined, PackedLinear) for layer in lowered.step_decoder.layers)
    assert all(layer.self_attention.joined is None for layer in lowered.decoder.layers)
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(3))
    one, other = (model.encode_image(pixels).patches.detach() for model in (exact, lowered))
    assert float((one - other).norm() / one.norm()) < 0.05


def test_a_step_of_the_lowered_copy_is_near_the_exact_one(tiny_model: VisavisModel, tiny_processor: Processor) -> None:
    exact, lowered = copy.deepcopy(tiny_model), copy.deepcopy(tiny_model)
    serve_with(lowered, Precision.AUTO)
    asked = tiny_processor.encode_question("what is it?")
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        memory = exact.fuse(exact.image_state(exact.encode_image(pixels)), **asked)
        batches = [DecodeBatch(model, 2) for model in (exact, lowered)]
        for batch in batches:
            batch.join(memory)
        one, other = (batch.step([1]) for batch in batches)
    assert float((one - other).norm() / one.norm()) < 0.05


@pytest.mark.parametrize("has", [True, False])
def test_steps_are_in_bf16_where_the_processor_has_it(
    tiny_model: VisavisModel, monkeypatch: pytest.MonkeyPatch, has: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    model = copy.deepcopy(tiny_model)
    serve_with(model, Precision.INT8)
    assert model.memory_dtype is (torch.bfloat16 if has else None)
    assert model.step_decoder is not None
    assert type(model.step_decoder.layers[0].feed_forward[0]) is (Bf16Linear if has else Int8Linear)  # type: ignore[index, union-attr, operator]
