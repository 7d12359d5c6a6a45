"""Perturbed pictures and perturbed texts, for training that must not lean on one look or one wording.

A photo has one perturbed form, which its file's name decides: its features are then worth a cache. Whether it is
mirrored is known to whoever speaks of it, since "left" and "right" change places with it. Pure functions.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from visavis.models.processor import Vocabulary

MASKED, DROPPED, REPLACED, SHUFFLED = 0.1, 0.1, 0.1, 0.3
REACH = 2
"""How far a word may move when a text is shuffled."""
ALIKE = 0.5
"""The least cosine of two words that may stand for each other."""


@dataclass(frozen=True)
class Perturbation:
    """What happens to a picture: the part `crop` (x, y, w, h in shares) fills the frame, perhaps mirrored; `colour` are
    the strengths of saturation, brightness and contrast; the part `erased`, if any, turns grey."""

    crop: tuple[float, float, float, float]
    mirrored: bool
    colour: tuple[float, float, float]
    erased: tuple[float, float, float, float] | None

    @classmethod
    def of(cls, name: str) -> Perturbation:
        """The one of a photo by its file's name."""
        chance = random.Random(zlib.crc32(name.encode()))
        return cls(
            crop=_part(chance, 0.75, 1.0),
            mirrored=chance.random() < 0.5,
            colour=(chance.uniform(0.5, 1.5), chance.uniform(0.7, 1.3), chance.uniform(0.7, 1.3)),
            erased=_part(chance, 0.15, 0.4),
        )

    @classmethod
    def crop_of(cls, name: str, number: int) -> Perturbation:
        """Crop `number` (from 1) of a photo: nearly all of it, a little brighter or darker, in its own colours, so that
        what is said of the photo stays true."""
        chance = random.Random(zlib.crc32(f"{number} {name}".encode()))
        light = (1.0, chance.uniform(0.8, 1.2), chance.uniform(0.8, 1.2))
        return cls(_part(chance, 0.8, 1.0), mirrored=False, colour=light, erased=None)

    @property
    def fingerprint(self) -> str:
        """A short hash of all of it: what it makes of a picture can be kept by that name."""
        return f"{zlib.crc32(repr(self).encode()):08x}"

    def apply(self, picture: Image.Image) -> Image.Image:
        """The perturbed picture, in RGB and of the same size."""
        width, height = picture.size
        made = picture.convert("RGB").crop(_box(self.crop, width, height)).resize((width, height))
        made = ImageOps.mirror(made) if self.mirrored else made
        for kind, strength in zip(
            (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast), self.colour, strict=True
        ):
            made = kind(made).enhance(strength)
        if self.erased is not None:
            made.paste((128, 128, 128), _box(self.erased, width, height))
        return made


def _part(chance: random.Random, least: float, most: float) -> tuple[float, float, float, float]:
    width, height = (chance.uniform(least, most) for _ in range(2))
    return chance.uniform(0, 1 - width), chance.uniform(0, 1 - height), width, height


def _box(part: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    x, y, w, h = part
    right, bottom = max(int(x * width) + 1, round((x + w) * width)), max(int(y * height) + 1, round((y + h) * height))
    return int(x * width), int(y * height), min(width, right), min(height, bottom)


class Synonyms:
    """Words that stand close to each other among the word embeddings (V, D_t) of a text tower."""

    def __init__(self, vocabulary: Vocabulary, embeddings: Tensor, words: Sequence[str], count: int = 3) -> None:
        known = {word: vocabulary.tokenizer.token_to_id(word) for word in words if word.isalpha()}
        self.words = [word for word, index in known.items() if index is not None]
        self.places = {word: number for number, word in enumerate(self.words)}
        rows = F.normalize(embeddings[[known[word] for word in self.words]].float(), dim=1)
        cosines = rows @ rows.T
        cosines.fill_diagonal_(-1)
        self.cosines, self.near = cosines.topk(min(count, max(1, len(self.words) - 1)), dim=1)

    def replace(self, word: str, chance: random.Random) -> str:
        """A near word, or the word itself where none is near enough."""
        place = self.places.get(word.lower())
        if place is None:
            return word
        near = [index for index, cosine in zip(self.near[place], self.cosines[place], strict=True) if cosine > ALIKE]
        return self.words[int(chance.choice(near))] if near else word


def perturb_text(text: str, chance: random.Random, synonyms: Synonyms, mask: str | None) -> str:
    """Some words masked (dropped where the vocabulary has no `mask`), dropped, replaced, or moved a little.

    At least one word stays.
    """
    words = text.split()
    made = [made for word in words if (made := _perturbed(word, chance, synonyms, mask))] or words[:1]
    if chance.random() < SHUFFLED:
        order = sorted(range(len(made)), key=lambda place: place + chance.uniform(0, REACH))
        made = [made[place] for place in order]
    return " ".join(made)


def _perturbed(word: str, chance: random.Random, synonyms: Synonyms, mask: str | None) -> str | None:
    draw = chance.random()
    if draw < MASKED:
        return mask
    if draw < MASKED + DROPPED:
        return None
    return synonyms.replace(word, chance) if draw < MASKED + DROPPED + REPLACED else word
