"""Our vision transformer gives what transformers' DINOv2 gives, and may be run in pieces."""

import pytest
import torch
from torch import Tensor, nn
from transformers import Dinov2Config as TheirConfig
from transformers import Dinov2Model

from visavis.models.tower_configs import Dinov2Config
from visavis.models.vision_transformer import VisionTransformer

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 56, "patch_size": 7}


def both(**options: object) -> tuple[VisionTransformer, Dinov2Model]:
    """Ours and theirs with the same random weights, where no parameter is left at a neutral value."""
    torch.manual_seed(1)
    theirs = Dinov2Model(TheirConfig(**SIZES, **options)).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    config = Dinov2Config.from_options(theirs.config.to_dict())
    assert config is not None
    ours = VisionTransformer(config).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def pixels(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("height", "width"), [(56, 56), (28, 28), (42, 21), (63, 70)])
@torch.no_grad()
def test_the_same_states_at_any_size(height: int, width: int) -> None:
    ours, theirs = both(mlp_ratio=2)
    wanted = theirs(pixels(height, width)).last_hidden_state
    torch.testing.assert_close(ours(pixels(height, width)), wanted, rtol=0, atol=1e-5)
    assert wanted.shape == (2, 1 + height * width // 49, 24)


@torch.no_grad()
def test_blocks_one_by_one_are_the_whole() -> None:
    ours, theirs = both()
    wanted = theirs(pixels(28, 28), output_hidden_states=True).hidden_states
    states = ours.embed(pixels(28, 28))
    for block, before in zip(ours.blocks, wanted, strict=False):
        torch.testing.assert_close(states, before, rtol=0, atol=1e-5)
        states = block(states)
    assert torch.equal(ours.layernorm(states), ours(pixels(28, 28)))


def test_half_precision_interpolates_in_full() -> None:
    ours, _ = both()
    exact = ours.embed(pixels(28, 28))
    rounded = ours.bfloat16().embed(pixels(28, 28).bfloat16())
    assert rounded.dtype is torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.02, atol=0.1)


def test_defaults_are_theirs_and_what_is_not_ours_is_refused() -> None:
    assert Dinov2Config.from_options(TheirConfig().to_dict()) == Dinov2Config.from_options({}) == Dinov2Config()
    for lacking in ({"use_swiglu_ffn": True}, {"hidden_act": "relu"}, {"qkv_bias": False}, {"drop_path_rate": 0.1}):
        assert Dinov2Config.from_options(lacking) is None
