"""Training: packing changes nothing, a small set is learned by heart, a stopped run goes on as if it had not."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_training import photos_of, trainer_of
from torch import Tensor

from visavis.models.config import FUSION_KINDS
from visavis.models.image_features import ImageFeatures
from visavis.models.processor import Processor
from visavis.models.training.batches import Row, make_row, pack_answers
from visavis.models.training.data import Photo, examples_of
from visavis.models.training.features import FeatureCache, View, drop_patches, pool_patches
from visavis.models.training.objectives import answer_loss, answer_weights
from visavis.models.training.passes import grouped, shown_instead
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.tag_lessons import Shown
from visavis.models.training.trainer import Trainer


@pytest.mark.parametrize("kind", FUSION_KINDS)
def test_packed_answers_cost_what_single_ones_cost(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: Processor, kind: str
) -> None:
    trainer = trainer_of(photos, settings, tiny_processor, kind)
    examples = [examples_of(photo, random.Random(3)) for photo in photos]
    rows = [make_row(photo, items, tiny_processor, 16) for photo, items in zip(photos, examples, strict=True)]
    with torch.no_grad():
        packed = trainer.passes.group_loss(rows, pack_answers(rows, 1, 0))
        single = sum(_single_loss(trainer, row.photo, text, ids) for row in rows for text, ids in _pairs(row))
    torch.testing.assert_close(packed, torch.as_tensor(single), rtol=2e-3, atol=0)  # remembered states are float16


def _pairs(row) -> Sequence:  # type: ignore[no-untyped-def]
    return [(row.texts[index], ids) for index, ids in row.answers]


def _single_loss(trainer: Trainer, photo: Photo, text: tuple, ids: list[int]) -> float:
    model = trainer.model
    image = model.image_state(model.encoder.vision.finish(trainer.passes.features.read([View(photo.path)]), 0))
    memory = model.fuse(image, **trainer.processor.encode_questions([text]))
    logits = model.decode(torch.tensor([[model.config.decoder.bos_token_id, *ids[:-1]]]), memory)
    return float(F.cross_entropy(logits[0], torch.tensor(ids), reduction="sum")) / math.sqrt(len(ids))


@pytest.mark.parametrize("kind", FUSION_KINDS)
def test_a_batch_is_learned_by_heart(
    tmp_path: Path, settings: TrainingSettings, tiny_processor: Processor, kind: str
) -> None:
    count = 2 if kind == "birnn_cnn" else 4  # its frozen CNN has random weights here and takes some colours for others
    quick = replace(settings, epochs=600 // count, batch_photos=count, short_share=0.0, learning_rate=1e-2)
    trainer = trainer_of(photos_of(tmp_path, count), quick, tiny_processor, kind)
    losses = [report.loss for report in trainer.train()]
    assert losses[0] > 3
    assert losses[-1] < 0.1


def test_a_stopped_run_goes_on_as_if_it_had_not(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: Processor
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
    photos: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    trainer_of(photos, settings, tiny_processor).save()
    other = trainer_of(photos, replace(settings, text_lr_scale=0.1), tiny_processor)
    with pytest.raises(ValueError, match="made with other settings"):
        other.resume()


def test_photos_are_encoded_once_over_runs(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    first = trainer_of(photos, settings, tiny_processor).passes.features
    views = [View(photo.path) for photo in photos]
    assert list(first.fill(views)) == [2]
    assert first.model.encoder.vision.forwards == 2
    again = trainer_of(photos, settings, tiny_processor).passes.features
    assert again.read(views).patches.shape == (2, 17, 24)
    assert again.model.encoder.vision.forwards == 0
    forms = [View(photos[0].path, mirrored, crop) for mirrored in (False, True) for crop in (0, 1, 2)]
    patches = [form.tobytes() for form in again.read(forms).patches.numpy()]
    assert len(set(patches)) == 6 and patches[0] == again.read(views[:1]).patches[0].numpy().tobytes()
    assert again.model.encoder.vision.forwards == 5
    third = trainer_of(photos, settings, tiny_processor).passes.features
    assert [form.tobytes() for form in third.read(forms).patches.numpy()] == patches
    assert third.model.encoder.vision.forwards == 0


def test_the_last_vision_blocks_learn_and_what_is_cached_does_not(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    trainer = trainer_of(photos, replace(settings, epochs=2, vision_blocks=1), tiny_processor)
    before = {name: value.clone() for name, value in trainer.model.encoder.vision.state_dict().items()}
    folder = trainer.passes.features.folder
    losses = [report.loss for report in trainer.train()]
    moved = {name for name, value in trainer.model.encoder.vision.state_dict().items() if not value.equal(before[name])}
    assert len(losses) == 2
    assert moved
    assert all(name.startswith(("tower.encoder.layer.1.", "tower.layernorm.")) for name in moved)
    assert FeatureCache(folder.parent, trainer.model, tiny_processor, 1).folder == folder
    assert FeatureCache(folder.parent, trainer.model, tiny_processor, 0).folder != folder


def test_swapped_tags_and_words_take_the_place_of_true_ones(photos: list[Photo]) -> None:
    features = ImageFeatures(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), torch.full((2, 5), -1.6))
    shown = Shown(((3, 0.5), (1, 0.25)), (7, 8))
    instead = shown_instead(features, [Row(photos[0], [], []), Row(photos[1], [], [], shown=shown)])
    assert instead.kinds is not None and instead.read is not None
    assert instead.kinds[0].equal(features.kinds[0])  # type: ignore[index]
    assert instead.kinds[1].exp().tolist() == [0, 0.25, 0, 0.5, 0]
    assert instead.read.tolist() == [[0, 0], [7, 8]]


def test_lessons_that_need_no_picture_are_a_group_of_their_own(photos: list[Photo]) -> None:
    sure, unsure = Shown(((3, 0.9), (1, 0.05))), Shown(((3, 0.1), (1, 0.05)))
    rows = [Row(photos[0], [], [(0, [1] * n)], shown=shown) for n, shown in enumerate((None, sure, unsure, sure))]
    groups = [[row.shown for row in group] for group in grouped(rows, 2)]
    assert groups == [[None], [unsure], [sure, sure]]
    assert grouped(rows[1:2], 2) == [rows[1:2]]


def test_pooling_averages_patches_two_by_two() -> None:
    cells = torch.ones(1, 2, 1)
    pooled = pool_patches(ImageFeatures(torch.tensor([99.0, *range(16)])[None, :, None], cells))
    assert pooled.patches.flatten().tolist() == [99.0, 2.5, 4.5, 10.5, 12.5]
    assert pooled.cells is cells


def test_half_of_the_patches_are_dropped_and_no_cell_of_the_object_tower() -> None:
    cells = torch.ones(1, 3, 1)
    dropped = drop_patches(ImageFeatures(torch.arange(17.0)[None, :, None], cells))
    kept = dropped.patches.flatten().tolist()
    assert kept[0] == 0 and len(kept) == 1 + 8
    assert set(kept[1:]) < set(range(1, 17))
    assert dropped.cells is cells


def test_shares_leave_out_captions_or_turns(photos: list[Photo]) -> None:
    chance = random.Random(1)
    captions = examples_of(photos[0], chance, short_share=0, turn_share=0)
    assert [item.answer for item in captions] == ["a red dog", "a red"]
    turns = examples_of(photos[0], chance, short_share=0, caption_share=0)
    assert [item.answer for item in turns] == ["a red", "yes", "a red dog"]


def test_answer_loss_by_hand() -> None:
    """Two answers: three tokens and one; every token costs ln 4 under uniform logits."""
    labels = torch.tensor([[1, 2, 3, 2, -100]])
    answer_id = torch.tensor([[1, 1, 1, 2, 0]])
    weights = answer_weights(labels, answer_id)
    expected: Tensor = torch.tensor([[3**-0.5] * 3 + [1.0, 0.0]])
    torch.testing.assert_close(weights, expected)
    loss = answer_loss(torch.zeros(4, 4), labels, weights)
    assert float(loss) == pytest.approx((3**0.5 + 1) * math.log(4))


def test_precision_must_be_known(photos: list[Photo], settings: TrainingSettings, tiny_processor: Processor) -> None:
    with pytest.raises(ValueError, match="precision must be auto, bf16 or fp32, not 'fp8'"):
        trainer_of(photos, replace(settings, precision="fp8"), tiny_processor)
