"""Parts of a picture: cut out with their surroundings, and heat brought back to its place."""

import pytest
import torch
from PIL import Image

from visavis.models.generation import Region
from visavis.models.regions import cut_out, over_picture, widened


def test_a_region_brings_some_of_its_surroundings_and_stays_inside() -> None:
    inner = widened(Region(0.4, 0.4, 0.2, 0.1))
    assert (inner.x, inner.y) == (pytest.approx(0.376), pytest.approx(0.388))
    assert (inner.w, inner.h) == (pytest.approx(0.248), pytest.approx(0.124))
    corner = widened(Region(0.9, 0.0, 0.1, 1.0))
    assert corner.x + corner.w == pytest.approx(1) and (corner.y, corner.h) == (0, 1)


def test_a_dot_becomes_a_picture() -> None:
    assert widened(Region(0.5, 0.5, 0.001, 0.001)).w == pytest.approx(0.06)
    assert cut_out(Image.new("RGB", (3, 3)), Region(0.99, 0.99, 0.01, 0.01)).size == (1, 1)


def test_what_is_cut_out_is_what_was_meant() -> None:
    picture = Image.new("RGB", (100, 100), "white")
    picture.paste("red", (50, 50, 100, 100))
    part = cut_out(picture, Region(0.7, 0.7, 0.2, 0.2))
    assert part.getcolors() == [(part.width * part.height, (255, 0, 0))]


def test_heat_comes_back_to_its_place() -> None:
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 0] = 1
    back = over_picture(maps, Region(0.55, 0.55, 0.35, 0.35))
    assert back.sum() == 1
    assert back[0, 2, 2] == 1
