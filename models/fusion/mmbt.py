"""MMBT, the multimodal bitransformer (Kiela et al. 2019): regions of the picture enter the text encoder's own sequence.

The text tower keeps its embeddings alone (a configuration of no layers); its transformer layers stand here, with the
pretrained weights, and read regions and words side by side, each seeing all others. So what a region becomes depends on
the text, and only its pooled projection is the picture's alone.
Shape letters: B rows, K texts of all rows, L text tokens, P picture positions, R regions, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.bert import Layer
from visavis.models.dropout import Dropout
from visavis.models.fusion.interface import Fused
from visavis.models.fusion.packing import last, pack, unpack
from visavis.models.kv_cache import KeyValue
from visavis.models.tower_configs import BertConfig


class MmbtFusion(nn.Module):
    """A bitransformer over pooled regions and the words of one text; the decoder attends to all that comes out.

    `grid` squares a side are pooled from the patches, and as many from the `cells` of an object tower; tokens before
    the patches (a class token) make one region more. Few regions are the method's own choice: every text has its own
    copy of them in every layer.
    """

    def __init__(
        self, layers: int, width: int, heads: int, inner: int, dropout: float, *, grid: int, cells: int, tags: int = 0
    ) -> None:
        super().__init__()
        sizes = BertConfig(
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=inner,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,
        )
        self.grid, self.cells = grid, cells
        self.seen, self.shown = last(tags)
        self.segment = nn.Parameter(torch.zeros(width))
        self.positions = nn.Embedding(1 + grid * grid * (2 if cells else 1), width)
        self.region_norm = nn.LayerNorm(width, sizes.layer_norm_eps)
        self.bert = nn.ModuleList(Layer(sizes) for _ in range(layers))
        self.dropout = Dropout(dropout)

    def remember(self, patches: Tensor) -> tuple[KeyValue, ...]:
        """Nothing but the patches themselves is needed."""
        return ()

    def forward(
        self,
        text: Tensor,
        patches: Tensor,
        memory: Sequence[KeyValue],
        segments: Tensor,
        patch_mask: Tensor | None = None,
    ) -> Fused:
        """As `FusionEncoder` says; `text` is word embeddings. M is the longest row's texts with R regions each."""
        texts = unpack(text, segments)
        regions, seen = self.regions(patches[:, self.seen], None if patch_mask is None else patch_mask[:, self.seen])
        states = torch.cat([regions[texts.row], texts.states], dim=1)
        mask = torch.cat([seen[texts.row], texts.mask], dim=1)
        for layer in self.bert:
            states = layer(states, mask[:, None, None])
        return pack(texts, states, mask, text.shape[0])

    def regions(self, patches: Tensor, patch_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, P, D) -> region embeddings (B, R, D), and which of them hold anything that may be seen (B, R)."""
        counted = patches.new_ones(patches.shape[:2]) if patch_mask is None else patch_mask.to(patches.dtype)
        pooled, share = (
            torch.cat(list(self._pooled(part)), dim=1) for part in (patches * counted[..., None], counted[..., None])
        )
        embedded = pooled / share.clamp_min(1e-6) + self.segment + self.positions.weight[: pooled.shape[1]]
        return self.dropout(self.region_norm(embedded)), share[..., 0] > 0

    def _pooled(self, states: Tensor) -> Iterator[Tensor]:
        """The grids of patches and of cells averaged to squares, then the tokens before them to one."""
        grid_end = states.shape[1] - self.cells
        side = math.isqrt(grid_end)
        start = grid_end - side * side
        yield _pool(states[:, start:grid_end], self.grid)
        if self.cells:
            yield _pool(states[:, grid_end:], self.grid)
        if start:
            yield states[:, :start].mean(dim=1, keepdim=True)


def _pool(squares: Tensor, grid: int) -> Tensor:
    """(B, G * G, D) -> (B, grid * grid, D)."""
    side = math.isqrt(squares.shape[1])
    maps = squares.transpose(1, 2).unflatten(2, (side, side))
    return F.adaptive_avg_pool2d(maps, grid).flatten(2).transpose(1, 2)


def load_bert_layers(fusion: MmbtFusion, bert: Mapping[str, Tensor]) -> None:
    """Give the layers the weights of a BERT, by its state dict; RoBERTa and ELECTRA name theirs alike.

    Raises:
        ValueError: it has fewer layers, or others than BERT's.
    """
    for number, layer in enumerate(fusion.bert):
        prefix = f"encoder.layer.{number}."
        state = {name.removeprefix(prefix): value for name, value in bert.items() if name.startswith(prefix)}
        try:
            layer.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"layer {number} of the text tower is none of BERT's, which mmbt is made of") from error
