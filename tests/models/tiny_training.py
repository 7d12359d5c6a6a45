"""Two drawn photos, quick settings and a trainer without dropout: small enough to learn by heart in a unit test."""

from pathlib import Path
from typing import Any

import tiny_checkpoint
import torch

from visavis.models.processor import Processor
from visavis.models.training.data import DialogueTurn, Photo, Question
from visavis.models.training.features import FeatureCache
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.trainer import Trainer
from visavis.models.visavis_model import VisavisModel

ANSWERS = {"red": "a red dog", "blue": "people sit on a bench", "green": "wet grass", "white": "two dogs run"}


def two_photos(folder: Path) -> list[Photo]:
    return photos_of(folder, 2)


def photos_of(folder: Path, count: int) -> list[Photo]:
    made = []
    for color, answer in list(ANSWERS.items())[:count]:
        path = folder / f"{color}.png"
        path.write_bytes(tiny_checkpoint.drawn_picture(color))
        photo = Photo(path, captions=[answer], questions=[Question("what is it?", (answer[:5],))])
        photo.turns.append(DialogueTurn("is it the dog?", "yes", "yes"))
        photo.turns.append(DialogueTurn("what color is it?", answer, color))
        made.append(photo)
    return made


def quick_settings(folder: Path) -> TrainingSettings:
    return TrainingSettings(
        output=str(folder / "run"),
        epochs=60,
        batch_photos=2,
        learning_rate=5e-3,
        warmup_steps=3,
        label_smoothing=0.0,
        ema_decay=0.5,
        pool_until=0.0,
        precision="fp32",
    )


def trainer_of(
    photos: list[Photo], settings: TrainingSettings, processor: Processor, kind: str = "cross_attention", **parts: Any
) -> Trainer:
    sizes = tiny_checkpoint.tiny_model(processor, kind=kind, **parts).config
    torch.manual_seed(settings.seed)
    model = VisavisModel(sizes)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    features = FeatureCache(Path(settings.output) / "features", model, processor, settings.vision_blocks)
    return Trainer(model, processor, photos, settings, features)
