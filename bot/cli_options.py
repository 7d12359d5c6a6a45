"""What the commands share: common flags, reading the settings, turning errors into a sentence and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from visavis.bot.settings import Settings
    from visavis.models.generation import Region

T = TypeVar("T")
Model = Annotated[
    str | None,
    typer.Option(help="`embedded` (default), the folder of a visavis checkpoint, or hf:FOLDER. [VISAVIS_MODEL]"),
]
Beams = Annotated[int, typer.Option(min=1, max=16, help="Search for the likeliest caption among so many; 1 is quick.")]
Device = Annotated[str | None, typer.Option(help="auto (default), cpu, cuda or mps. [VISAVIS_DEVICE]")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where conversations are kept; ~/.local/share/visavis. [VISAVIS_DATA_DIR]")
]
RedisUrl = Annotated[
    str | None, typer.Option(help="A Redis or Valkey to use instead of the embedded one. [VISAVIS_REDIS_URL]")
]


def read_settings(**flags: object) -> Settings:
    """The settings of the environment and the given flags; a wrong one ends the command with exit code 2."""
    from visavis.bot.settings import SettingsError, load_settings

    try:
        return load_settings(**flags)
    except SettingsError as error:
        fail(str(error), code=2)


def read_region(text: str | None) -> Region | None:
    """`x,y,w,h` as shares of the picture; anything else ends the command with exit code 2."""
    if text is None:
        return None
    from visavis.models.errors import BadRequest
    from visavis.models.generation import Region

    try:
        x, y, w, h = (float(part) for part in text.split(","))
        return Region(x, y, w, h)
    except (ValueError, BadRequest):
        fail(f"A part of the photo is four shares x,y,w,h between 0 and 1 that lie inside it, not {text!r}.", code=2)


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` (the import costs half of what `--help` takes), but Ctrl-C ends what runs at once: asyncio's own
    handler would wait until a model is loaded."""
    import asyncio
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # only the main thread has signals
        signal.signal(signal.SIGINT, interrupt)
    return asyncio.run(work)


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Errors that name what the user can do become one sentence and exit code 1 (2 for a model that is not there)."""
    from visavis.bot.chat_models import ModelNotFound
    from visavis.dialogue.errors import DialogueError
    from visavis.models.errors import ModelError

    try:
        yield
    except ModelNotFound as error:
        fail(str(error), code=2)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (DialogueError, ModelError, ConnectionError) as error:
        fail(str(error), code=1)
    except OSError as error:
        if error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}.", code=1)
    except KeyboardInterrupt:
        sys.stdout.flush()
        os._exit(130)  # a thread that still waits for a line of input would stop an orderly exit


def fail(sentence: str, *, code: int) -> NoReturn:
    """End the command with a sentence on standard error."""
    typer.echo(f"visavis: {sentence}", err=True)
    raise typer.Exit(code)


def leave(code: object) -> NoReturn:
    """End the process at once: taking torch apart in good order costs an answer a sixth of a second, for nothing."""
    status = code if isinstance(code, int) else int(code is not None)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more
        status = status or 1
    os._exit(status)
