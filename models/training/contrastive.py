"""L_itc: pictures and captions that belong together are pulled together, all others apart (InfoNCE in both directions,
as in CLIP; a picture has several captions, all of which are right, as in SupCon, Khosla et al. 2020).

A batch that fits a small machine holds few wrong candidates, so those of the last batches stay in a queue (cross-batch
memory, Wang et al. 2020): the towers hardly move, and old embeddings stay true for long.
Shape letters: N pictures, M captions, Q queued, E size of the shared space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EmbeddingQueue(nn.Module):
    """The last `size` embeddings with the number of the photo that each belongs to; empty places belong to -1."""

    vectors: Tensor
    owners: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(size, width))
        self.register_buffer("owners", torch.full((size,), -1))

    @torch.no_grad()
    def push(self, vectors: Tensor, owners: Tensor) -> None:
        """The newest first; the oldest leave."""
        size = len(self.owners)
        self.vectors.copy_(torch.cat([vectors.detach(), self.vectors])[:size])
        self.owners.copy_(torch.cat([owners, self.owners])[:size])

    def after(self, vectors: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        """These embeddings and the queued ones behind them."""
        known = self.owners >= 0
        return torch.cat([vectors, self.vectors[known]]), torch.cat([owners, self.owners[known]])


class Contrast(nn.Module):
    """The loss with its two queues."""

    def __init__(self, width: int, queued: int) -> None:
        super().__init__()
        self.pictures, self.captions = EmbeddingQueue(queued, width), EmbeddingQueue(queued, width)

    def forward(
        self, pictures: Tensor, photos: Tensor, captions: Tensor, caption_photos: Tensor, scale: Tensor
    ) -> Tensor:
        """The mean of both directions, in nats.

        Args:
            pictures, captions: unit vectors (N, E) and (M, E).
            photos, caption_photos: which photo each belongs to, (N,) and (M,).
            scale: of the dot products.
        """
        to_captions, caption_owners = self.captions.after(captions, caption_photos)
        to_pictures, picture_owners = self.pictures.after(pictures, photos)
        there = matching_loss(scale * pictures @ to_captions.T, photos[:, None] == caption_owners)
        back = matching_loss(scale * captions @ to_pictures.T, caption_photos[:, None] == picture_owners)
        self.pictures.push(pictures, photos)
        self.captions.push(captions, caption_photos)
        return (there + back) / 2


def matching_loss(logits: Tensor, right: Tensor) -> Tensor:
    """The mean negative log-probability of all right candidates: (N, M) logits and whether each is right."""
    chosen = logits.log_softmax(dim=1).masked_fill(~right, 0.0)
    return -(chosen.sum(dim=1) / right.sum(dim=1).clamp_min(1)).mean()
