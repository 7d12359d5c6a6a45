"""Pictures that are no photos, drawn by code: documents, tables, screens, charts, diagrams, cartoons, line drawings.

They teach a model what it cannot read, and so need not be pretty but different. Each is decided by its chance alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Color = tuple[int, int, int]
Drawing = Callable[["Pen"], None]
WORDS = (
    "the of and report total year sales market value open file edit view help search home page data result table "
    "customer order invoice date name address price sum average growth plan project team next step note chapter "
    "figure method system user server error warning value return def class import print string number list"
)


class Pen:
    """A new picture, and the ways to draw on it."""

    def __init__(self, chance: random.Random, fonts: Sequence[Path]) -> None:
        self.chance, self.fonts, self.vocabulary = chance, fonts, WORDS.split()
        self.width, self.height = chance.choice(
            ((640, 480), (480, 640), (800, 600), (512, 512), (900, 500), (390, 844))
        )
        light = chance.random() < 0.75
        shade = chance.choice((255, 255, 250, 244)) if light else chance.choice((18, 30, 40))
        self.paper: Color = (shade, shade, min(255, shade + chance.choice((0, 0, 6))))
        self.ink: Color = (20, 20, 24) if light else (225, 228, 232)
        self.image = Image.new("RGB", (self.width, self.height), self.paper)
        self.draw = ImageDraw.Draw(self.image)

    def color(self) -> Color:
        """Any, rather saturated."""
        red, green, blue = (self.chance.choice((20, 60, 110, 160, 200, 240)) for _ in range(3))
        return red, green, blue

    def font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """One of the fonts, or Pillow's own."""
        if self.fonts and self.chance.random() < 0.85:
            return ImageFont.truetype(str(self.chance.choice(self.fonts)), size)
        return ImageFont.load_default(size)

    def words(self, count: int) -> str:
        """Words without a meaning."""
        return " ".join(self.chance.choice(self.vocabulary) for _ in range(count)).capitalize()

    def text(self, x: float, y: float, count: int, size: int, color: Color | None = None) -> None:
        """A line of words."""
        self.draw.text((x, y), self.words(count), fill=color or self.ink, font=self.font(size))


def draw_nonphoto(chance: random.Random, fonts: Sequence[Path] = (), photo: Image.Image | None = None) -> Image.Image:
    """One picture. A `photo` may become a sketch or a poster of itself, or a small part of a screen."""
    pen = Pen(chance, fonts)
    if photo is not None and chance.random() < 0.35:
        return chance.choice((_sketch, _poster, _cartoon))(photo.convert("RGB"), chance)
    kind = chance.choice(KINDS)
    kind(pen)
    if photo is not None and kind in (_document, _screen) and chance.random() < 0.4:
        side = min(pen.width, pen.height) // chance.choice((3, 4, 5))
        pen.image.paste(photo.convert("RGB").resize((side, side)), (pen.width - side - 20, pen.height // 3))
    return pen.image


def _document(pen: Pen) -> None:
    size, margin = pen.chance.randint(10, 26), pen.chance.randint(15, 70)
    pen.text(margin, margin, 4, size * 2)
    y = margin + size * 4.0
    font = pen.font(size)
    while y < pen.height - margin:
        count = max(2, int((pen.width - 2 * margin) / (size * 3.4)))
        if pen.chance.random() < 0.88:
            pen.draw.text((margin, y), pen.words(count), fill=pen.ink, font=font)
        y += size * 1.5


def _table(pen: Pen) -> None:
    rows, columns, size = pen.chance.randint(5, 16), pen.chance.randint(3, 7), pen.chance.randint(10, 18)
    high, wide = pen.height / (rows + 1), pen.width / columns
    head = pen.color()
    pen.draw.rectangle((0, 0, pen.width, high), fill=head)
    for row in range(rows + 1):
        pen.draw.line((0, row * high, pen.width, row * high), fill=(170, 170, 170))
        for column in range(columns):
            said = pen.words(1) if row == 0 or column == 0 else f"{pen.chance.uniform(0, 5000):,.2f}"
            pen.draw.text((column * wide + 4, row * high + 3), said, fill=pen.ink, font=pen.font(size))
    for column in range(columns):
        pen.draw.line((column * wide, 0, column * wide, pen.height), fill=(170, 170, 170))


def _screen(pen: Pen) -> None:
    """Windows, bars, buttons, fields."""
    bar = pen.color()
    pen.draw.rectangle((0, 0, pen.width, 36), fill=bar)
    pen.text(12, 8, 3, 16, (255, 255, 255))
    side = pen.chance.choice((0, pen.width // 5, pen.width // 4))
    if side:
        pen.draw.rectangle((0, 36, side, pen.height), fill=tuple(max(0, value - 18) for value in pen.paper))
        for y in range(60, pen.height - 20, 34):
            pen.text(10, y, 1, 13)
    y = 56
    while y < pen.height - 60:
        right = pen.width - pen.chance.randint(15, max(20, pen.width // 3))
        if pen.chance.random() < 0.4:
            pen.draw.rounded_rectangle((side + 15, y, right, y + 40), 8, fill=pen.color(), outline=pen.ink)
            pen.text(side + 26, y + 10, 2, 15, (255, 255, 255))
        else:
            pen.text(side + 15, y, max(1, (right - side) // 70), pen.chance.randint(12, 20))
        y += pen.chance.randint(28, 70)


def _code(pen: Pen) -> None:
    size, depth = pen.chance.randint(11, 18), 0
    font = pen.font(size)
    for y in range(10, pen.height - size, int(size * 1.45)):
        depth = max(0, min(5, depth + pen.chance.choice((-1, 0, 0, 1))))
        x = 14.0 + depth * size * 2
        for _ in range(pen.chance.randint(0, 5)):
            word = pen.chance.choice(pen.vocabulary) + pen.chance.choice(("", "(", ") {", " =", ":", ";"))
            pen.draw.text((x, y), word, fill=pen.chance.choice((pen.ink, pen.color())), font=font)
            x += len(word) * size * 0.62 + size * 0.6


def _frame(pen: Pen) -> tuple[float, float, float, float]:
    left, top, right, low = 60.0, 60.0, pen.width - 30.0, pen.height - 50.0
    pen.text(left, 15, 4, 22)
    pen.draw.line((left, top, left, low, right, low), fill=pen.ink, width=2)
    for step in range(6):
        y = low - step * (low - top) / 6
        pen.draw.text((12, y - 8), str(step * pen.chance.choice((1, 10, 25))), fill=pen.ink, font=pen.font(13))
        if step and pen.chance.random() < 0.6:
            pen.draw.line((left, y, right, y), fill=(190, 190, 190))
    return left, top, right, low


def _bars(pen: Pen) -> None:
    left, top, right, low = _frame(pen)
    count, one_color = pen.chance.randint(3, 12), pen.color()
    wide = (right - left) / count
    varied = pen.chance.random() < 0.5
    for number in range(count):
        high = pen.chance.uniform(0.1, 1) * (low - top)
        x = left + number * wide
        pen.draw.rectangle(
            (x + wide * 0.15, low - high, x + wide * 0.85, low), fill=pen.color() if varied else one_color
        )
        pen.text(x + 2, low + 6, 1, 11)


def _lines(pen: Pen) -> None:
    left, top, right, low = _frame(pen)
    for _ in range(pen.chance.randint(1, 4)):
        y, points = pen.chance.uniform(top, low), []
        for step in range(pen.chance.randint(5, 40)):
            y = min(low, max(top, y + pen.chance.gauss(0, 25)))
            points.append((left + step * (right - left) / 40, y))
        pen.draw.line(points, fill=pen.color(), width=pen.chance.randint(1, 4))


def _pie(pen: Pen) -> None:
    pen.text(30, 15, 4, 22)
    radius = min(pen.width, pen.height) * 0.36
    x, y, start = pen.width / 2, pen.height / 2 + 15, 0.0
    while start < 360:
        end = min(360.0, start + pen.chance.uniform(15, 120))
        pen.draw.pieslice(
            (x - radius, y - radius, x + radius, y + radius), start, end, fill=pen.color(), outline=pen.paper
        )
        angle = math.radians((start + end) / 2)
        pen.text(x + radius * 1.05 * math.cos(angle), y + radius * 1.05 * math.sin(angle), 1, 12)
        start = end


def _diagram(pen: Pen) -> None:
    places = [
        (pen.chance.uniform(0.1, 0.75) * pen.width, pen.chance.uniform(0.08, 0.85) * pen.height) for _ in range(7)
    ]
    for (x, y), (u, v) in pairwise(places):
        pen.draw.line((x + 50, y + 20, u + 50, v + 20), fill=pen.ink, width=2)
    for x, y in places:
        shape = pen.chance.choice((pen.draw.rectangle, pen.draw.ellipse))
        shape((x, y, x + 110, y + 44), fill=pen.chance.choice((pen.paper, pen.color())), outline=pen.ink, width=2)
        pen.text(x + 14, y + 14, 1, 14)


def _shapes(pen: Pen) -> None:
    """Flat figures with outlines, as in children's books and clip art."""
    pen.image.paste(pen.color(), (0, 0, pen.width, pen.height))
    for _ in range(pen.chance.randint(2, 14)):
        x, y = pen.chance.uniform(0, pen.width * 0.8), pen.chance.uniform(0, pen.height * 0.8)
        w, h = pen.chance.uniform(30, pen.width * 0.6), pen.chance.uniform(30, pen.height * 0.6)
        outline = (15, 15, 15) if pen.chance.random() < 0.6 else None
        figure = pen.chance.choice(("ellipse", "rectangle", "polygon"))
        if figure == "polygon":
            corners = [(x + pen.chance.uniform(0, w), y + pen.chance.uniform(0, h)) for _ in range(3)]
            pen.draw.polygon(corners, fill=pen.color(), outline=outline)
        else:
            getattr(pen.draw, figure)((x, y, x + w, y + h), fill=pen.color(), outline=outline, width=4)


def _strokes(pen: Pen) -> None:
    """A hand with a pencil."""
    for _ in range(pen.chance.randint(4, 40)):
        x, y = pen.chance.uniform(0, pen.width), pen.chance.uniform(0, pen.height)
        angle, points = pen.chance.uniform(0, 6.3), []
        turn = pen.chance.gauss(0, 0.15)
        for _ in range(pen.chance.randint(5, 60)):
            points.append((x, y))
            angle += turn + pen.chance.gauss(0, 0.08)
            x, y = x + 9 * math.cos(angle), y + 9 * math.sin(angle)
        pen.draw.line(points, fill=pen.ink, width=pen.chance.randint(1, 5), joint="curve")


def _sketch(photo: Image.Image, chance: random.Random) -> Image.Image:
    """A photo's outlines on paper."""
    edges = ImageOps.grayscale(photo.filter(ImageFilter.GaussianBlur(chance.uniform(0.5, 1.5))))
    lines = ImageOps.invert(ImageOps.autocontrast(edges.filter(ImageFilter.FIND_EDGES), cutoff=2))
    return lines.point(lambda value: 255 if value > chance.randint(120, 215) else value).convert("RGB")


def _poster(photo: Image.Image, chance: random.Random) -> Image.Image:
    """A photo in a few flat colours."""
    smooth = photo.filter(ImageFilter.MedianFilter(7)).filter(ImageFilter.ModeFilter(7))
    return (
        ImageOps.posterize(smooth, 2) if chance.random() < 0.5 else smooth.quantize(chance.randint(4, 8)).convert("RGB")
    )


def _cartoon(photo: Image.Image, chance: random.Random) -> Image.Image:
    """Flat colours with dark outlines."""
    flat = photo.filter(ImageFilter.ModeFilter(9)).quantize(chance.randint(6, 14)).convert("RGB")
    edges = ImageOps.grayscale(photo.filter(ImageFilter.GaussianBlur(1.2))).filter(ImageFilter.FIND_EDGES)
    dark = edges.point(lambda value: 255 if value > 40 else 0)
    flat.paste((10, 10, 10), (0, 0), dark)
    return flat


KINDS: tuple[Drawing, ...] = (
    _document,
    _document,
    _table,
    _screen,
    _screen,
    _code,
    _bars,
    _lines,
    _pie,
    _diagram,
    _shapes,
    _strokes,
)
