"""From a model's name to its files and to a LangChain chat model.

Holds what names mean (`embedded`, or a folder with a visavis checkpoint) and which files a checkpoint needs. Loads no
weights itself and imports neither torch nor transformers.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

from visavis.bot.settings import EMBEDDED

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from visavis.models.chat_model import ImageSource

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"


class ModelNotFound(ValueError):
    """A model's name means nothing here or its files are not complete; the message is one sentence."""


def model_folder(name: str) -> Path:
    """The folder of a checkpoint whose files are all there.

    Raises:
        ModelNotFound: naming the file that is missing.
    """
    folder = embedded_folder() if name == EMBEDDED else Path(name).expanduser().absolute()
    if not folder.is_dir():
        raise ModelNotFound(f"Unknown model {name!r}: expected `{EMBEDDED}` or the folder of a visavis checkpoint.")
    missing = missing_files(folder)
    if missing:
        raise ModelNotFound(f"The model file {folder / missing[0]} is missing; install visavis again or pass --model.")
    return folder


def embedded_folder() -> Path:
    """Where the shipped checkpoint lies (the package is located, not imported)."""
    spec = importlib.util.find_spec("visavis.models")
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0] if locations else "models") / "weights"


def missing_files(folder: Path) -> list[str]:
    """Names of the files that a checkpoint in this folder would need and lacks."""
    return [name for name in (CONFIG, *_weight_files(folder)) if not (folder / name).is_file()]


def _weight_files(folder: Path) -> list[str]:
    index = folder / WEIGHTS_INDEX
    if not index.is_file():
        return [WEIGHTS]
    return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))


def shown_name(model: str) -> str:
    """What people read as the model's name: no path of the machine leaves it."""
    return "visavis-embedded" if model == EMBEDDED else model.rstrip("/").rpartition("/")[2]


def create_chat_model(model_url: str | None, image_source: ImageSource) -> BaseChatModel:
    """The chat model of a gateway: a model server at `unix:///path.sock` or `http://host:port/v1`.

    Raises:
        ModelNotFound: without an address.
    """
    if model_url is None:
        raise ModelNotFound("A gateway needs the address of a model server in VISAVIS_MODEL_URL.")
    from visavis.models.chat_model import VisavisChatModel

    return VisavisChatModel(base_url=model_url, image_source=image_source)
