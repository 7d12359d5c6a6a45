"""Missing alt texts: which tags are meant, which files may be read, and that nothing else in a page changes."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from visavis.bot import site_captions
from visavis.bot.cli import app
from visavis.bot.site_captions import bare_images, missing_alts, read_page, with_alts

PAGE = b"""<!doctype html>\r
<!-- <img src="red.png"> --><script>let a = '<img src="red.png">'</script>
<p>caf\xe9 &amp; <IMG SRC=red.png><img src="red.png" alt=""><img alt src="red.png"><img
  class="wide" src='pics/%62lue.png?v=1#top' />
<img src="https://example.com/x.png"><img src="//example.com/x.png"><img src="data:image/png;base64,AA">
<img src="../outside.png"><img src="missing.png"><img src="http://[broken"><img><img src="/pics/blue.png">
"""


def picture(file: Path, color: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(data, "PNG")
    file.write_bytes(data.getvalue())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    picture(folder / "red.png", "red")
    picture(folder / "pics" / "blue.png", "blue")
    picture(tmp_path / "outside.png", "green")
    (folder / "index.html").write_bytes(PAGE)
    os.chmod(folder / "index.html", 0o640)
    return folder


def test_only_tags_without_alt_are_meant_and_only_files_of_the_site(site: Path) -> None:
    found = [(item.line, item.photo.name) for item in missing_alts(site)]
    assert found == [(3, "red.png"), (3, "blue.png"), (6, "blue.png")]


def test_an_alt_is_all_that_changes() -> None:
    text = PAGE.decode("utf-8", "surrogateescape")
    places = {start: 'a "red" <b> & more' for start, _, _ in bare_images(text)[:2]}
    changed = with_alts(text, places)
    added = ' alt="a &quot;red&quot; &lt;b&gt; &amp; more"'
    assert changed.count(added) == 2
    assert changed.replace(added, "") == text
    assert f"<IMG{added} SRC=red.png>" in changed


def test_a_dry_run_touches_nothing_and_write_makes_it_so(site: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["caption", "--site", str(site)])
    assert shown.exit_code == 0, shown.output
    assert (site / "index.html").read_bytes() == PAGE
    assert "index.html:3: red.png: " in shown.stdout
    assert "3 alt texts would be written" in shown.stderr
    written = runner.invoke(app, ["caption", "--site", str(site), "--write"])
    assert written.exit_code == 0 and "3 alt texts written" in written.stderr
    assert list(missing_alts(site)) == []
    assert b"caf\xe9" in (site / "index.html").read_bytes()
    assert (site / "index.html").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in site.iterdir()) == ["index.html", "pics", "red.png"]
    again = runner.invoke(app, ["caption", "--site", str(site), "--write"])
    assert "0 alt texts written" in again.stderr


def test_a_picture_that_is_none_is_named_and_left(site: Path) -> None:
    (site / "red.png").write_bytes(b"no picture")
    result = CliRunner().invoke(app, ["caption", "--site", str(site), "--write"])
    assert result.exit_code == 1
    assert "<IMG SRC=red.png>" in read_page(site / "index.html")
    assert "2 alt texts written" in result.stderr


@pytest.mark.parametrize("flags", [[], ["--write", "a.png"], ["a.png", "--site", "b"], ["a.png", "--csv", "--json"]])
def test_flags_that_make_no_sense_together_are_refused(flags: list[str]) -> None:
    result = CliRunner().invoke(app, ["caption", *flags])
    assert result.exit_code == 2
    assert "--site FOLDER" in result.stderr


def test_letters_of_any_script_fit_any_encoding() -> None:
    changed = with_alts("<img src=a.png>", {0: "a café 猫"})
    assert changed == '<img alt="a caf&#233; &#29483;" src=a.png>'


def test_a_page_that_changed_meanwhile_is_read_again(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = site / "index.html"

    async def slow(settings: object, photos: list[Path], show: Callable[[dict[str, object]], None]) -> bool:
        page.write_bytes(b"<p>new</p>" + PAGE)
        for photo in photos:
            show({"image": str(photo), "caption": "A square.", "confidence": None})
        return True

    monkeypatch.setattr(site_captions, "captions", slow)
    result = CliRunner().invoke(app, ["caption", "--site", str(site), "--write"])
    assert result.exit_code == 0, result.output
    written = page.read_bytes()
    assert written.count(b' alt="A square."') == 3
    assert written.replace(b' alt="A square."', b"") == b"<p>new</p>" + PAGE
    assert b'<IMG alt="A square." SRC=red.png>' in written


def test_a_page_that_is_a_link_is_left(site: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.html").write_text('<img src="site/red.png">', encoding="utf-8")
    (site / "linked.html").symlink_to(tmp_path / "elsewhere.html")
    assert {item.page.name for item in missing_alts(site)} == {"index.html"}


def test_a_folder_without_photos_is_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["caption", str(tmp_path)])
    assert result.exit_code == 1 and "no photos" in result.stderr
