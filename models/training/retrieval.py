"""Retrieval: does a caption find its picture, and a picture its captions, among all others in the shared space?

Shape letters: N pictures, M captions, E size of the space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from visavis.models.processor import Processor
from visavis.models.visavis_model import VisavisModel

DEPTHS = (1, 5, 10)
CHUNK = 64


@torch.inference_mode()
def measure_retrieval(
    model: VisavisModel,
    processor: Processor,
    captioned: Sequence[tuple[Path, Sequence[str]]],
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """`r1`, `r5`, `r10`: share of captions whose picture is among so many of the likest; `caption_r*`: share of
    pictures with one of their captions among them. `gap` is the distance between the mean picture and the mean caption
    (Liang et al. 2022). `advance` is called with the pictures done.

    Raises:
        NoSharedSpace: the model has none. OSError: a picture cannot be read.
    """
    pictures = []
    for number, (photo, _) in enumerate(captioned, 1):
        with Image.open(photo) as image:
            pixels = processor.pixel_values(image).to(model.device, model.dtype)
        pictures.append(model.embed_pictures(model.image_state(model.encode_image(pixels))).cpu())
        advance(number)
    captions = [caption for _, texts in captioned for caption in texts]
    owners = torch.tensor([number for number, (_, texts) in enumerate(captioned) for _ in texts])
    seen, read = torch.cat(pictures), embed_texts(model, processor, captions)
    return {**recalls(seen @ read.T, owners), "gap": float((seen.mean(0) - read.mean(0)).norm()), "n": len(seen)}


def embed_texts(model: VisavisModel, processor: Processor, texts: Sequence[str]) -> Tensor:
    """(M, E)."""
    parts = []
    for start in range(0, len(texts), CHUNK):
        inputs = processor.encode_questions([(text, ()) for text in texts[start : start + CHUNK]])
        parts.append(model.embed_texts(**{name: ids.to(model.device) for name, ids in inputs.items()}).cpu())
    return torch.cat(parts)


def recalls(likeness: Tensor, owners: Tensor) -> dict[str, float]:
    """Recall at every depth, both ways, from likeness (N, M) and the picture (M,) that each caption belongs to."""
    own = owners == torch.arange(len(likeness))[:, None]
    figures: dict[str, float] = {}
    for prefix, scores, right in (("", likeness.T, own.T), ("caption_", likeness, own)):
        best = scores.masked_fill(~right, float("-inf")).amax(dim=1, keepdim=True)
        ahead = ((scores > best) & ~right).sum(dim=1)
        figures |= {f"{prefix}r{depth}": float((ahead < depth).float().mean()) for depth in DEPTHS}
    return figures
