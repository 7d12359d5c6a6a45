"""A checkpoint folder to a model that is ready to answer. safetensors only; every failure is one clear sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.initialization import no_init_weights
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from visavis.models import register
from visavis.models.checkpoint_files import EMBEDDED, check_folder
from visavis.models.config import VisavisConfig
from visavis.models.errors import ModelError
from visavis.models.processor import VisavisProcessor
from visavis.models.visavis_model import VisavisForConditionalGeneration
from visavis.models.weight_files import read_weights


def load_model(
    folder: Path | str = EMBEDDED,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
    *,
    read: Callable[[], dict[str, torch.Tensor]] | None = None,
) -> tuple[VisavisForConditionalGeneration, VisavisProcessor]:
    """Load, check and move.

    `read` gives what `read_weights` of the folder gives, for callers that have begun to read already.

    Raises:
        ModelError: the folder is missing or holds no visavis checkpoint, a shard is missing, corrupt or of the wrong
            shape, or the device does not exist.
    """
    folder = Path(folder)
    check_folder(folder)
    target = pick_device(device)
    register()
    try:
        weights = read_weights(folder, dtype) if read is None else read()
        model = _load_as_exported(folder, weights) or _load_by_transformers(folder, dtype)
        processor = VisavisProcessor.from_pretrained(folder, local_files_only=True)
    except ModelError:
        raise
    except Exception as error:  # transformers, safetensors and tokenizers each have errors of their own
        raise ModelError(f"the checkpoint in {folder} cannot be read: {_first_line(error)}") from error
    return model.train(False).to(target), processor


def _load_as_exported(folder: Path, weights: dict[str, torch.Tensor]) -> VisavisForConditionalGeneration | None:
    """What `export_checkpoint` wrote holds the model's own names: handing the tensors over takes a quarter of the time
    that `from_pretrained` needs for its renaming rules, and every `visavis ask` waits for it. None if names differ."""
    with no_init_weights():
        model = VisavisForConditionalGeneration(VisavisConfig.from_pretrained(folder, local_files_only=True))
    if {name: tensor.shape for name, tensor in model.state_dict().items()} != {
        name: tensor.shape for name, tensor in weights.items()
    }:
        return None
    model.load_state_dict(weights, assign=True)
    return model


def _load_by_transformers(folder: Path, dtype: torch.dtype) -> VisavisForConditionalGeneration:
    """`save_pretrained` stores some towers under the names of older releases, which `from_pretrained` translates."""
    disable_progress_bar()  # loading takes a blink; a bar would only disturb what the caller prints
    set_verbosity_error()  # what does not fit is told below, in one sentence instead of a report
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "local_files_only": True}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, info = VisavisForConditionalGeneration.from_pretrained(folder, **options)
    if wrong := [*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])]:
        raise ModelError(f"the checkpoint in {folder} does not fit its config.json: {wrong[0]} is missing or misshapen")
    loaded: VisavisForConditionalGeneration = model
    return loaded


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
