"""What `visavis search` does: the photos of folders, the likest to a text first; each photo is encoded once, ever."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from visavis.bot.captions import progress
from visavis.bot.chat_models import model_folder
from visavis.bot.settings import Settings
from visavis.dialogue.errors import DialogueError
from visavis.dialogue.images import normalise_image
from visavis.models.photo_index import PhotoIndex
from visavis.models.text_checks import bounded_text

SAVE_EVERY = 100


def search(settings: Settings, photos: Sequence[Path], text: str, count: int, *, as_json: bool) -> bool:
    """Print the `count` likest photos with their cosine; True if all photos could be read.

    Embeddings are kept in the data folder. What is interrupted goes on where it was.

    Raises:
        ModelNotFound, ModelError: the model cannot be used, or has no shared space. BadRequest: the text is too long.
    """
    wanted = bounded_text(text)
    index = PhotoIndex(model_folder(settings.model), settings.data_dir / "search", settings.device)
    names: dict[Path, str] = {}
    with _saved(index), progress(len(photos), "photos") as advance:
        for number, photo in enumerate(photos, 1):
            if (sha256 := _add(index, photo, settings)) is not None:
                names[photo] = sha256
            if number % SAVE_EVERY == 0:
                index.save()
            advance()
    cosines = index.likeness(wanted, list(names.values()))
    for cosine, photo in sorted(zip(cosines, names, strict=True), reverse=True)[:count]:
        typer.echo(json.dumps({"image": str(photo), "likeness": cosine}) if as_json else f"{cosine:.3f}  {photo}")
    return len(names) == len(photos)


@contextlib.contextmanager
def _saved(index: PhotoIndex) -> Iterator[None]:
    try:
        yield
    finally:
        index.save()


def _add(index: PhotoIndex, photo: Path, settings: Settings) -> str | None:
    """The photo's name in the index; None, and a line on standard error, if it cannot be read."""
    try:
        data = photo.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in index:
            index.add(sha256, normalise_image(data, settings.limits.image).data)
        return sha256
    except OSError as error:
        typer.echo(f"{photo}: {error.strerror}.", err=True)
    except DialogueError as error:
        typer.echo(f"{photo}: {error}", err=True)
    return None
