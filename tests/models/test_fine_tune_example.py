"""The example with transformers' Trainer and PEFT: what it writes is learnt, and served by our own engine."""

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoint
import torch

from visavis.models.engine import InferenceEngine
from visavis.models.generation import GenerationRequest
from visavis.models.loading import load_model
from visavis.models.training.export import export_checkpoint

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "fine-tune" / "fine_tune.py"
ANSWERS = {"red": "a red dog", "blue": "two people"}


@pytest.fixture
def fine_tune(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("WANDB_DISABLED", "true")
    spec = importlib.util.spec_from_file_location("fine_tune", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fine_tune


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "images").mkdir(parents=True)
    lines = []
    for color, answer in ANSWERS.items():
        (tmp_path / "data" / "images" / f"{color}.png").write_bytes(tiny_checkpoint.drawn_picture(color))
        lines.append(json.dumps({"image": f"images/{color}.png", "question": "what is it?", "answers": [answer]}))
    (tmp_path / "data" / "questions.train.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


@pytest.fixture
def start(tmp_path: Path) -> Path:
    processor = tiny_checkpoint.tiny_processor()
    export_checkpoint(tiny_checkpoint.tiny_model(processor), processor, tmp_path / "start")
    return tmp_path / "start"


def told(folder: Path) -> dict[str, str]:
    """What our engine says with a checkpoint."""
    with InferenceEngine(*load_model(folder, "cpu")) as engine:
        images = {color: engine.add_image(tiny_checkpoint.drawn_picture(color)) for color in ANSWERS}
        return {
            color: asyncio.run(engine.generate(GenerationRequest("what is it?", image=image))).text
            for color, image in images.items()
        }


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_what_is_taught_is_served(fine_tune: Any, data: Path, start: Path, tmp_path: Path, lora: bool) -> None:
    options = {
        "max_steps": 40 if lora else 25,
        "learning_rate": 2e-2 if lora else 8e-3,
        "disable_tqdm": True,
        "use_cpu": True,
    }
    trainer = fine_tune(data, tmp_path / "tuned", str(start), lora=lora, save_strategy="no", logging_steps=5, **options)
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    assert losses[-1] < 0.6 * losses[0]
    first = {color: text.split()[:1] for color, text in told(tmp_path / "tuned").items()}
    assert first != {color: text.split()[:1] for color, text in told(start).items()}
    assert first["blue"][0].startswith("two")
    if lora:
        counts = trainer.model.get_nb_trainable_parameters()
        assert counts[0] < 0.25 * counts[1]
        before, after = (load_model(folder, "cpu")[0] for folder in (start, tmp_path / "tuned"))
        tower = "encoder.vision.tower.encoder.layer.0.mlp.fc1.weight"
        assert torch.equal(before.state_dict()[tower], after.state_dict()[tower])
