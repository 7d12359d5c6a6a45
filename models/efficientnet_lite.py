"""EfficientNet-Lite (Tan and Le 2019; the Lite family drops squeeze-excitation and swish): a small CNN that knows
ImageNet's thousand kinds of things.

Batch normalisation is folded into the convolutions when the weights are converted, so that what is left is convolutions
with a bias and ReLU6. Neither transformers nor torch has this network.
Shape letters: B pictures, R resolution, C channels, G = R / 32 cells a side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Stage:
    """`blocks` inverted bottlenecks of one width; the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


LITE2_STEM = 32
LITE2 = (
    Stage(1, 3, 1, 1, 16),
    Stage(3, 3, 2, 6, 24),
    Stage(3, 5, 2, 6, 48),
    Stage(4, 3, 2, 6, 88),
    Stage(4, 5, 1, 6, 120),
    Stage(5, 5, 2, 6, 208),
    Stage(1, 3, 1, 6, 352),
)


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does: with a stride of 2 on an even size, one more on the right and below.

    With `clips` its output is clipped to 0..6 (ReLU6).
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1, clips: bool = False
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups)
        self.clips = clips

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        padded, padding = self.pad(input)
        out = F.conv2d(padded, self.weight, self.bias, self.stride, padding, 1, self.groups)
        return F.relu6(out) if self.clips else out

    def pad(self, maps: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The input, and the rows and columns that the convolution adds by itself on either side.

        Copied only where one side needs more than the other.
        """
        step, kernel = self.stride[0], self.kernel_size[0]
        sides = [max((-(-size // step) - 1) * step + kernel - size, 0) for size in maps.shape[2:]]
        top, left = sides[0] // 2, sides[1] // 2
        if not any(side % 2 for side in sides):
            return maps, (top, left)
        return F.pad(maps, (left, sides[1] - left, top, sides[0] - top)), (0, 0)


class InvertedBottleneck(nn.Module):
    """Expand, convolve each channel by itself, project; a shortcut where the shapes agree (Sandler et al. 2018)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = channels_in * expand
        self.expand = SameConv2d(channels_in, inner, 1, clips=True) if expand > 1 else nn.Identity()
        self.depthwise = SameConv2d(inner, inner, kernel, stride, groups=inner, clips=True)
        self.project = SameConv2d(inner, channels_out, 1)
        self.expands, self.shortcut = expand > 1, stride == 1 and channels_in == channels_out

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        out: Tensor = self.project(self.depthwise(self.expand(maps)))
        return maps + out if self.shortcut else out


class EfficientNetLite(nn.Module):
    """Stem and blocks; what the classifier's head would see."""

    def __init__(self, stem: int = LITE2_STEM, stages: tuple[Stage, ...] = LITE2) -> None:
        super().__init__()
        self.stem = SameConv2d(3, stem, 3, 2, clips=True)
        self.blocks = nn.ModuleList(_blocks(stem, stages))
        self.channels = stages[-1].channels

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, R, R), values -1..1 -> (B, C, G, G), computed in the weights' own precision.

        With channels last in memory, which depthwise convolutions are quicker with.
        """
        pixels = pixels.to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.stem(pixels)
        for block in self.blocks:
            maps = block(maps)
        return maps


def _blocks(width: int, stages: tuple[Stage, ...]) -> Iterator[nn.Module]:
    for stage in stages:
        for number in range(stage.blocks):
            stride = stage.stride if number == 0 else 1
            yield InvertedBottleneck(width, stage.channels, stage.kernel, stride, stage.expand)
            width = stage.channels
