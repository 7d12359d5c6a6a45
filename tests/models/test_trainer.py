"""Training: packing changes nothing, a small set is learned by heart, a stopped run goes on as if it had not."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import tiny_checkpoint
import torch
from torch import Tensor

from visavis.models.processor import VisavisProcessor
from visavis.models.training.batches import make_row, pack_answers
from visavis.models.training.data import DialogueTurn, Photo, Question, examples_of
from visavis.models.training.features import FeatureCache, pool_patches
from visavis.models.training.objectives import answer_loss, answer_weights
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.trainer import Trainer
from visavis.models.visavis_model import VisavisForConditionalGeneration


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    made = []
    for color, answer in (("red", "a red dog"), ("blue", "people sit on a bench")):
        path = tmp_path / f"{color}.png"
        path.write_bytes(tiny_checkpoint.drawn_picture(color))
        photo = Photo(path, captions=[answer], questions=[Question("what is it?", (answer[:5],))])
        photo.turns.append(DialogueTurn("is it the dog?", "yes", "yes"))
        photo.turns.append(DialogueTurn("what color is it?", answer, color))
        made.append(photo)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> TrainingSettings:
    return TrainingSettings(
        output=str(tmp_path / "run"),
        epochs=60,
        batch_photos=2,
        learning_rate=5e-3,
        warmup_steps=3,
        label_smoothing=0.0,
        ema_decay=0.5,
        pool_until=0.0,
        precision="fp32",
    )


def trainer_of(photos: list[Photo], settings: TrainingSettings, processor: VisavisProcessor) -> Trainer:
    sizes = tiny_checkpoint.tiny_model(processor).config
    torch.manual_seed(settings.seed)
    model = VisavisForConditionalGeneration(sizes)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return Trainer(
        model, processor, photos, settings, FeatureCache(Path(settings.output) / "features", model, processor)
    )


def test_packed_answers_cost_what_single_ones_cost(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: VisavisProcessor
) -> None:
    trainer = trainer_of(photos, settings, tiny_processor)
    examples = [examples_of(photo, random.Random(3)) for photo in photos]
    rows = [make_row(photo, items, tiny_processor, 16) for photo, items in zip(photos, examples, strict=True)]
    with torch.no_grad():
        packed = trainer.group_loss(rows, pack_answers(rows, 1, 0))
        single = sum(_single_loss(trainer, row.photo, text, ids) for row in rows for text, ids in _pairs(row))
    torch.testing.assert_close(packed, torch.as_tensor(single), rtol=2e-3, atol=0)  # remembered states are float16


def _pairs(row) -> Sequence:  # type: ignore[no-untyped-def]
    return [(row.texts[index], ids) for index, ids in row.answers]


def _single_loss(trainer: Trainer, photo: Photo, text: tuple, ids: list[int]) -> float:
    inputs = trainer.processor.encode_questions([text])
    features = trainer.features.read([photo.path])
    loss = trainer.model(**inputs, image_features=features, labels=torch.tensor([ids])).loss
    return float(loss) * len(ids) / math.sqrt(len(ids))


def test_two_photos_are_learned_by_heart(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: VisavisProcessor
) -> None:
    trainer = trainer_of(photos, replace(settings, epochs=150, short_share=0.0, learning_rate=1e-2), tiny_processor)
    losses = [report.loss for report in trainer.train()]
    assert losses[0] > 3
    assert losses[-1] < 0.1


def test_a_stopped_run_goes_on_as_if_it_had_not(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: VisavisProcessor
) -> None:
    short = replace(settings, epochs=6, batch_photos=1, text_lr_scale=0.1)
    straight = trainer_of(photos, short, tiny_processor)
    losses = [report.loss for report in straight.train()]
    assert len(losses) == 12

    stopped = replace(short, output=short.output + "-stopped")
    first = trainer_of(photos, stopped, tiny_processor)
    begun = [report.loss for report in islice(first.train(), 5)]
    first.save()
    second = trainer_of(photos, stopped, tiny_processor)
    assert second.resume()
    assert second.position.step == 5
    torch.testing.assert_close(begun + [report.loss for report in second.train()], losses)
    for name, value in straight.average.values.items():
        torch.testing.assert_close(second.average.values[name], value)


def test_a_run_of_other_settings_is_refused(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: VisavisProcessor
) -> None:
    trainer_of(photos, settings, tiny_processor).save()
    other = trainer_of(photos, replace(settings, text_lr_scale=0.1), tiny_processor)
    with pytest.raises(ValueError, match="made with other settings"):
        other.resume()


def test_photos_are_encoded_once_over_runs(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: VisavisProcessor
) -> None:
    first = trainer_of(photos, settings, tiny_processor).features
    paths = [photo.path for photo in photos]
    assert list(first.fill(paths)) == [1, 2]
    assert first.model.encoder.vision.forwards == 2
    again = trainer_of(photos, settings, tiny_processor).features
    assert again.read(paths).shape == (2, 17, 24)
    assert again.model.encoder.vision.forwards == 0


def test_pooling_averages_patches_two_by_two() -> None:
    grid = torch.arange(16.0)
    features = torch.cat([torch.tensor([99.0]), grid])[None, :, None]
    assert pool_patches(features).flatten().tolist() == [99.0, 2.5, 4.5, 10.5, 12.5]


def test_answer_loss_by_hand() -> None:
    """Two answers: three tokens and one; every token costs ln 4 under uniform logits."""
    labels = torch.tensor([[1, 2, 3, 2, -100]])
    answer_id = torch.tensor([[1, 1, 1, 2, 0]])
    weights = answer_weights(labels, answer_id)
    expected: Tensor = torch.tensor([[3**-0.5] * 3 + [1.0, 0.0]])
    torch.testing.assert_close(weights, expected)
    loss = answer_loss(torch.zeros(4, 4), labels, weights)
    assert float(loss) == pytest.approx((3**0.5 + 1) * math.log(4))


def test_precision_must_be_known(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: VisavisProcessor
) -> None:
    with pytest.raises(ValueError, match="precision must be auto, bf16 or fp32, not 'fp8'"):
        trainer_of(photos, replace(settings, precision="fp8"), tiny_processor)
