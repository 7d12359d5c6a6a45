"""A checkpoint folder to a model that is ready to answer. safetensors only; every failure is one clear sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from visavis.models.checkpoint_files import EMBEDDED, check_folder
from visavis.models.config import ModelConfig
from visavis.models.errors import ModelError
from visavis.models.processor import Processor
from visavis.models.tower_configs import TowerConfig
from visavis.models.visavis_model import VisavisModel
from visavis.models.weight_files import read_weights


def load_model(
    folder: Path | str = EMBEDDED,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
    *,
    read: Callable[[], Mapping[str, Tensor]] | None = None,
) -> tuple[VisavisModel, Processor]:
    """Load, check and move; transformers is not imported unless a tower comes from there.

    `read` gives what `read_weights` of the folder gives, for callers that have begun to read already.

    Raises:
        ModelError: the folder is missing or holds no visavis checkpoint, a shard is missing, corrupt or of the wrong
            shape, or the device does not exist.
    """
    folder = Path(folder)
    check_folder(folder)
    target = pick_device(device)
    try:
        config = ModelConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        weights = read_weights(folder, dtype) if read is None else read()
        model, processor = _build(config, weights, folder), Processor.load(folder)
    except ModelError:
        raise
    except Exception as error:  # safetensors, tokenizers and transformers each have errors of their own
        raise ModelError(f"the checkpoint in {folder} cannot be read: {_first_line(error)}") from error
    return model.train(False).to(target), processor


def _build(config: ModelConfig, weights: Mapping[str, Tensor], folder: Path) -> VisavisModel:
    """The weights become the model's parameters: nothing is drawn at random first, nothing copied."""
    with _Unfilled():
        model = VisavisModel(config)
    wanted = model.state_dict()
    wrong = [name for name, value in wanted.items() if name not in weights or weights[name].shape != value.shape]
    if wrong and not all(isinstance(tower, TowerConfig) for tower in (config.vision, config.text)):
        from visavis.models.transformers_towers import translated

        return translated(folder)
    if wrong:
        raise ModelError(f"the checkpoint in {folder} does not fit its config.json: {wrong[0]} is missing or misshapen")
    model.load_state_dict({name: weights[name] for name in wanted}, assign=True)
    return model


class _Unfilled(TorchFunctionMode):
    """New parameters stay as memory has them, since a checkpoint takes their place. (The meta device does the same, but
    drawing numbers on it imports torch's compiler.)"""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


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
