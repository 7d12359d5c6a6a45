"""The training loop: resumable, on a budget of epochs or minutes, with moving-average weights.

It knows batches and objectives; how a run looks on a screen is the caller's (`StepReport`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from visavis.models.image_features import ImageFeatures
from visavis.models.processor import Processor
from visavis.models.training.batches import EpochRows, Mix, PackedAnswers, Row, pack_answers, split_by_length
from visavis.models.training.data import Photo
from visavis.models.training.export import export_checkpoint
from visavis.models.training.features import FeatureCache, drop_patches, pool_patches
from visavis.models.training.objectives import answer_loss, answer_weights
from visavis.models.training.optimisation import autocast, freeze, parameter_groups, schedule
from visavis.models.training.run_state import Position, Swapped, WeightAverage, load_run, save_run
from visavis.models.training.self_critical import REQUEST, SelfCritical
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.tag_lessons import TagLessons
from visavis.models.training.text_states import TextStates
from visavis.models.visavis_model import ImageState, Memory, VisavisModel

LESSON_PATCHES = 0.125
"""How many of the patches are kept in a lesson about names and words."""
CRITIC_PHOTOS = 16
"""How many photos are sampled at a time, which bounds the memory it takes."""


@dataclass(frozen=True)
class StepReport:
    """After one step: the mean loss of its batch, photos a second, the share of the run that is done.

    `reward` is the mean CIDEr-D of the captions sampled of late; None without self-critical training.
    """

    position: Position
    loss: float
    photos_per_s: float
    done: float
    reward: float | None = None


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
        self.features = features
        self.autocast = autocast(settings.precision)
        self.texts = TextStates(model, processor, not settings.text_lr_scale, self.autocast)
        self.parameters = freeze(model, bool(settings.text_lr_scale), settings.vision_blocks)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.parameters, settings), lr=settings.learning_rate, betas=(0.9, 0.98)
        )
        self.average = WeightAverage(self.parameters, settings.ema_decay)
        self.position = Position()
        self.rows = EpochRows(photos, processor, mix_of(settings), self._lessons())
        self.reward: float | None = None
        self.critic: SelfCritical | None = None
        if settings.self_critical_samples:
            self.critic = SelfCritical(model, processor, photos, self._remember, settings.self_critical_samples, 24)

    @property
    def run_folder(self) -> Path:
        """Where the resumable state lives."""
        return Path(self.settings.output) / "run"

    def resume(self) -> bool:
        """Go on from the last checkpoint, if there is one."""
        if not (self.run_folder / "position.json").exists():
            return False
        self.position = load_run(self.run_folder, self.parameters, self.average, self.optimizer)
        return True

    def train(self) -> Iterator[StepReport]:
        """One report a step. Leaving early loses what came after the last checkpoint, no more."""
        self._train_mode()
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

    def _train_mode(self) -> None:
        self.model.train()
        self.model.encoder.vision.eval()
        if self.texts.frozen:
            self.model.encoder.text.eval()

    @property
    def done(self) -> float:
        """Share of the run that is over, 0..1: by the clock if there is a budget, by epochs otherwise."""
        if self.settings.budget_minutes is not None:
            return min(1.0, self.position.seconds / (60 * self.settings.budget_minutes))
        return min(1.0, (self.position.epoch + self.position.photos / len(self.photos)) / self.settings.epochs)

    def save(self) -> None:
        """Write the resumable state and, from the averaged weights, a checkpoint that can be served."""
        save_run(self.run_folder, self.parameters, self.average, self.optimizer, self.position)
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
        return TagLessons(tags, self.processor, sorted(filter(str.isalpha, words)))

    def _rest_of_epoch(self) -> Iterator[tuple[int, list[Row]]]:
        seen = 0
        for photos, rows in self.rows.batches(self.settings.seed + self.position.epoch):
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
        return StepReport(self.position, loss, photos / seconds, self.done, self.reward)

    def _step(self, rows: list[Row]) -> float:
        torch.manual_seed(self.settings.seed * 1_000_003 + self.position.step)  # dropout repeats after a resume
        scale = schedule(self.position.step, self.settings.warmup_steps, self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * group["scale"] * scale
        self.optimizer.zero_grad(set_to_none=True)
        answered = [row for row in rows if row.answers]
        loss = self._backward(grouped(answered, self.settings.groups)) if answered else 0.0
        if self.critic is not None:
            self._criticise(self.critic, [row.photo for row in rows if row.photo.captions and row.shown is None])
        nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.gradient_clip)
        self.optimizer.step()
        self.average.update(self.parameters, self.position.step)
        return loss

    def _backward(self, groups: list[list[Row]]) -> float:
        """Accumulate the gradient of the mean over all answers, one group at a time: less memory, the same sum."""
        decoder = self.model.config.decoder
        packed = [pack_answers(group, decoder.bos_token_id, decoder.pad_token_id) for group in groups]
        total = sum(answer_weights(answers.labels, answers.answer_id).sum() for answers in packed)
        mean = 0.0
        for group, answers in zip(groups, packed, strict=True):
            loss = self.group_loss(group, answers) / total
            loss.backward()
            mean += float(loss.detach())
        return mean

    def _criticise(self, critic: SelfCritical, photos: list[Photo]) -> None:
        """Add the gradient of the sampled captions' reward, a mean over their tokens."""
        self.model.train(False)
        for start in range(0, len(photos), CRITIC_PHOTOS):
            rows, answers, weights, reward = critic.rows(photos[start : start + CRITIC_PHOTOS])
            loss = answer_loss(self._logits(rows, answers), answers.labels, weights)
            (loss * self.settings.self_critical_weight * len(rows) / len(photos)).backward()
            self.reward = reward if self.reward is None else 0.98 * self.reward + 0.02 * reward
        self._train_mode()

    def _remember(self, photos: Sequence[Photo]) -> Memory:
        states, segments = self.texts.pack([[REQUEST]] * len(photos))
        with self.autocast():
            image = self._see(self.features.read([(photo.path, False) for photo in photos]))
            return self.model.fuse_states(image, states, segments > 0).float()

    def group_loss(self, rows: list[Row], answers: PackedAnswers) -> Tensor:
        """The weighted sum of the losses of all answers of some photos."""
        weights = answer_weights(answers.labels, answers.answer_id)
        return answer_loss(self._logits(rows, answers), answers.labels, weights, self.settings.label_smoothing)

    def _logits(self, rows: list[Row], answers: PackedAnswers) -> Tensor:
        """The logits of all real tokens, (R, V)."""
        features = shown_instead(self.features.read([row.view for row in rows]), rows)
        features = drop_patches(features, LESSON_PATCHES) if all(map(is_thin, rows)) else self._shrink(features)
        states, segments = self.texts.pack([row.texts for row in rows])
        with self.autocast():
            image = self._see(features)
            fused = self.model.encoder.fuse(image, states, segments)
            memory = self.model.join(image, fused)
            mask = answers.memory_mask(fused.segments, image.shown)
            hidden = self.model.decoder.states(answers.input_ids, answers.positions, memory, mask, answers.self_mask())
            return self.model.decoder.logits(hidden[answers.answer_id > 0]).float()

    def _shrink(self, features: ImageFeatures) -> ImageFeatures:
        if self.done < self.settings.pool_until:
            return pool_patches(features)
        return drop_patches(features) if self.done < self.settings.drop_until else features

    def _see(self, features: ImageFeatures) -> ImageState:
        """Features of the cache through what still learns of the image encoder."""
        return self.model.image_state(self.model.encoder.vision.finish(features, self.features.later))


def is_thin(row: Row) -> bool:
    """True for a lesson about names and words alone."""
    return row.shown is not None and row.shown.sure


def grouped(rows: Sequence[Row], groups: int) -> list[list[Row]]:
    """Rows of like length together, and lessons that need little of the picture by themselves: they are cheap."""
    thin, full = [row for row in rows if is_thin(row)], [row for row in rows if not is_thin(row)]
    return split_by_length(full, groups) + ([thin] if thin else [])


def mix_of(settings: TrainingSettings) -> Mix:
    """What the settings say of an epoch."""
    shares = ("short_share", "turn_share", "caption_share", "made_questions")
    return Mix(
        settings.batch_photos,
        settings.max_answer_tokens,
        settings.mirror_share,
        settings.lesson_share,
        {name: getattr(settings, name) for name in shares},
    )


def shown_instead(features: ImageFeatures, rows: Sequence[Row]) -> ImageFeatures:
    """The features, with swapped tags and words where a row is shown with them."""
    if features.kinds is None or not any(row.shown for row in rows):
        return features
    kinds, longest = features.kinds.clone(), max(len(row.shown.words) for row in rows if row.shown)
    read = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        if row.shown is not None:
            kinds[number] = float("-inf")
            for kind, probability in row.shown.kinds:
                kinds[number, kind] = math.log(probability)
            read[number, : len(row.shown.words)] = torch.tensor(row.shown.words, dtype=torch.long)
    return replace(features, kinds=kinds, read=read)
