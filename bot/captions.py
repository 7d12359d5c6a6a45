"""Captions of many photos in process, one result after another; a bad photo does not stop the others."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress

from visavis.bot.local_chat import LocalConversation, MemoryImages, open_engine
from visavis.bot.settings import Settings
from visavis.dialogue.errors import DialogueError, ErrorCode

Result = dict[str, Any]
Show = Callable[[Result], None]
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})


async def captions(settings: Settings, photos: Sequence[Path], show: Show, *, beams: int = 1) -> bool:
    """Give `{image, caption, confidence}` or `{image, error: {code, message}}` for every photo; True if all went well.

    With several `beams` captions are searched for, which takes longer and finds likelier ones.

    Raises:
        ModelNotFound, ModelError: the model cannot be used at all.
    """
    images = MemoryImages(settings.limits.image)
    all_well = True
    with open_engine(settings) as engine, progress(len(photos), "captions") as advance:
        for photo in photos:
            images.clear()
            result = await _caption(LocalConversation(engine, images, beams), photo)
            all_well &= "error" not in result
            show(result)
            advance()
    return all_well


async def _caption(conversation: LocalConversation, photo: Path) -> Result:
    try:
        pieces = [piece async for piece in conversation.ask("", [conversation.images.add(photo)])]
    except OSError as error:
        return {"image": str(photo), "error": {"code": ErrorCode.BAD_IMAGE, "message": f"{error.strerror}."}}
    except DialogueError as error:
        return {"image": str(photo), "error": {"code": error.code, "message": str(error)}}
    confidence = conversation.last.confidence if conversation.last else None
    return {"image": str(photo), "caption": "".join(pieces).strip(), "confidence": confidence}


def find_photos(paths: Sequence[Path]) -> list[Path]:
    """Files as they are given; of a folder all photos in it and below, by name, without hidden ones."""
    return [photo for path in paths for photo in (_photos_in(path) if path.is_dir() else [path])]


def _photos_in(folder: Path) -> list[Path]:
    below = (path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())
    return sorted(path for path in below if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def line_printer() -> Show:
    """A line a photo; what failed goes to standard error."""
    return lambda result: typer.echo(
        f"{result['image']}: {result['error']['message'] if 'error' in result else result['caption']}",
        err="error" in result,
    )


def json_printer() -> Show:
    """A JSON object a line."""
    return lambda result: typer.echo(json.dumps(result, ensure_ascii=False))


def csv_printer() -> Show:
    """Comma-separated values with a header; spreadsheets must not take a caption for a formula, so none begins one."""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["image", "caption", "confidence", "error"])

    def show(result: Result) -> None:
        error = result.get("error", {}).get("message", "")
        rows.writerow([result["image"], result.get("caption", "").lstrip("=+-@"), result.get("confidence"), error])
        sys.stdout.flush()

    return show


@contextlib.contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[], object]]:
    """A bar on standard error for several photos, where that is a terminal; results still go to standard output."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)
