"""Loading somebody else's image-text-to-text checkpoint into an engine, or saying in one sentence what is in the way.

Weights are safetensors and the code is transformers' own: none comes with a checkpoint.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from visavis.models.chat_templates import first_line
from visavis.models.errors import ModelError
from visavis.models.loading import pick_device
from visavis.models.transformers_engine import TransformersEngine

QUANTISED = {"4bit": {"load_in_4bit": True}, "8bit": {"load_in_8bit": True}}


def load_transformers_engine(
    name: str, *, model_name: str, device: str = "auto", max_queue: int = 64, max_new_tokens: int = 256
) -> TransformersEngine:
    """The engine over a checkpoint: a folder, or a repository where transformers can reach one. `name#4bit` and
    `name#8bit` quantise it (extra `quantised`). In bfloat16 on a GPU, in float32 elsewhere.

    Raises:
        ModelError: one sentence that says what is missing.
    """
    place, _, bits = name.partition("#")
    if bits and bits not in QUANTISED:
        raise ModelError(f"expected {place}#4bit or {place}#8bit, not {name}")
    target = pick_device(device)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = _load(place, target, bits)
        processor = AutoProcessor.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # files of strangers: everything can be wrong with them
        raise ModelError(_explained(place, error)) from error
    try:
        return TransformersEngine(
            model, processor, model_name=model_name, max_queue=max_queue, max_new_tokens=max_new_tokens
        )
    except Exception as error:  # processors of strangers as well
        hint = "" if find_spec("torchvision") else "; it may need torchvision: pip install 'visavis[vision]'"
        raise ModelError(f"the processor of {place} fails on a question ({first_line(error)}){hint}") from error


def _load(place: str, device: torch.device, bits: str) -> Any:
    config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    answers = "BlipForQuestionAnswering" in (getattr(config, "architectures", None) or ())
    kind: Any = transformers.BlipForQuestionAnswering if answers else AutoModelForImageTextToText
    options: dict[str, Any] = {"dtype": torch.bfloat16 if device.type == "cuda" else torch.float32}
    if bits:
        options["quantization_config"] = transformers.BitsAndBytesConfig(**QUANTISED[bits])
        options["device_map"] = {"": device}
    model = kind.from_pretrained(place, trust_remote_code=False, use_safetensors=True, **options)
    return model if bits else model.to(device)


def _explained(place: str, error: Exception) -> str:
    words = str(error)
    if isinstance(error, ImportError) and "torchvision" in words.lower():
        return f"{place} needs torchvision: pip install 'visavis[vision]'"
    if isinstance(error, ImportError) and "bitsandbytes" in words.lower():
        return "models in 4 and 8 bits need bitsandbytes: pip install 'visavis[quantised]'"
    if Path(place).is_dir() and not list(Path(place).glob("*.safetensors")):
        return f"there are no weights in {place}: expected *.safetensors (other formats can run code and are not read)"
    if _wants_own_code(place):
        return f"{place} comes with code of its own, which is not run; only models that transformers knows are"
    return f"{place} cannot be loaded as an image-text-to-text model: {first_line(error)}"


def _wants_own_code(place: str) -> bool:
    try:
        return "auto_map" in json.loads((Path(place) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
