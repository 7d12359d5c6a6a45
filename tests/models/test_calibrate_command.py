"""`visavis calibrate`: the same model, which now tells photos from drawings and says how sure it is."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from visavis.models.engine import InferenceEngine
from visavis.models.generation import GenerationRequest
from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.prompt import in_one_word
from visavis.models.training.calibrate_command import calibrate_command
from visavis.models.training.export import export_checkpoint
from visavis.models.training.scoring import exact_match
from visavis.models.visavis_model import VisavisModel


@pytest.fixture
async def folder(tiny_model: VisavisModel, tiny_processor: Processor, tmp_path: Path) -> Path:
    """Photos of noise (the same ones always), and twelve questions of which the model answers every other one."""
    export_checkpoint(tiny_model, tiny_processor, tmp_path / "start")
    captions = []
    chance = random.Random(1)
    for number in range(12):
        Image.frombytes("RGB", (40, 40), chance.randbytes(4800)).save(tmp_path / f"{number}.png")
        captions.append({"image": f"{number}.png", "captions": ["noise"]})
    with InferenceEngine(*load_model(tmp_path / "start", "cpu")) as engine:  # stored in 16 bits, it may say otherwise
        image = engine.add_image((tmp_path / "0.png").read_bytes())
        said = (await engine.generate(GenerationRequest(in_one_word("is it the dog?"), (), image))).text
    assert exact_match(said, [said]), "the reply has words"
    asked = [
        {"image": "0.png", "question": "is it the dog?", "answers": [said if number % 2 else "never"]}
        for number in range(12)
    ]
    for name, rows in (("captions.train", captions), ("questions.dev", asked)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


def test_a_calibrated_checkpoint_says_the_same(folder: Path, tiny_model: VisavisModel) -> None:
    calibrate_command(folder / "start", [folder], folder / "made", photos=10)
    model, _ = load_model(folder / "made", "cpu")
    assert model.config.photo_head and model.config.calibration is not None
    with torch.no_grad():
        state = model.image_state(model.encode_image(torch.randn(1, 3, 28, 28)))
    assert state.photo is not None and 0 <= float(state.photo) <= 1
    start, _ = load_model(folder / "start", "cpu")
    for name, value in start.state_dict().items():
        assert value.equal(model.state_dict()[name]), name


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_text("")])
def test_without_dev_questions_nothing_is_fitted(folder: Path, spoil: Callable[[Path], object]) -> None:
    spoil(folder / "questions.dev.jsonl")
    with pytest.raises(ValueError, match=r"questions"):
        calibrate_command(folder / "start", [folder], folder / "made", photos=10)
    assert not (folder / "made").exists()
