"""`visavis search`: the likest photo first, each photo looked at once, bad ones told; the index is scripted."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from visavis.bot import search
from visavis.bot.cli import app
from visavis.models.errors import NoSharedSpace

COSINES = {"red": 0.9, "green": 0.1, "blue": 0.5}


class ScriptedIndex:
    """Knows photos by their red, green or blue; remembers over searches."""

    known: dict[str, str] = {}  # noqa: RUF012
    added = 0

    def __init__(self, model: Path, cache: Path, device: str) -> None:
        self.cache = cache

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self.known

    def add(self, sha256: str, data: bytes) -> None:
        import io

        pixel = Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))
        assert isinstance(pixel, tuple)
        self.known[sha256] = ("red", "green", "blue")[pixel.index(max(pixel))]
        type(self).added += 1

    def likeness(self, text: str, photos: list[str]) -> list[float]:
        return [COSINES[self.known[sha256]] for sha256 in photos]

    def save(self) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(search, "PhotoIndex", type("Index", (ScriptedIndex,), {"known": {}}))
    monkeypatch.setenv("VISAVIS_DATA_DIR", str(tmp_path / "data"))
    for color in COSINES:
        Image.new("RGB", (8, 8), color).save(tmp_path / f"{color}.png")
    return tmp_path


def test_the_likest_photo_comes_first_and_none_is_looked_at_twice(folder: Path) -> None:
    for _ in range(2):
        said = CliRunner().invoke(app, ["search", str(folder), "a red dog", "--count", "2"])
        assert said.exit_code == 0
        assert said.stdout == f"0.900  {folder}/red.png\n0.500  {folder}/blue.png\n"
        assert said.stderr == ""
    assert search.PhotoIndex.added == 3
    assert (folder / "data/search").is_dir()


def test_json_and_photos_that_cannot_be_read(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG no picture")
    said = CliRunner().invoke(app, ["search", str(folder), "a red dog", "--json"])
    assert said.exit_code == 1
    rows = [json.loads(line) for line in said.stdout.splitlines()]
    assert rows[0] == {"image": f"{folder}/red.png", "likeness": 0.9} and len(rows) == 3
    assert said.stderr.startswith(f"{folder}/broken.png: ")


def test_a_model_that_cannot_search_and_a_folder_without_photos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NoSharedSpace

    (folder / "empty").mkdir()
    said = CliRunner().invoke(app, ["search", str(folder / "empty"), "a dog"])
    assert (said.exit_code, said.stderr) == (1, "visavis: there are no photos in that folder\n")
    monkeypatch.setattr(search, "PhotoIndex", refuse)
    said = CliRunner().invoke(app, ["search", str(folder), "a dog"])
    assert said.exit_code == 1
    assert "no shared space of pictures and texts" in said.stderr
    said = CliRunner().invoke(app, ["search", str(folder), "dog " * 5000])
    assert (said.exit_code, said.stderr) == (1, "visavis: a text may have 16000 characters, this one has 20000\n")
