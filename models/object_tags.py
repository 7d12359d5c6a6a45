"""Object tags: the names of what the object tower believes to see, as words beside the picture's patches.

The names of the likeliest kinds enter the picture's memory as the decoder's own token embeddings, so that a name can be
copied into an answer although no training photo shows such a thing (the object tags of Oscar, Li et al. 2020, with the
copying left to attention). Words read in the picture (OCR) enter the same way, behind them. Both depend on the picture
alone.
Shape letters: B pictures, K kinds, R tags, L tokens of a name, W tokens of the words read, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.models.config import ObjectConfig


class ObjectTags(nn.Module):
    """Log-probabilities of kinds to memory rows. `tokens` (K, L) spells each kind's name, 0 is padding."""

    tokens: Tensor

    def __init__(self, config: ObjectConfig, width: int) -> None:
        super().__init__()
        self.count = config.tags
        self.register_buffer("tokens", torch.zeros(config.kinds, config.tag_tokens, dtype=torch.int32))
        self.place = nn.Embedding(config.tag_tokens, width)
        self.rank = nn.Embedding(config.tags, width)
        self.read_tokens = config.read_tokens
        self.read_place = nn.Embedding(config.read_tokens, width)
        self.belief = nn.Linear(1, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, kinds: Tensor, read: Tensor | None, words: nn.Embedding) -> Tensor:
        """Log-probabilities of kinds, tokens that were read, and the decoder's token embedding -> memory rows.

        Args:
            kinds: (B, K).
            read: (B, up to W), 0 is padding; None where nothing was read.

        Returns:
            (B, R L + W, D), the likeliest kind first.
        """
        best, index = kinds.topk(self.count)
        spelled = words(self.tokens[index].int()) + self.place.weight + self.rank.weight[:, None]
        believed: Tensor = self.belief(best.exp()[..., None].to(spelled.dtype))
        tags = self.norm((spelled + believed[:, :, None]).flatten(1, 2))
        return torch.cat([tags, self.words(index[:, :0] if read is None else read, words)], dim=1)

    def words(self, read: Tensor, words: nn.Embedding) -> Tensor:
        """(B, up to W) tokens -> their memory rows (B, W, D)."""
        padded = F.pad(read, (0, self.read_tokens - read.shape[1]))
        return self.norm(words(padded) + self.read_place.weight)  # type: ignore[no-any-return]
