"""L_itc: pictures and captions that belong together are pulled together, all others apart (InfoNCE in both directions,
as in CLIP; a picture has several captions, each of which is right, as in MIL-NCE, Miech et al. 2020).

A batch that fits a small machine holds few wrong candidates, so those of the last batches stay in a queue (cross-batch
memory, Wang et al. 2020): the towers hardly move, and old embeddings stay true for long.
Shape letters: N pictures, M captions, Q queued, E size of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visavis.models.errors import NoSharedSpace
from visavis.models.fusion.packing import unpack
from visavis.models.training.batches import Row
from visavis.models.training.data import Photo, mirrored
from visavis.models.training.passes import Passes

QUEUED = 2048


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
        """These embeddings and the queued ones behind them, without older ones of the same photos."""
        known = (self.owners >= 0) & ~torch.isin(self.owners, owners)
        return torch.cat([vectors, self.vectors[known]]), torch.cat([owners, self.owners[known]])


class Contrast(nn.Module):
    """The loss of embeddings, with its two queues."""

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


class ContrastiveLearning(nn.Module):
    """Trains the model's shared space on photos and all their captions.

    Raises:
        NoSharedSpace: the model has none.
    """

    def __init__(self, passes: Passes, photos: Sequence[Photo]) -> None:
        super().__init__()
        shared = passes.model.config.shared
        if shared is None:
            raise NoSharedSpace
        self.passes, self.numbers = passes, {photo.path: number for number, photo in enumerate(photos)}
        self.contrast = Contrast(shared.size, QUEUED)

    def learn(self, rows: Sequence[Row], weight: float) -> float:
        """Accumulate the gradient."""
        passes, model = self.passes, self.passes.model
        said = [[mirrored(item) if row.mirrored else item for item in row.photo.captions] for row in rows]
        states, segments = passes.texts.pack([[(caption, ()) for caption in captions] for captions in said])
        features = passes.shrink(passes.features.read([row.view for row in rows]))
        photos = torch.tensor([self.numbers[row.photo.path] for row in rows])
        assert model.shared is not None
        with passes.autocast():
            pictures = model.shared.embed_pictures(model.project(passes.finish(features)))
            texts = unpack(states, segments)
            captions = model.shared.embed_texts(texts.states, texts.mask)
        loss: Tensor = self.contrast(pictures, photos, captions, photos[texts.row], model.shared.scale)
        (weight * loss).backward()
        return float(loss.detach())


def matching_loss(logits: Tensor, right: Tensor) -> Tensor:
    """The mean negative log-probability that a right candidate is chosen: (N, M) logits and whether each is right."""
    return (logits.logsumexp(dim=1) - logits.masked_fill(~right, float("-inf")).logsumexp(dim=1)).mean()
