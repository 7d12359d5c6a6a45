"""Heat over a photo: what was looked at stays as it is, the rest is dark."""

import numpy as np
from PIL import Image

from visavis.bot.heat_picture import COLUMNS, draw_sheet, overlay
from visavis.models.generation import WordHeat


def test_only_hot_places_keep_their_light() -> None:
    photo = Image.new("RGB", (64, 64), (10, 20, 200))
    rows = [[0.0] * 8 for _ in range(8)]
    rows[0][0] = 0.4
    drawn = np.asarray(overlay(photo, rows)).astype(int)
    assert drawn.shape == (64, 64, 3)
    assert drawn[60, 60].tolist() == [2, 4, 40]
    assert drawn[1, 1].tolist() == [10, 20, 200]


def test_a_map_without_heat_is_no_error() -> None:
    photo = Image.new("RGB", (10, 10), "white")
    assert overlay(photo, [[0.0, 0.0], [0.0, 0.0]]).getpixel((5, 5)) == (51, 51, 51)


def test_a_sheet_holds_a_tile_a_word_and_one_for_all() -> None:
    words = [WordHeat(word, 0, len(word), ((1.0, 0.0), (0.0, 0.0))) for word in ["one", "two", "three", "four"]]
    sheet = draw_sheet(Image.new("RGB", (1000, 500), "blue"), words)
    assert sheet.size == (COLUMNS * 328 - 8, 2 * (160 + 28))
