"""The training loop: resumable, on a budget of epochs or minutes, with moving-average weights.

What a step learns is the `Curriculum`'s; how a run looks on a screen is the caller's (`StepReport`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from visavis.models.processor import Processor
from visavis.models.training.batches import EpochRows, Mix, Row, one_ahead
from visavis.models.training.curriculum import Curriculum
from visavis.models.training.data import Photo
from visavis.models.training.export import export_checkpoint
from visavis.models.training.features import FeatureCache
from visavis.models.training.optimisation import freeze, parameter_groups, schedule
from visavis.models.training.passes import Passes
from visavis.models.training.run_state import Position, Swapped, WeightAverage, load_run, save_run
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.tag_lessons import TagLessons, nearest_kinds
from visavis.models.visavis_model import VisavisModel


@dataclass(frozen=True)
class StepReport:
    """After one step: the loss of its batch (of several objectives the weighted sum), photos a second, and the share of
    the run that is done.

    `reward` is the mean CIDEr-D of the captions sampled of late; None without self-critical training.
    """

    position: Position
    loss: float
    photos_per_s: float
    done: float
    reward: float | None = None


OWN = "curriculum."
"""Before the names of parameters that objectives have of their own."""


class Trainer:
    """Trains fusion encoder and decoder (and the text encoder if asked) on features of a frozen image encoder."""

    def __init__(
        self,
        model: VisavisModel,
        processor: Processor,
        photos: list[Photo],
        settings: TrainingSettings,
        features: FeatureCache,
    ) -> None:
        self.model, self.processor, self.photos, self.settings = model, processor, photos, settings
        self.passes = Passes(model, processor, features, settings)
        self.curriculum = Curriculum(self.passes, photos, settings)
        own = {f"{OWN}{name}": value for name, value in self.curriculum.named_parameters()}
        self.parameters = freeze(model, settings) | own
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.parameters, settings), lr=settings.learning_rate, betas=(0.9, 0.98)
        )
        self.average = WeightAverage(self.parameters, settings.ema_decay)
        self.position = Position()
        self.rows = EpochRows(photos, processor, mix_of(settings), self._lessons())

    @property
    def run_folder(self) -> Path:
        """Where the resumable state lives."""
        return Path(self.settings.output) / "run"

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one."""
        if not (self.run_folder / "position.json").exists():
            return False
        buffers = dict(self.curriculum.named_buffers())
        self.position = load_run(self.run_folder, self.parameters, self.average, self.optimizer, buffers)
        return True

    def train(self) -> Iterator[StepReport]:
        """One report a step. Leaving early loses what came after the last checkpoint, no more."""
        self.passes.train_mode()
        self.curriculum.prepare()
        saved = time.monotonic()
        while self.done < 1:
            for photos, rows in self._rest_of_epoch():
                yield self._timed_step(photos, rows)
                if time.monotonic() - saved > 60 * self.settings.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
                if self.done >= 1:
                    break
            else:
                self.position.epoch, self.position.photos = self.position.epoch + 1, 0
        self.save()

    @property
    def done(self) -> float:
        """Share of the run that is over, 0..1: by the clock if there is a budget, by epochs otherwise."""
        if self.settings.budget_minutes is not None:
            return min(1.0, self.position.seconds / (60 * self.settings.budget_minutes))
        return min(1.0, (self.position.epoch + self.position.photos / len(self.photos)) / self.settings.epochs)

    def save(self) -> None:
        """Write the resumable state and, from the averaged weights, a checkpoint that can be served."""
        buffers = dict(self.curriculum.named_buffers())
        save_run(self.run_folder, self.parameters, self.average, self.optimizer, self.position, buffers)
        with self.averaged():
            export_checkpoint(self.model, self.processor, Path(self.settings.output) / "checkpoint")

    def averaged(self) -> Swapped:
        """A context in which the model holds its moving-average weights."""
        return Swapped(self.parameters, self.average.values)

    def _lessons(self) -> TagLessons | None:
        tags = self.model.encoder.tags
        if tags is None or not self.settings.lesson_share:
            return None
        words = {word.strip(".,!?") for photo in self.photos for caption in photo.captions for word in caption.split()}
        tower = self.model.encoder.vision.objects
        alike = nearest_kinds(tower.classes.weight.detach()) if tower is not None else ()
        return TagLessons(tags, self.processor, sorted(filter(str.isalpha, words)), alike)

    def _rest_of_epoch(self) -> Iterator[tuple[int, list[Row]]]:
        seen = 0
        for photos, rows in one_ahead(self.rows.batches(self.settings.seed + self.position.epoch)):
            if seen >= self.position.photos:
                yield photos, rows
            seen += photos

    def _timed_step(self, photos: int, rows: list[Row]) -> StepReport:
        start = time.monotonic()
        loss = self._step(rows)
        seconds = time.monotonic() - start
        self.position.step += 1
        self.position.photos += photos
        self.position.seconds += seconds
        return StepReport(self.position, loss, photos / seconds, self.done, self.curriculum.reward)

    def _step(self, rows: list[Row]) -> float:
        seed = self.settings.seed * 1_000_003 + self.position.step
        torch.manual_seed(seed)  # dropout repeats after a resume
        scale = schedule(self.position.step, self.settings.warmup_steps, self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * group["scale"] * scale
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.curriculum.learn(rows, self.done, random.Random(seed))
        nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.gradient_clip)
        self.optimizer.step()
        self.average.update(self.parameters, self.position.step)
        return loss


def mix_of(settings: TrainingSettings) -> Mix:
    """What the settings say of an epoch."""
    shares = ("short_share", "turn_share", "caption_share", "made_questions")
    return Mix(
        settings.batch_photos,
        settings.max_answer_tokens,
        settings.mirror_share,
        settings.crops,
        settings.lesson_share,
        {name: getattr(settings, name) for name in shares},
    )
