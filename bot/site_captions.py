"""Missing `alt` texts of a web site's pictures: found in its HTML files, and written there when asked.

Only `<img>` tags without any `alt` are meant: `alt=""` says that a picture is decoration (WHATWG HTML, 4.8.4.4). The
only change to a file is the attribute itself; every other byte stays.
"""

from __future__ import annotations

import errno
import html
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import typer

from visavis.bot.captions import Result, captions
from visavis.bot.settings import Settings

PAGE_SUFFIXES = frozenset({".html", ".htm"})
TAG = "<img"


@dataclass(frozen=True)
class MissingAlt:
    """An `<img>` of `page` without `alt`: where its tag begins (by character and line), and the picture's file."""

    page: Path
    start: int
    line: int
    photo: Path


async def caption_site(settings: Settings, site: Path, *, write: bool) -> bool:
    """Print what each missing `alt` would say and, with `write`, put it in; True if every picture could be read.

    Raises:
        NotADirectoryError: `site` is no folder. OSError: a file cannot be read or written.
        ModelNotFound, ModelError: the model cannot be used at all.
    """
    missing = list(missing_alts(site))
    photos = list(dict.fromkeys(item.photo for item in missing))
    said: dict[str, Result] = {}
    all_well = not photos or await captions(settings, photos, lambda result: said.update({result["image"]: result}))
    alts = {path: result["caption"] for path, result in said.items() if result.get("caption")}
    for item in missing:
        typer.echo(f"{item.page.relative_to(site)}:{item.line}: {item.photo.name}: {_outcome(said[str(item.photo)])}")
    if write:
        count = sum(_write(page, alts, site) for page in dict.fromkeys(item.page for item in missing))
        typer.echo(f"{count} alt texts written", err=True)
    else:
        count = sum(str(item.photo) in alts for item in missing)
        typer.echo(f"{count} alt texts would be written; --write does it", err=True)
    return all_well


def _outcome(result: Result) -> str:
    return str(result["error"]["message"] if "error" in result else result["caption"])


def missing_alts(site: Path) -> Iterator[MissingAlt]:
    """All of a site, page by page; pictures of other hosts, or outside the site's folder, are not meant.

    Raises:
        NotADirectoryError: `site` is no folder. OSError: a page cannot be read.
    """
    if not site.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a folder", str(site))
    root = site.resolve()
    for page in sorted(path for path in site.rglob("*") if path.suffix.lower() in PAGE_SUFFIXES and path.is_file()):
        if not page.is_symlink():
            yield from _missing_in(page, read_page(page), root)


def _missing_in(page: Path, text: str, root: Path) -> Iterator[MissingAlt]:
    for start, line, source in bare_images(text):
        photo = _local_file(source, page, root)
        if photo is not None:
            yield MissingAlt(page, start, line, photo)


def read_page(page: Path) -> str:
    """The text of a page, of whatever encoding: bytes that are not UTF-8 survive a round trip."""
    return page.read_bytes().decode("utf-8", "surrogateescape")


def bare_images(text: str) -> list[tuple[int, int, str]]:
    """(start, line, `src`) of every `<img>` that has a `src` and no `alt`; none in comments, scripts or templates."""
    finder = _ImageFinder(text)
    finder.feed(text)
    finder.close()
    return finder.found


class _ImageFinder(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[int, int, str]] = []
        self._lines = [0, *(index + 1 for index, char in enumerate(text) if char == "\n")]

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        source = values.get("src")
        if tag == "img" and "alt" not in values and source:
            line, column = self.getpos()
            self.found.append((self._lines[line - 1] + column, line, source))


def _local_file(source: str, page: Path, root: Path) -> Path | None:
    """The picture's file inside the site: `/a.png` counts from its root, `a.png` from the page."""
    try:
        address = urlsplit(source.strip())
        if address.scheme or address.netloc or not address.path:
            return None
        path = unquote(address.path)
        file = (root / path.lstrip("/") if path.startswith("/") else page.resolve().parent / path).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None
    except (ValueError, OSError):  # a broken address, a NUL in a name, a name too long
        return None


def _write(page: Path, alts: Mapping[str, str], site: Path) -> int:
    """How many were written. The page is read again: it may have changed while the model looked at the pictures."""
    text = read_page(page)
    places = {
        item.start: alts[str(item.photo)] for item in _missing_in(page, text, site.resolve()) if str(item.photo) in alts
    }
    if places:
        _replace(page, with_alts(text, places))
    return len(places)


def with_alts(text: str, places: Mapping[int, str]) -> str:
    """The page with an `alt` in the tags that begin at `places`."""
    for start in sorted(places, reverse=True):
        end = start + len(TAG)
        alt = html.escape(places[start]).encode("ascii", "xmlcharrefreplace").decode()  # fits any encoding
        text = f'{text[:end]} alt="{alt}"{text[end:]}'
    return text


def _replace(page: Path, text: str) -> None:
    """A reader of the page never sees half of it; its permissions stay."""
    part = page.with_name(f".{page.name}.part")
    part.write_bytes(text.encode("utf-8", "surrogateescape"))
    shutil.copymode(page, part)
    os.replace(part, page)
