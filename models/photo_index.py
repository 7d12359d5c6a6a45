"""Photos by what they show: embeddings in the model's shared space, kept in a file so that a photo is encoded once.

It knows bytes and their sha256, not where a photo lies. One file for every model, by the sha256 of its weights.
Shape letter: E size of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from visavis.models.checkpoint_files import weights_sha256
from visavis.models.errors import NoSharedSpace
from visavis.models.images import decode_picture
from visavis.models.loading import load_model


class PhotoIndex:
    """Embeddings (E,) by a photo's sha256, in memory; `save` writes them.

    Args:
        model_folder: the checkpoint.
        cache: the folder of the files.

    Raises:
        ModelError: the checkpoint cannot be loaded, or has no shared space (NoSharedSpace).
    """

    def __init__(self, model_folder: Path, cache: Path, device: str = "auto") -> None:
        self._model, self._processor = load_model(model_folder, device)
        if self._model.shared is None:
            raise NoSharedSpace
        self._file = cache / f"{weights_sha256(model_folder)[:16]}.safetensors"
        self._vectors = _load(self._file)
        self._saved = len(self._vectors)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._vectors

    @torch.inference_mode()
    def add(self, sha256: str, data: bytes) -> None:
        """Encode a picture under a name. Raises BadImage if its pixels are broken."""
        pixels = self._processor.pixel_values(decode_picture(data)).to(self._model.device, self._model.dtype)
        state = self._model.image_state(self._model.encode_image(pixels))
        self._vectors[sha256] = self._model.embed_pictures(state)[0].half().cpu()

    @torch.inference_mode()
    def likeness(self, text: str, photos: Sequence[str]) -> list[float]:
        """The cosine of a text and of each of the photos, which must be known."""
        if not photos:
            return []
        inputs = {name: ids.to(self._model.device) for name, ids in self._processor.encode_question(text).items()}
        wanted = self._model.embed_texts(**inputs)[0].cpu()
        known = torch.stack([self._vectors[sha256] for sha256 in photos]).float()
        return (known @ wanted).tolist()

    def save(self) -> None:
        """Write what is new; a reader never sees half of it."""
        if len(self._vectors) == self._saved:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        save_file(self._vectors, part)
        part.replace(self._file)
        self._saved = len(self._vectors)


def _load(file: Path) -> dict[str, Tensor]:
    """A file that cannot be read is made anew."""
    try:
        return load_file(file) if file.exists() else {}
    except (OSError, SafetensorError):
        return {}
