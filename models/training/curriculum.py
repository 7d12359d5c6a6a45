"""All objectives of a run: what each step learns, by the phase it falls into.

A module, so that what objectives have of their own (a head, a codebook, queues) is trained, averaged and kept with the
run, and never with the model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from torch import nn

from visavis.models.training.batches import Row
from visavis.models.training.contrastive import ContrastiveLearning
from visavis.models.training.data import Photo
from visavis.models.training.passes import Passes
from visavis.models.training.phases import TRANSLATIONS, Phases
from visavis.models.training.self_critical import SelfCritical
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.translation import Translation

Learn = Callable[[Sequence[Row], float, random.Random], float]
"""Rows of photos that have captions, a weight and a source of chance -> the loss; the gradient is accumulated."""


class Curriculum(nn.Module):
    """Built from what the phases of `settings` need and nothing else.

    Raises:
        ValueError: wrong phases. NoSharedSpace: `itc` for a model without that space.
    """

    def __init__(self, passes: Passes, photos: Sequence[Photo], settings: TrainingSettings) -> None:
        super().__init__()
        self.passes, self.seed, self.phases = passes, settings.seed, phases_of(settings)
        self.translation = Translation(passes, photos) if self.phases.use(*TRANSLATIONS) else None
        self.contrastive = ContrastiveLearning(passes, photos) if self.phases.use("itc") else None
        samples = settings.self_critical_samples or 5
        self.critic = SelfCritical(passes, photos, samples) if self.phases.use("self_critical") else None
        self._learn = self._learners()

    def prepare(self) -> None:
        """What is found in the data before the first step."""
        if self.translation is not None:
            self.translation.prepare(self.seed)

    @property
    def reward(self) -> float | None:
        """The mean CIDEr-D of the captions sampled of late; None if there are none."""
        return None if self.critic is None else self.critic.mean_reward

    def learn(self, rows: Sequence[Row], done: float, chance: random.Random) -> float:
        """Accumulate the gradients of all objectives of the phase; the weighted sum of their losses."""
        self.passes.done = done
        weights, total = self.phases.at(done), 0.0
        captioned = [row for row in rows if row.photo.captions and row.shown is None]
        for name, weight in weights.items():
            if name == "answer":
                total += weight * self.passes.learn_answers(rows, weight)
            elif captioned:
                total += weight * self._learn[name](captioned, weight, chance)
        return total

    def _learners(self) -> dict[str, Learn]:
        found: dict[str, Learn] = {}
        if (translation := self.translation) is not None:
            for suffix, perturbed in (("", False), ("_perturbed", True)):
                found[f"i2t{suffix}"] = lambda *given, p=perturbed: translation.learn_text(*given, perturbed=p)
                found[f"t2i{suffix}"] = lambda *given, p=perturbed: translation.learn_picture(*given, perturbed=p)
        if (contrastive := self.contrastive) is not None:
            found["itc"] = lambda rows, weight, _: contrastive.learn(rows, weight)
        if (critic := self.critic) is not None:
            found["self_critical"] = lambda rows, weight, _: critic.learn(rows, weight)
        return found


def phases_of(settings: TrainingSettings) -> Phases:
    """Those of the settings; without any, answers throughout, and captions' rewards where samples are asked for."""
    rewarded = {"self_critical": settings.self_critical_weight} if settings.self_critical_samples else {}
    return Phases(settings.phases or ({"answer": 1.0, **rewarded},))
