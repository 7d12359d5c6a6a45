"""A checkpoint folder to a model that is ready to answer. safetensors only; every failure is one clear sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from visavis.models import register
from visavis.models.errors import ModelError
from visavis.models.processor import VisavisProcessor
from visavis.models.visavis_model import VisavisForConditionalGeneration

EMBEDDED = Path(__file__).parent / "weights"


def load_model(
    folder: Path | str = EMBEDDED, device: str = "auto", dtype: torch.dtype = torch.float32
) -> tuple[VisavisForConditionalGeneration, VisavisProcessor]:
    """Load, check and move.

    Raises:
        ModelError: the folder is missing or holds no visavis checkpoint, a shard is missing, corrupt or of the wrong
            shape, or the device does not exist.
    """
    folder = Path(folder)
    check_folder(folder)
    target = pick_device(device)
    register()
    disable_progress_bar()  # loading takes a blink; a bar would only disturb what the caller prints
    set_verbosity_error()  # what does not fit is told below, in one sentence instead of a report
    try:
        options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "local_files_only": True}
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        loaded: Any = VisavisForConditionalGeneration.from_pretrained(folder, **options)
        processor = VisavisProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers, safetensors and tokenizers each have errors of their own
        raise ModelError(f"the checkpoint in {folder} cannot be read: {_first_line(error)}") from error
    model, info = loaded
    if wrong := [*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])]:
        raise ModelError(f"the checkpoint in {folder} does not fit its config.json: {wrong[0]} is missing or misshapen")
    return model.eval().to(target), processor


def check_folder(folder: Path) -> None:
    """Cheap checks that need no torch, so that a server can refuse before it starts anything.

    Raises:
        ModelError: no folder, no config, another kind of model, or a shard that the index names is not there.
    """
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


def pick_device(name: str) -> torch.device:
    """`auto` takes a GPU where torch finds one.

    Raises:
        ModelError: an unknown name, or a device that this machine does not have.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        there = ", ".join(kind for kind, yes in available.items() if yes)
        raise ModelError(f"the device {name!r} is not available here; there is {there}")
    return torch.device(name)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
