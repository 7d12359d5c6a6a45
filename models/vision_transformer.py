"""DINOv2's vision transformer (Dosovitskiy et al. 2021; Oquab et al. 2023) in plain torch.

Parameters are named, and results computed, as transformers' `Dinov2Model` does; importing that costs more time than a
first answer may take. Shape letters: B pictures, P patches with the class token first, D width, H heads, d = D / H.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.attention import ReadsTogether
from visavis.models.tower_configs import Dinov2Config


class VisionTransformer(nn.Module):
    """Pixels to patch features. `embed`, then every one of `blocks`, then `layernorm` is the whole of `forward`:
    a caller may run some blocks now and the others later."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))})
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    @property
    def blocks(self) -> nn.ModuleList:
        """What stands between `embed` and the last norm; each takes and gives states (B, P, D)."""
        layers = self.encoder["layer"]
        assert isinstance(layers, nn.ModuleList)
        return layers

    def embed(self, pixel_values: Tensor) -> Tensor:
        """(B, C, height, width) normalised pixels -> states (B, P, D)."""
        return self.embeddings(pixel_values)  # type: ignore[no-any-return]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, height, width) normalised pixels -> (B, P, D), after the last norm."""
        return self.layernorm(self.run(self.embed(pixel_values), 0, len(self.blocks)))  # type: ignore[no-any-return]

    def run(self, states: Tensor, start: int, end: int) -> Tensor:
        """Blocks `start` up to `end` of states (B, P, D)."""
        for block in self.blocks[start:end]:
            states = block(states)
        return states


class PatchEmbeddings(nn.Module):
    """Patches, a class token and positions, which are interpolated for pictures of another size than in training."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.patch, self.grid = patch, config.image_size // patch
        self._resampled: tuple[tuple[int, int], Tensor] | None = None
        projection = nn.Conv2d(config.num_channels, width, kernel_size=patch, stride=patch)
        self.patch_embeddings = nn.ModuleDict({"projection": projection})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.empty(1, self.grid**2 + 1, width))
        nn.init.normal_(self.position_embeddings, std=0.02)
        if config.use_mask_token:  # part of every checkpoint; only DINOv2's own pre-training uses it
            self.mask_token = nn.Parameter(torch.zeros(1, width))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, height, width) -> (B, P, D)."""
        projection, side = self.patch_embeddings["projection"], self.patch
        assert isinstance(projection, nn.Conv2d)
        rows, columns = (length // side for length in pixel_values.shape[2:])
        cut = (
            pixel_values[:, :, : rows * side, : columns * side].unflatten(3, (columns, side)).unflatten(2, (rows, side))
        )
        cut = (
            cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        )  # a convolution without overlap is a matrix product
        patches = F.linear(cut, projection.weight.flatten(1), projection.bias)
        first = self.cls_token.expand(patches.shape[0], -1, -1)
        return torch.cat([first, patches], dim=1) + self._positions(rows, columns)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows * columns, D)."""
        if rows == columns == self.grid:
            return self.position_embeddings
        if not torch.is_inference_mode_enabled():
            return self._resample(rows, columns)
        known = self._resampled  # of the size that was asked for last: one model is shown one size
        if known is None or known[0] != (rows, columns):
            known = self._resampled = (rows, columns), self._resample(rows, columns)
        return known[1]

    def _resample(self, rows: int, columns: int) -> Tensor:
        first, rest = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        grid = rest.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        # Bicubic resampling in half precision shifts the embeddings.
        resampled = F.interpolate(grid.float(), (rows, columns), mode="bicubic").to(first.dtype)
        return torch.cat([first, resampled.flatten(2).transpose(1, 2)], dim=1)


class Block(nn.Module):
    """Self-attention and feed-forward, pre-norm, each scaled channel by channel (LayerScale, Touvron et al. 2021)."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        width, epsilon = config.hidden_size, config.layer_norm_eps
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=epsilon), nn.LayerNorm(width, eps=epsilon)
        self.attention = SelfAttention(width, config.num_attention_heads)
        self.layer_scale1 = LayerScale(width, config.layerscale_value)
        self.layer_scale2 = LayerScale(width, config.layerscale_value)
        inner = int(width * config.mlp_ratio)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, states: Tensor) -> Tensor:
        """(B, P, D) -> (B, P, D)."""
        states = states + self.layer_scale1(self.attention(self.norm1(states)))
        inner = F.gelu(self.mlp["fc1"](self.norm2(states)))
        return states + self.layer_scale2(self.mlp["fc2"](inner))  # type: ignore[no-any-return]


class SelfAttention(ReadsTogether):
    """Every patch attends to every patch."""

    parts = ("q_proj", "k_proj", "v_proj")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, states: Tensor) -> Tensor:
        """(B, P, D) -> (B, P, D)."""
        query, key, value = self.project(states, self.heads)
        mixed = self._bf16(query, key, value) if self.in_bf16 else F.scaled_dot_product_attention(query, key, value)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _bf16(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Two products and a softmax: for so many patches faster than the fused kernel, which bf16 makes no faster."""
        scores = (query * query.shape[-1] ** -0.5).bfloat16() @ key.bfloat16().transpose(-1, -2)
        mixed: Tensor = scores.softmax(-1) @ value.bfloat16()
        return mixed.float()


class LayerScale(nn.Module):
    """A learned factor a channel."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.full((width,), start))

    def forward(self, states: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return states * self.lambda1
