"""What the names of models mean: `embedded`, a folder with a visavis checkpoint, `hf:` and a checkpoint of somebody
else's, or a model that somebody else runs; and which files a checkpoint needs.

Loads no weights and imports neither torch nor transformers nor LangChain.
"""

from __future__ import annotations

import re
from pathlib import Path

from visavis.bot.providers.names import BadName, RemoteName, remote_name
from visavis.bot.settings import EMBEDDED, Settings
from visavis.models import checkpoint_files
from visavis.models.errors import ModelError


class ModelNotFound(ValueError):
    """A model's name means nothing here or its files are not complete; the message is one sentence."""


def model_folder(name: str) -> Path:
    """The folder of a checkpoint whose files are all there.

    Raises:
        ModelNotFound: naming the file that is missing.
    """
    folder = _folder(name)
    if not folder.is_dir():
        raise ModelNotFound(
            f"Unknown model {name!r}: expected `{EMBEDDED}`, the folder of a visavis checkpoint, hf:FOLDER, "
            "PROVIDER:NAME or http://HOST/v1#NAME."
        )
    try:
        checkpoint_files.check_folder(folder)
    except ModelError as error:
        message = str(error)
        raise ModelNotFound(f"{message[:1].upper()}{message[1:]}.") from error
    return folder


def model_place(name: str) -> str:
    """What a model server is told to load: the folder of a checkpoint of ours, or `hf:` with a folder or a repository.

    Raises:
        ModelNotFound: naming what is missing.
    """
    if (elsewhere := remote(name)) is not None:
        raise ModelNotFound(f"{elsewhere.shown} is asked by `visavis serve` alone; this command runs a model here.")
    if not name.startswith(checkpoint_files.FOREIGN):
        return str(model_folder(name))
    place, mark, bits = name.removeprefix(checkpoint_files.FOREIGN).partition("#")
    folder = Path(place).expanduser().absolute()
    if (folder / "config.json").is_file():
        return f"{checkpoint_files.FOREIGN}{folder}{mark}{bits}"
    if folder.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", place):
        raise ModelNotFound(f"There is no checkpoint in {place}: expected a folder with a config.json.")
    return name


def shown_name(name: str) -> str:
    """What people read as the model's name: no path of the machine leaves it."""
    if (elsewhere := remote(name)) is not None:
        return elsewhere.shown
    if name.startswith(checkpoint_files.FOREIGN):
        return Path(name.removeprefix(checkpoint_files.FOREIGN)).name
    return checkpoint_files.shown_name(_folder(name))


def _folder(name: str) -> Path:
    return checkpoint_files.EMBEDDED if name == EMBEDDED else Path(name).expanduser().absolute()


def remote(name: str) -> RemoteName | None:
    """What a name means that is somebody else's model (`provider:name`, `http://host/v1#name`); None for one of ours.

    Raises:
        ModelNotFound: it only looks like one.
    """
    if _folder(name).is_dir():
        return None
    try:
        return remote_name(name)
    except BadName as error:
        raise ModelNotFound(str(error)) from error


def named_models(settings: Settings) -> tuple[str, ...]:
    """All models that the settings name, the default one first, each once.

    Raises:
        ModelNotFound: two of them would be called the same.
    """
    names = tuple(dict.fromkeys([settings.model, *settings.more_models, *settings.fallback]))
    shown = [shown_name(name) for name in names]
    if twice := next((name for name in shown if shown.count(name) > 1), None):
        raise ModelNotFound(f"Two models would be called {twice}; rename the folder of one.")
    return names


def told_at_start(settings: Settings) -> list[str]:
    """What is different with models of somebody else's, and which reads no instructions, a sentence each; LangChain,
    which takes a second to import, is imported for those alone.

    Raises:
        ModelNotFound: one of them cannot be used.
    """
    ours_alone = all(remote(name) is None for name in named_models(settings))
    if ours_alone and not settings.fallback and not settings.instructions:
        return []
    from visavis.bot.model_offer import start_lines

    return start_lines(settings)
