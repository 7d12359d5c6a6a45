"""The object tower beside the image encoder: shapes, padding, scales, and who sees what."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from visavis.models.config import ModelConfig, ObjectConfig
from visavis.models.efficientnet_lite import EfficientNetLite, SameConv2d, Stage
from visavis.models.image_states import BLOCKS_A_SLICE, encode_in_slices
from visavis.models.object_tags import ObjectTags
from visavis.models.transformers_classes import VisavisConfig
from visavis.models.vision_encoder import ImageProjection, ObjectTower, VisionEncoder

VISION = {
    "model_type": "dinov2",
    "image_size": 28,
    "patch_size": 7,
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


@pytest.fixture
def objects() -> ObjectConfig:
    return ObjectConfig(resolution=64, head_size=20)


def test_lite2_has_its_published_size() -> None:
    """6.09 M parameters with head and classes (352 x 1280 + 1280 x 1000), less what folding takes away."""
    network = EfficientNetLite()
    with_head = sum(value.numel() for value in network.parameters()) + 352 * 1280 + 1280 + 1280 * 1000 + 1000
    assert with_head == pytest.approx(6.09e6, rel=0.01)
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 352, 2, 3)


@pytest.mark.parametrize("layers", [1, 5])
def test_slices_give_what_the_whole_pass_gives(objects: ObjectConfig, layers: int) -> None:
    config = ModelConfig(vision={**VISION, "num_hidden_layers": layers}, objects=objects)
    encoder = VisionEncoder(config.vision, config.objects).eval()
    pixels = torch.randn(1, 3, 28, 28)
    slices = encode_in_slices(encoder, pixels)
    pauses = 0
    with torch.inference_mode(), pytest.raises(StopIteration) as end:
        while True:
            next(slices)
            pauses += 1
    assert pauses == -(-layers // BLOCKS_A_SLICE)
    whole = encoder(pixels)
    for part, expected in zip(end.value.value.parts, whole.parts, strict=True):
        torch.testing.assert_close(part, expected)


def test_same_padding_puts_the_odd_pixel_right_and_below() -> None:
    convolution = SameConv2d(1, 1, 3, stride=2)
    nn.init.ones_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    seen = convolution(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert seen.flatten().tolist() == [45.0, 39.0, 66.0, 50.0]  # windows begin at 0 and 2; the last is cut


def test_a_shortcut_needs_equal_shapes() -> None:
    network = EfficientNetLite(8, (Stage(2, 3, 2, 2, 8),))
    assert [block.shortcut for block in network.blocks] == [False, True]


def test_pixels_come_to_the_scale_of_the_classifier(objects: ObjectConfig) -> None:
    tower = ObjectTower(objects)
    seen = []
    tower.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mean, std = (torch.tensor(values)[:, None, None] for values in (objects.image_mean, objects.image_std))
    gray = torch.full((1, 3, 64, 64), 200 / 255)
    assert [part.shape for part in tower((gray - mean) / std)] == [(1, 4, 352)]
    torch.testing.assert_close(seen[0], torch.full((1, 3, 64, 64), (200 - 127) / 128))


def test_cells_stand_behind_the_patches_and_are_projected_by_themselves(objects: ObjectConfig) -> None:
    encoder = VisionEncoder(ModelConfig(vision=VISION).vision, objects).eval()
    with torch.no_grad():
        features = encoder(torch.randn(2, 3, 28, 28))
        assert [tuple(part.shape) for part in features.parts] == [(2, 17, 24), (2, 4, 352)]
        projection = ImageProjection(24, 16, objects)
        before = projection(features)
        features.cells[:, -1] += 1
        after = projection(features)
    assert before.shape == (2, 21, 16)
    changed = (before != after).any(dim=2)[0]
    assert changed.tolist() == [False] * 20 + [True]


def test_what_begins_without_the_last_blocks_can_be_finished(objects: ObjectConfig) -> None:
    encoder = VisionEncoder(ModelConfig(vision={**VISION, "num_hidden_layers": 3}).vision, replace(objects, kinds=5))
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        whole, begun = encoder(pixels), encoder.begin(pixels, 2)
        finished = encoder.finish(begun, 2)
    assert not torch.equal(whole.patches, begun.patches)
    for one, other in zip(whole.parts, finished.parts, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(whole.kinds.exp().sum(dim=1), torch.ones(2))


def test_tags_are_the_names_of_the_likeliest_kinds_and_the_words_read() -> None:
    config = ObjectConfig(kinds=3, tags=2, tag_tokens=2, read_tokens=3)
    tags, words = ObjectTags(config, 8).eval(), nn.Embedding(10, 8)
    tags.tokens.copy_(torch.tensor([[4, 5], [6, 0], [7, 8]]))
    kinds = torch.tensor([[0.2, 0.7, 0.1]]).log()
    with torch.no_grad():
        rows = tags(kinds, None, words)
        assert rows.shape == (1, config.tag_rows, 8)
        less_likely = tags(torch.tensor([[0.1, 0.7, 0.2]]).log(), None, words)
        assert rows[0, :2].equal(less_likely[0, :2]) and not rows[0, 2:4].equal(less_likely[0, 2:4])
        words.weight[6] += 1
        assert (tags(kinds, None, words) != rows).any(dim=2)[0].tolist() == [True] + [False] * 6
        read = tags(kinds, torch.tensor([[9]]), words)
        assert (read != tags(kinds, None, words)).any(dim=2)[0].tolist() == [False] * 4 + [True, False, False]


def test_config_keeps_objects_or_their_absence() -> None:
    for config in (ModelConfig(objects={"resolution": 96}), ModelConfig()):
        assert ModelConfig.from_dict(VisavisConfig.of(config).to_dict()) == config
    assert (ModelConfig(objects={"resolution": 96}).object_cells, ModelConfig().object_cells) == (9, 0)
