"""A checkpoint folder to a model that is ready to answer. safetensors only; every failure is one clear sentence."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.initialization import no_init_weights

from visavis.models import register
from visavis.models.checkpoint_files import EMBEDDED, check_folder
from visavis.models.config import VisavisConfig
from visavis.models.errors import ModelError
from visavis.models.processor import VisavisProcessor
from visavis.models.visavis_model import VisavisForConditionalGeneration
from visavis.models.weight_files import read_weights


def load_model(
    folder: Path | str = EMBEDDED, device: str = "auto", dtype: torch.dtype = torch.float32
) -> tuple[VisavisForConditionalGeneration, VisavisProcessor]:
    """Load, check and move.

    `from_pretrained` reads the same files, but takes four times as long over renaming rules that do not concern this
    model: time that every `visavis ask` would wait.

    Raises:
        ModelError: the folder is missing or holds no visavis checkpoint, a shard is missing, corrupt or of the wrong
            shape, or the device does not exist.
    """
    folder = Path(folder)
    check_folder(folder)
    target = pick_device(device)
    register()
    try:
        config = VisavisConfig.from_pretrained(folder, local_files_only=True)
        weights = read_weights(folder, dtype, target)
        processor = VisavisProcessor.from_pretrained(folder, local_files_only=True)
        with no_init_weights():
            model = VisavisForConditionalGeneration(config)
    except Exception as error:  # transformers, safetensors and tokenizers each have errors of their own
        raise ModelError(f"the checkpoint in {folder} cannot be read: {_first_line(error)}") from error
    _assign(model, weights, folder)
    return model.train(False).to(target), processor


def _assign(model: VisavisForConditionalGeneration, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Hand the weights over; nothing may be left as it was born, as memory that nobody has written."""
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if wrong := [name for name, shape in wanted.items() if found.get(name) != shape]:
        raise ModelError(f"the checkpoint in {folder} does not fit its config.json: {wrong[0]} is missing or misshapen")
    model.load_state_dict({name: weights[name] for name in wanted}, assign=True)


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
