"""Folders of photos and the forms of the output."""

from pathlib import Path

import pytest

from visavis.bot.captions import csv_printer, find_photos, json_printer, line_printer

GOOD = {"image": "a.png", "caption": 'A "big" dog, here.', "confidence": None}
BAD = {"image": "b.png", "error": {"code": "bad_image", "message": "No picture."}}


def test_folders_give_their_photos_by_name_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", ".git/c.png", "sub/d.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [str(path.relative_to(tmp_path)) for path in find_photos([tmp_path])]
    assert found == ["a.png", "b.JPG", "sub/d.webp"]
    assert find_photos([tmp_path / "notes.txt", tmp_path / "missing.png"]) == [
        tmp_path / "notes.txt",
        tmp_path / "missing.png",
    ]


def test_lines_json_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    for printer in (line_printer(), json_printer()):
        printer(GOOD)
        printer(BAD)
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == 'a.png: A "big" dog, here.'
    assert err == "b.png: No picture.\n"
    assert out.splitlines()[2] == '{"image": "b.png", "error": {"code": "bad_image", "message": "No picture."}}'


def test_csv_quotes_and_starts_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    show = csv_printer()
    for result in (GOOD, BAD, {"image": "c.png", "caption": "=1+1", "confidence": 0.5}):
        show(result)
    assert capsys.readouterr().out.splitlines() == [
        "image,caption,confidence,error",
        'a.png,"A ""big"" dog, here.",,',
        "b.png,,,No picture.",
        "c.png,1+1,0.5,",
    ]
