"""Photos are encoded once for a model, found by likeness, and a model without the space says so."""

from pathlib import Path

import pytest
import tiny_checkpoint
import torch

from visavis.models.errors import BadImage, ModelError
from visavis.models.loading import load_model
from visavis.models.photo_index import PhotoIndex
from visavis.models.processor import Processor
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel


@pytest.fixture
def checkpoint(tiny_processor: Processor, tmp_path: Path) -> Path:
    export_checkpoint(tiny_checkpoint.tiny_model(tiny_processor, shared={"size": 8}), tiny_processor, tmp_path / "m")
    return tmp_path / "m"


def index_of(checkpoint: Path, tmp_path: Path) -> PhotoIndex:
    return PhotoIndex(checkpoint, tmp_path / "cache", "cpu")


def test_likeness_is_the_cosine_in_the_shared_space(checkpoint: Path, tmp_path: Path) -> None:
    index = index_of(checkpoint, tmp_path)
    pictures = {color: tiny_checkpoint.drawn_picture(color) for color in ("red", "blue")}
    for color, data in pictures.items():
        index.add(color, data)
    model, processor = load_model(checkpoint, "cpu")
    with torch.inference_mode():
        pixels = processor.pixel_values([tiny_checkpoint.picture_of(data) for data in pictures.values()])
        seen = model.embed_pictures(model.image_state(model.encode_image(pixels)))
        expected = seen @ model.embed_texts(**processor.encode_question("a red dog"))[0]
    assert index.likeness("a red dog", ["red", "blue"]) == pytest.approx(expected.tolist(), abs=2e-3)
    assert index.likeness("a red dog", []) == []


def test_what_was_saved_is_known_to_the_same_model_only(
    checkpoint: Path, tmp_path: Path, tiny_processor: Processor
) -> None:
    index = index_of(checkpoint, tmp_path)
    index.add("red", tiny_checkpoint.drawn_picture("red"))
    index.save()
    again = index_of(checkpoint, tmp_path)
    assert "red" in again and "blue" not in again
    assert again.likeness("dog", ["red"]) == index.likeness("dog", ["red"])
    other = tiny_checkpoint.tiny_model(tiny_processor, seed=1, shared={"size": 8})
    export_checkpoint(other, tiny_processor, tmp_path / "other")
    assert "red" not in index_of(tmp_path / "other", tmp_path)


def test_a_broken_file_is_made_anew(checkpoint: Path, tmp_path: Path) -> None:
    index = index_of(checkpoint, tmp_path)
    index.add("red", tiny_checkpoint.drawn_picture("red"))
    index.save()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(b"no safetensors")
    assert "red" not in index_of(checkpoint, tmp_path)


def test_broken_pixels_are_told(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        index_of(checkpoint, tmp_path).add("x", tiny_checkpoint.drawn_picture()[:60])


def test_a_model_without_the_space_says_so(tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path) -> None:
    export_checkpoint(tiny_model, tiny_processor, tmp_path)
    with pytest.raises(ModelError, match="no shared space of pictures and texts"):
        PhotoIndex(tmp_path, tmp_path / "cache", "cpu")
