"""8-bit towers: little is lost, nothing drifts, and every way to load a folder gives the same model."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from visavis.models import register
from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.training.export import export_checkpoint
from visavis.models.visavis_model import VisavisModel
from visavis.models.weight_files import holds_integers, quantise, read_weights

TOWER = "encoder.vision.tower.encoder.layer.0.mlp.fc1.weight"


def test_an_error_is_at_most_half_a_step_and_zero_rows_stay_zero() -> None:
    weight = torch.cat([torch.randn(5, 40, generator=torch.Generator().manual_seed(1)), torch.zeros(1, 40)])
    stored = quantise("w", weight)
    assert stored["w"].dtype == torch.int8 and stored["w_scale"].dtype == torch.float16
    error = (stored["w"].float() * stored["w_scale"].float() - weight).abs()
    assert bool((error <= 0.502 * weight.abs().amax(dim=1, keepdim=True) / 127 + 1e-6).all())
    assert not stored["w"][5].any()


def test_what_is_exported_again_is_the_same_file(
    tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path
) -> None:
    export_checkpoint(tiny_model, tiny_processor, tmp_path / "first")
    loaded, processor = load_model(tmp_path / "first", "cpu")
    export_checkpoint(loaded, processor, tmp_path / "second")
    for name in ("vision", "text", "joint"):
        first, second = (tmp_path / folder / f"{name}.safetensors" for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    assert load_file(tmp_path / "first" / "vision.safetensors")[TOWER].dtype == torch.int8


def test_transformers_loads_the_same_model(tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path) -> None:
    export_checkpoint(tiny_model, tiny_processor, tmp_path)
    assert holds_integers(tmp_path)
    ours, _ = load_model(tmp_path, "cpu")
    register()
    theirs = AutoModelForImageTextToText.from_pretrained(tmp_path)
    wanted = ours.state_dict()
    assert wanted.keys() == theirs.state_dict().keys() == read_weights(tmp_path, torch.float32).keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, wanted[name]), name
    pixels, question = torch.randn(1, 3, 28, 28), tiny_processor.encode_question("is it?", (("what is it?", "a dog"),))
    ids = torch.tensor([[1, 5, 9]])
    with torch.inference_mode():
        memory = ours.fuse(ours.image_state(ours.encode_image(pixels)), **question)
        logits = theirs(**question, pixel_values=pixels, decoder_input_ids=ids).logits
        torch.testing.assert_close(ours.decode(ids, memory), logits)
