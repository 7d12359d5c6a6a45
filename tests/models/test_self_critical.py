"""Self-critical training: the reward is CIDEr-D, better samples become likelier, worse ones less likely."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import trainer_of

from visavis.models.image_features import ImageFeatures
from visavis.models.processor import Processor
from visavis.models.training.batches import Row, pack_answers
from visavis.models.training.caption_metrics import score_captions
from visavis.models.training.cider import CiderReward
from visavis.models.training.data import Photo
from visavis.models.training.features import View
from visavis.models.training.objectives import answer_loss
from visavis.models.training.self_critical import REQUEST, advantages, sample, token_weights, until_end
from visavis.models.training.settings import TrainingSettings
from visavis.models.visavis_model import VisavisModel

REFERENCES = [
    ["A dog runs on grass.", "A brown dog runs."],
    ["Two men sit on a bench.", "Two people sit and talk."],
    ["A girl on a swing.", "The girl is swinging high."],
]
SAID = ["A brown dog runs on grass.", "Two men sit on grass.", "A dog on a swing swing."]


def test_the_reward_is_what_pycocoevalcap_gives() -> None:
    reward = CiderReward(REFERENCES, count_end=False)
    ours = [reward.score([said], wanted)[0] for said, wanted in zip(SAID, REFERENCES, strict=True)]
    assert ours == pytest.approx(score_captions(SAID, REFERENCES).each_cider)


def test_the_end_is_a_word_and_a_caption_without_one_gets_nothing() -> None:
    reward = CiderReward(REFERENCES)
    whole, broken, endless = reward.score(
        ["A dog runs on grass.", "A dog runs on.", "A dog runs on grass"], REFERENCES[0]
    )
    assert whole > broken > 0 == endless
    without_end = CiderReward(REFERENCES, count_end=False).score(["A dog runs on."], REFERENCES[0])[0]
    assert broken < without_end


def test_a_sample_is_compared_with_its_siblings() -> None:
    better = advantages(torch.tensor([[1.0, 0.0, 0.5], [0.2, 0.2, 0.2]]))
    torch.testing.assert_close(better.sum(dim=1), torch.zeros(2))
    assert better[0, 0] > 0 > better[0, 1]
    torch.testing.assert_close(better[1], torch.zeros(3))


def test_every_token_of_a_sample_weighs_the_same() -> None:
    rows = [Row(Photo(Path("a")), [REQUEST], [(0, [5, 2]), (0, [6, 7, 2])])]
    weights = token_weights(pack_answers(rows, 1, 0), torch.tensor([[2.0, -1.0]]))
    torch.testing.assert_close(weights, torch.tensor([[0.4, 0.4, -0.2, -0.2, -0.2]]))


def test_samples_end_at_their_end_token(tiny_model: VisavisModel) -> None:
    assert until_end([4, 2, 0, 0], 2) == [4, 2] and until_end([4, 5], 2) == [4, 5]
    end = tiny_model.config.decoder.eos_token_id
    ids = torch.tensor([[7, 8, 9]])
    image = tiny_model.image_state(ImageFeatures(torch.randn(1, 17, 24)))
    memory = tiny_model.fuse(image, ids, torch.ones_like(ids))
    torch.manual_seed(0)
    with torch.no_grad():
        said = sample(tiny_model, memory, 40, 10).tolist()
    assert len({tuple(row) for row in said}) > 1
    for row in said:
        assert not any(row[row.index(end) + 1 :]) if end in row else len(row) == 10


def test_one_step_makes_the_better_sample_likelier(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: Processor
) -> None:
    trainer = trainer_of(photos[:1], settings, tiny_processor)
    answers = [tiny_processor.encode_answer(text) for text in ("a dog", "bench")]
    rows = [Row(photos[0], [REQUEST], [(0, [*ids, 2]) for ids in answers])]
    packed = pack_answers(rows, 1, 0)
    weights = token_weights(packed, torch.tensor([[1.0, -1.0]]))

    def costs() -> list[float]:
        with torch.no_grad():
            one = [(packed.answer_id == number).float() for number in (1, 2)]
            return [float(answer_loss(trainer.passes.logits(rows, packed), packed.labels, weight)) for weight in one]

    before = costs()
    answer_loss(trainer.passes.logits(rows, packed), packed.labels, weights).backward()
    with torch.no_grad():
        for parameter in trainer.parameters.values():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    after = costs()
    assert after[0] < before[0] and after[1] > before[1]


def test_captions_of_a_mirrored_photo_are_sampled_from_it_and_its_sides_change_places(
    photos: list[Photo], settings: TrainingSettings, tiny_processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [Photo(photo.path, captions=["a dog on the left."]) for photo in photos]
    trainer = trainer_of(photos, replace(settings, self_critical_samples=2, mirror_share=1.0), tiny_processor)
    critic = trainer.curriculum.critic
    assert critic is not None
    read, compared = [], []
    features, score = trainer.passes.features.read, critic.reward.score
    monkeypatch.setattr(trainer.passes.features, "read", lambda views: (read.extend(views), features(views))[1])
    monkeypatch.setattr(
        critic.reward, "score", lambda said, written: (compared.append(written), score(said, written))[1]
    )
    rows = critic.rows([Row(photos[0], [], [], mirrored=True), Row(photos[1], [], [], crop=2)])[0]
    assert read == [View(photos[0].path, True), View(photos[1].path, crop=2)] == [row.view for row in rows]
    assert compared == [["a dog on the right."], ["a dog on the left."]]


def test_the_reward_rises(photos: list[Photo], settings: TrainingSettings, tiny_processor: Processor) -> None:
    """A model that has half learned two captions gets better at them by rewards alone, with no caption to copy."""
    photos = [
        Photo(photo.path, captions=[caption])
        for photo, caption in zip(photos, ("a red dog.", "people sit."), strict=True)
    ]
    first = trainer_of(photos, replace(settings, epochs=45), tiny_processor)
    for _ in first.train():
        pass
    critical = replace(settings, output=settings.output + "-critical", caption_share=0.0, self_critical_samples=8)
    second = trainer_of(photos, replace(critical, epochs=40, learning_rate=2e-3), tiny_processor)
    second.model.load_state_dict(first.model.state_dict())
    critic = second.curriculum.critic
    assert critic is not None
    rewards = [critic.rows([Row(photo, [], []) for photo in photos])[3] for _ in second.train()]
    assert sum(rewards[-5:]) > 1.2 * sum(rewards[:5]) > 0
