"""Phases of objectives: each is learned by heart alone, reaches its own parts, and goes on after a stop."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import tiny_checkpoint
import torch
from tiny_training import photos_of, trainer_of

from visavis.models.errors import NoSharedSpace
from visavis.models.processor import Processor
from visavis.models.training import translation
from visavis.models.training.batches import Row
from visavis.models.training.curriculum import phases_of
from visavis.models.training.data import Photo
from visavis.models.training.initialise import with_shared_space
from visavis.models.training.phases import OBJECTIVES, Phases
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.trainer import Trainer


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(translation, "WORDS", 4)
    monkeypatch.setattr(translation, "SIDE", 2)
    yield


@pytest.fixture
def four(tmp_path: Path) -> list[Photo]:
    """Four photos of several colours, or all their cells would be alike."""
    photos, pairs = photos_of(tmp_path, 4), (("red", "blue"), ("green", "white"), ("blue", "green"), ("white", "red"))
    for photo, colors in zip(photos, pairs, strict=True):
        picture = tiny_checkpoint.picture_of(tiny_checkpoint.drawn_picture(colors[0]))
        picture.paste(colors[1], (20, 0, 40, 15))
        picture.save(photo.path)
    return photos


@pytest.fixture
def captioned(four: list[Photo]) -> list[Photo]:
    return four[:2]


def trainer_with(photos: list[Photo], settings: TrainingSettings, processor: Processor, *phases: dict) -> Trainer:
    return trainer_of(photos, replace(settings, phases=phases), processor, shared={"size": 8})


def test_sums_and_weights_of_phases() -> None:
    phases = Phases([{"until": 0.25, "uni": 1.0}, {"until": 0.5, "bi": 0.5, "i2t": 1.0}, {"answer": 1.0, "itc": 0.0}])
    assert phases.at(0.0) == {"i2t": 1.0, "t2i": 1.0}
    assert phases.at(0.3) == {"i2t": 1.5, "t2i": 0.5, "i2t_perturbed": 0.5, "t2i_perturbed": 0.5}
    assert phases.at(0.5) == phases.at(1.0) == {"answer": 1.0}
    assert phases.use("t2i_perturbed") and not phases.use("itc", "self_critical")


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([{"telepathy": 1.0}], "unknown objective 'telepathy'; known are answer, i2t"),
        ([], "phases need objectives"),
        ([{"until": 0.5}], "phases need objectives"),
        ([{"until": 0.5, "uni": 1.0}, {"until": 0.4, "answer": 1.0}], "each must end after the one before"),
    ],
)
def test_wrong_phases_are_told(entries: list[dict[str, float]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Phases(entries)


def test_without_phases_answers_are_learned_and_rewards_where_samples_are_asked_for(settings: TrainingSettings) -> None:
    assert phases_of(settings).at(0.5) == {"answer": 1.0}
    critical = replace(settings, self_critical_samples=4, self_critical_weight=2.0)
    assert phases_of(critical).at(0.5) == {"answer": 1.0, "self_critical": 2.0}
    assert phases_of(replace(critical, phases=({"answer": 1.0},))).at(0.5) == {"answer": 1.0}


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in ("self_critical", "t2i_perturbed")])
def test_a_batch_of_four_is_learned_by_heart(
    four: list[Photo], settings: TrainingSettings, tiny_processor: Processor, name: str
) -> None:
    quick = replace(settings, epochs=120, batch_photos=4, short_share=0.0, learning_rate=2e-2)
    losses = [report.loss for report in trainer_with(four, quick, tiny_processor, {name: 1.0}).train()]
    assert losses[-1] < 0.1 < 0.5 * losses[0]


def test_perturbed_texts_still_tell_two_pictures_apart(
    captioned: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    quick = replace(settings, epochs=100, learning_rate=2e-2)
    losses = [report.loss for report in trainer_with(captioned, quick, tiny_processor, {"t2i_perturbed": 1.0}).train()]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


def test_phases_follow_each_other(
    captioned: list[Photo], settings: TrainingSettings, tiny_processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = ({"until": 0.5, "t2i": 1.0}, {"answer": 1.0, "i2t_perturbed": 0.5})
    trainer = trainer_with(captioned, replace(settings, epochs=4), tiny_processor, *phases)
    learned: list[tuple[str, bool]] = []
    passes, curriculum = trainer.passes, trainer.curriculum
    assert curriculum.translation is not None
    answers, picture = passes.learn_answers, curriculum.translation.learn_picture

    def learn_answers(rows: Sequence[Row], weight: float = 1.0, features: object = None) -> float:
        learned.append(("answers", features is not None))
        return answers(rows, weight, features)  # type: ignore[arg-type]

    def learn_picture(*given: object, **options: bool) -> float:
        learned.append(("picture", options["perturbed"]))
        return picture(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(passes, "learn_answers", learn_answers)
    monkeypatch.setattr(curriculum.translation, "learn_picture", learn_picture)
    assert len(list(trainer.train())) == 4
    assert learned == [("picture", False)] * 2 + [("answers", False), ("answers", True)] * 2


def test_gradients_reach_what_objectives_have_of_their_own(
    captioned: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    phases = {"bi": 1.0, "itc": 1.0}
    trainer = trainer_with(captioned, replace(settings, epochs=1), tiny_processor, phases)
    before = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    next(iter(trainer.train()))
    for name, value in trainer.parameters.items():
        if name.startswith(("curriculum.", "shared.", "encoder.image_projection.")):
            assert not torch.equal(value, before[name]), name
    assert not trainer.model.shared or "curriculum" not in "".join(trainer.model.state_dict())


def test_a_stopped_run_goes_on_with_codebook_heads_and_queues(
    captioned: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    phases = ({"until": 0.4, "bi": 1.0}, {"answer": 1.0, "t2i": 1.0, "itc": 1.0})
    short = replace(settings, epochs=6, batch_photos=1, text_lr_scale=0.1)
    losses = [report.loss for report in trainer_with(captioned, short, tiny_processor, *phases).train()]
    stopped = replace(short, output=short.output + "-stopped")
    first = trainer_with(captioned, stopped, tiny_processor, *phases)
    begun = [report.loss for report in islice(first.train(), 7)]
    first.save()
    second = trainer_with(captioned, stopped, tiny_processor, *phases)
    assert second.resume()
    torch.testing.assert_close(begun + [report.loss for report in second.train()], losses)


def test_contrast_wants_a_shared_space(
    captioned: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    itc = replace(settings, phases=({"itc": 1.0},))
    with pytest.raises(NoSharedSpace):
        trainer_of(captioned, itc, tiny_processor)
    model = tiny_checkpoint.tiny_model(tiny_processor)
    grown = with_shared_space(model)
    assert grown.config.shared is not None and model.config.shared is None
    for name, value in model.state_dict().items():
        assert torch.equal(grown.state_dict()[name], value)


def test_mmbt_refuses_to_drop_patches(
    captioned: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    with pytest.raises(ValueError, match="mmbt cuts the grid"):
        trainer_of(captioned, replace(settings, drop_until=0.5), tiny_processor, "mmbt")


def test_what_is_added_can_learn_alone(
    captioned: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    alone = replace(settings, epochs=2, phases=({"itc": 1.0},), trained=("shared.",))
    trainer = trainer_with(captioned, alone, tiny_processor, {"itc": 1.0})
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    for _ in trainer.train():
        pass
    moved = {name for name, value in trainer.model.state_dict().items() if not value.equal(before[name])}
    assert moved and all(name.startswith("shared.") for name in moved)
    with pytest.raises(ValueError, match="no part whose name begins with nothing"):
        trainer_with(captioned, replace(alone, trained=("nothing.",)), tiny_processor, {"itc": 1.0})
