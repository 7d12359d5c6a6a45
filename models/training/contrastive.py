"""L_itc: pictures and captions that belong together are pulled together, all others apart (InfoNCE in both directions,
as in CLIP; a picture has several captions, each of which is right, as in MIL-NCE, Miech et al. 2020).

A batch that fits a small machine holds few wrong candidates, so those of the last batches stay in a queue (cross-batch
memory, Wang et al. 2020). What is kept is what the heads read, not what they said: the towers hardly move, while heads
in their first steps make old embeddings worthless.
Shape letters: N pictures, M captions, G groups of a picture's positions, D and D_t widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visavis.models.errors import NoSharedSpace
from visavis.models.fusion.concat import masked_mean
from visavis.models.fusion.packing import unpack
from visavis.models.shared_space import SharedSpace
from visavis.models.training.batches import Row
from visavis.models.training.data import Photo, mirrored
from visavis.models.training.passes import Passes

QUEUED = 1024


class Queue(nn.Module):
    """The last `size` summaries with the number of the photo that each belongs to; empty places belong to -1."""

    summaries: Tensor
    owners: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("summaries", torch.zeros(size, width))
        self.register_buffer("owners", torch.full((size,), -1))

    @torch.no_grad()
    def push(self, summaries: Tensor, owners: Tensor) -> None:
        """The newest first; the oldest leave."""
        size = len(self.owners)
        self.summaries.copy_(torch.cat([summaries.detach(), self.summaries])[:size])
        self.owners.copy_(torch.cat([owners, self.owners])[:size])

    def after(self, summaries: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        """These and the queued ones behind them, without older ones of the same photos."""
        known = (self.owners >= 0) & ~torch.isin(self.owners, owners)
        return torch.cat([summaries, self.summaries[known]]), torch.cat([owners, self.owners[known]])


class Contrast(nn.Module):
    """The loss of what two heads make of summaries, with a queue for each."""

    def __init__(self, picture_width: int, text_width: int, queued: int) -> None:
        super().__init__()
        self.pictures, self.captions = Queue(queued, picture_width), Queue(queued, text_width)

    def forward(
        self, space: SharedSpace, pictures: Tensor, photos: Tensor, captions: Tensor, caption_photos: Tensor
    ) -> Tensor:
        """The mean of both directions, in nats. New and queued are embedded together, by the heads as they are now.

        Args:
            space: whose heads and scale learn.
            pictures, captions: summaries (N, G D) and (M, D_t).
            photos, caption_photos: which photo each belongs to, (N,) and (M,).
        """
        seen, seen_of = self.pictures.after(pictures, photos)
        read, read_of = self.captions.after(captions, caption_photos)
        self.pictures.push(pictures, photos)
        self.captions.push(captions, caption_photos)
        logits = space.scale * space.picture(seen) @ space.text(read).T
        right = seen_of[:, None] == read_of
        there = matching_loss(logits[: len(pictures)], right[: len(pictures)])
        return (there + matching_loss(logits.T[: len(captions)], right.T[: len(captions)])) / 2


class ContrastiveLearning(nn.Module):
    """Trains the model's shared space on photos and all their captions.

    Raises:
        NoSharedSpace: the model has none.
    """

    def __init__(self, passes: Passes, photos: Sequence[Photo]) -> None:
        super().__init__()
        space = passes.model.shared
        if space is None:
            raise NoSharedSpace
        self.passes, self.numbers = passes, {photo.path: number for number, photo in enumerate(photos)}
        self.contrast = Contrast(space.picture.width, space.text.width, QUEUED)

    def learn(self, rows: Sequence[Row], weight: float) -> float:
        """Accumulate the gradient."""
        passes, model = self.passes, self.passes.model
        said = [[mirrored(item) if row.mirrored else item for item in row.photo.captions] for row in rows]
        states, segments = passes.texts.pack([[(caption, ()) for caption in captions] for captions in said])
        features = passes.shrink(passes.features.read([row.view for row in rows]))
        photos = torch.tensor([self.numbers[row.photo.path] for row in rows])
        assert model.shared is not None
        with passes.autocast():
            pictures = model.shared.sum_up_pictures(model.project(passes.finish(features)))
            texts = unpack(states, segments)
            captions = masked_mean(texts.states, texts.mask)
        loss: Tensor = self.contrast(model.shared, pictures.float(), photos, captions.float(), photos[texts.row])
        (weight * loss).backward()
        return float(loss.detach())


def matching_loss(logits: Tensor, right: Tensor) -> Tensor:
    """The mean negative log-probability that a right candidate is chosen: (N, M) logits and whether each is right."""
    return (logits.logsumexp(dim=1) - logits.masked_fill(~right, float("-inf")).logsumexp(dim=1)).mean()
