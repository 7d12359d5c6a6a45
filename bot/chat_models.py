"""From a model's name to its files and to a LangChain chat model.

Holds what names mean (`embedded`, a folder with a visavis checkpoint, `hf:` and somebody else's) and which files a
checkpoint needs. Loads no weights itself and imports neither torch nor transformers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from visavis.bot.settings import EMBEDDED
from visavis.models import checkpoint_files
from visavis.models.errors import ModelError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from visavis.models.chat_model import ImageSource


class ModelNotFound(ValueError):
    """A model's name means nothing here or its files are not complete; the message is one sentence."""


def model_folder(name: str) -> Path:
    """The folder of a checkpoint whose files are all there.

    Raises:
        ModelNotFound: naming the file that is missing.
    """
    folder = _folder(name)
    if not folder.is_dir():
        raise ModelNotFound(f"Unknown model {name!r}: expected `{EMBEDDED}` or the folder of a visavis checkpoint.")
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
    if name.startswith(checkpoint_files.FOREIGN):
        return Path(name.removeprefix(checkpoint_files.FOREIGN)).name
    return checkpoint_files.shown_name(_folder(name))


def _folder(name: str) -> Path:
    return checkpoint_files.EMBEDDED if name == EMBEDDED else Path(name).expanduser().absolute()


def create_chat_model(model_url: str | None, image_source: ImageSource) -> BaseChatModel:
    """The chat model of a gateway: a model server at `unix:///path.sock` or `http://host:port/v1`.

    Raises:
        ModelNotFound: without an address.
    """
    if model_url is None:
        raise ModelNotFound("A gateway needs the address of a model server in VISAVIS_MODEL_URL.")
    from visavis.models.chat_model import VisavisChatModel

    return VisavisChatModel(base_url=model_url, image_source=image_source)
