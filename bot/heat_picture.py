"""Heat maps drawn over a photo: one tile for the whole answer and one for each word, on a sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visavis.models.generation import WordHeat

TILE = 320
LABEL = 28
COLUMNS = 4
DARKEST = 0.8
"""How much light a place loses that nobody looked at. A color over hot places would vanish on photos of that color."""
LIFT = 0.5
"""Heat is lifted by this power: a few hot cells would otherwise leave the rest of the photo in the dark."""

Rows = Sequence[Sequence[float]]


def draw_sheet(photo: Image.Image, words: Sequence[WordHeat]) -> Image.Image:
    """A tile with the mean of all maps, then one a word, `COLUMNS` in a row, each under its word."""
    mean = np.mean([word.rows for word in words], axis=0)
    tiles = [("the whole answer", mean.tolist()), *((word.word, word.rows) for word in words)]
    small = photo.convert("RGB").copy()
    small.thumbnail((TILE, TILE))
    step_x, step_y = small.width + 8, small.height + LABEL
    columns = min(COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * step_x - 8, -(-len(tiles) // columns) * step_y), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for number, (label, rows) in enumerate(tiles):
        left, top = number % columns * step_x, number // columns * step_y
        draw.text((left + 2, top + 4), label, fill="black", font=font)
        sheet.paste(overlay(small, rows), (left, top + LABEL))
    return sheet


def overlay(photo: Image.Image, rows: Rows) -> Image.Image:
    """The photo, dark but for where the map is hot."""
    heat = np.asarray(rows, dtype=np.float32)
    heat = (heat / max(float(heat.max()), 1e-9)) ** LIFT
    smooth = Image.fromarray(heat).resize(photo.size, Image.Resampling.BICUBIC)
    light = 1 - DARKEST * (1 - np.asarray(smooth).clip(0, 1))
    pixels = np.asarray(photo.convert("RGB"), dtype=np.float32) * light[..., None]
    return Image.fromarray(pixels.round().astype(np.uint8))
