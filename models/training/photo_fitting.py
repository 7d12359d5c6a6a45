"""Fitting the photo head: photos against pictures drawn by code, by logistic regression on the towers' features."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from visavis.models.photo_head import PhotoHead, summary
from visavis.models.processor import Processor
from visavis.models.training.nonphotos import WORDS, draw_nonphoto
from visavis.models.visavis_model import VisavisModel

FONT_FOLDER = Path("/usr/share/fonts")
HELD_BACK = 5
"""One picture in five is not fitted on, but judged by."""
DECAY = 1e-2


@dataclass(frozen=True)
class PhotoFit:
    """The head, and of pictures that were held back: the share of drawings recognised and of photos wrongly refused."""

    head: PhotoHead
    recognised: float
    false_alarms: float


def pictures(photos: Sequence[Path], count: int, seed: int) -> Iterator[tuple[Image.Image, bool]]:
    """`count` photos and as many drawings, each with whether it is a photo, in turn.

    A photo in eight has words written on it or has lost its colours: it stays a photo.
    """
    chance = random.Random(seed)
    fonts = sorted(FONT_FOLDER.rglob("*.ttf"))
    for path in chance.sample(list(photos), min(count, len(photos))):
        with Image.open(path) as photo, Image.open(chance.choice(photos)) as other:
            yield _changed(photo.convert("RGB"), chance), True
            yield draw_nonphoto(chance, fonts, other), False


def _changed(photo: Image.Image, chance: random.Random) -> Image.Image:
    roll = chance.random()
    if roll < 0.06:
        return ImageOps.grayscale(photo).convert("RGB")
    if roll < 0.125:
        word, size = chance.choice(WORDS.split()).upper(), chance.randint(18, 48)
        place = (chance.uniform(0, photo.width * 0.5), chance.uniform(0, photo.height * 0.8))
        font = ImageFont.load_default(size)
        ImageDraw.Draw(photo).text(place, word, "white", font, stroke_width=2, stroke_fill="black")
    return photo


@torch.inference_mode()
def summaries(
    model: VisavisModel, processor: Processor, shown: Iterator[tuple[Image.Image, bool]]
) -> Iterator[tuple[Tensor, bool]]:
    """What the head will read of each picture, (W,), and whether it is a photo."""
    for picture, is_photo in shown:
        yield summary(model.encode_image(processor.pixel_values(picture)))[0], is_photo


def fit_photo_head(seen: Sequence[tuple[Tensor, bool]]) -> PhotoFit:
    """Logistic regression with weight decay on standardised features; the standard is folded into the weights."""
    inputs, targets = torch.stack([item for item, _ in seen]), torch.tensor([float(photo) for _, photo in seen])
    held = torch.arange(len(seen)) // 2 % HELD_BACK == 0
    mean, spread = inputs[~held].mean(dim=0), inputs[~held].std(dim=0) + 1e-4
    weights, bias = logistic((inputs[~held] - mean) / spread, targets[~held], DECAY)
    head = PhotoHead(inputs.shape[1])
    with torch.no_grad():
        head.linear.weight.copy_((weights / spread)[None])
        head.linear.bias.copy_(bias - (weights / spread * mean).sum())
        photo = (inputs[held] @ head.linear.weight[0] + head.linear.bias) > 0
    is_photo = targets[held] > 0
    return PhotoFit(head, float((~photo[~is_photo]).float().mean()), float((~photo[is_photo]).float().mean()))


def logistic(inputs: Tensor, targets: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Weights (W,) and bias (1,) for inputs (N, W) and targets (N,) of 0 or 1."""
    weights = torch.zeros(inputs.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        fit = F.binary_cross_entropy_with_logits(inputs @ weights + bias, targets)
        total = fit + decay * weights.square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    return weights.detach(), bias.detach()
