"""Which files a checkpoint folder needs. Knows neither torch nor transformers: a server can refuse before it loads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from visavis.models.errors import ModelError

EMBEDDED = Path(__file__).parent / "weights"
EMBEDDED_NAME = "visavis-embedded"
FOREIGN = "hf:"  # begins the name of a model that is not one of ours


def check_folder(folder: Path) -> None:
    """Look at names and the kind of model only.

    Raises:
        ModelError: no folder, no config, another kind of model, or a shard that the index names is not there.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"there is no visavis checkpoint in {folder}: config.json is missing")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"there is no visavis checkpoint in {folder}: config.json cannot be read") from error
    if config.get("model_type") != "visavis":
        raise ModelError(f"{folder} holds a {config.get('model_type')!r} model, expected 'visavis'")
    if missing := [name for name in shard_names(folder) if not (folder / name).exists()]:
        raise ModelError(f"the model file {folder / missing[0]} is missing")


def shard_names(folder: Path) -> list[str]:
    """The safetensors files that a checkpoint needs, in name order."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return ["model.safetensors"]
    return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))


def shown_name(folder: Path) -> str:
    """What people read as the model's name: no path of the machine leaves it."""
    return EMBEDDED_NAME if folder.resolve() == EMBEDDED.resolve() else folder.resolve().name


def weights_sha256(folder: Path) -> str:
    """The sha256 of all shards in order of name: what a checkpoint is, whatever it is called."""
    digest = hashlib.sha256()
    for name in shard_names(folder):
        with (folder / name).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
