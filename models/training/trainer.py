"""The training loop: resumable, on a budget of epochs or minutes, with moving-average weights.

It knows batches and objectives; how a run looks on a screen is the caller's (`StepReport`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visavis.models.processor import VisavisProcessor
from visavis.models.training.batches import PackedAnswers, Row, epoch_rows, pack_answers, split_by_length
from visavis.models.training.data import Photo
from visavis.models.training.export import export_checkpoint
from visavis.models.training.features import FeatureCache, pool_patches
from visavis.models.training.objectives import answer_loss, answer_weights
from visavis.models.training.run_state import Position, WeightAverage, load_run, save_run
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.text_states import TextStates
from visavis.models.visavis_model import VisavisForConditionalGeneration


@dataclass(frozen=True)
class StepReport:
    """After one step: the mean loss of its batch, photos a second, the share of the run that is done."""

    position: Position
    loss: float
    photos_per_s: float
    done: float


class Trainer:
    """Trains fusion encoder and decoder (and the text encoder if asked) on features of a frozen image encoder."""

    def __init__(
        self,
        model: VisavisForConditionalGeneration,
        processor: VisavisProcessor,
        photos: list[Photo],
        settings: TrainingSettings,
        features: FeatureCache,
    ) -> None:
        self.model, self.processor, self.photos, self.settings = model, processor, photos, settings
        self.features = features
        self.texts = TextStates(model, processor, frozen=not settings.text_lr_scale)
        self.parameters = _freeze(model, bool(settings.text_lr_scale))
        self.optimizer = torch.optim.AdamW(
            _groups(self.parameters, settings), lr=settings.learning_rate, betas=(0.9, 0.98)
        )
        self.average = WeightAverage(self.parameters, settings.ema_decay)
        self.position = Position()
        self.autocast = _autocast(settings.precision)

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
        self.model.train()
        self.model.encoder.vision.eval()
        if self.texts.frozen:
            self.model.encoder.text.eval()
        saved = time.monotonic()
        while self.done < 1:
            for batch in self._rest_of_epoch():
                yield self._timed_step(batch)
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
        save_run(self.run_folder, self.parameters, self.average, self.optimizer, self.position)
        with self.averaged():
            export_checkpoint(self.model, self.processor, Path(self.settings.output) / "checkpoint")

    def averaged(self) -> Swapped:
        """A context in which the model holds its moving-average weights."""
        return Swapped(self.parameters, self.average.values)

    def _rest_of_epoch(self) -> Iterator[list[Row]]:
        settings = self.settings
        epoch = epoch_rows(
            self.photos,
            self.processor,
            size=settings.batch_photos,
            seed=settings.seed + self.position.epoch,
            short_share=settings.short_share,
            max_tokens=settings.max_answer_tokens,
        )
        seen = 0
        for rows in epoch:
            if seen >= self.position.photos:
                yield rows
            seen += len(rows)

    def _timed_step(self, rows: list[Row]) -> StepReport:
        start = time.monotonic()
        loss = self._step(rows)
        seconds = time.monotonic() - start
        self.position.step += 1
        self.position.photos += len(rows)
        self.position.seconds += seconds
        return StepReport(self.position, loss, len(rows) / seconds, self.done)

    def _step(self, rows: list[Row]) -> float:
        torch.manual_seed(self.settings.seed * 1_000_003 + self.position.step)  # dropout repeats after a resume
        scale = _schedule(self.position.step, self.settings.warmup_steps, self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * group["scale"] * scale
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(split_by_length(rows, self.settings.groups))
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

    def group_loss(self, rows: list[Row], answers: PackedAnswers) -> Tensor:
        """The weighted sum of the losses of all answers of some photos."""
        features = self.features.read([row.photo.path for row in rows])
        if self.done < self.settings.pool_until:
            features = pool_patches(features)
        states, segments = self.texts.pack([row.texts for row in rows])
        with self.autocast():
            image = self.model.image_state(features)
            own_text = segments[:, :, None] == segments[:, None, :]
            fused = self.model.encoder.fuse(image.fusion, states, own_text)
            text = self.model.decoder.remember(fused)
            memory = [seen.join(said) for seen, said in zip(image.decoder, text, strict=True)]
            mask = answers.memory_mask(segments, features.shape[1])
            hidden = self.model.decoder.states(answers.input_ids, answers.positions, memory, mask, answers.self_mask())
            logits = self.model.decoder.logits(hidden[answers.answer_id > 0])
        weights = answer_weights(answers.labels, answers.answer_id)
        return answer_loss(logits.float(), answers.labels, weights, self.settings.label_smoothing)


class Swapped:
    """Holds other values in parameters for a while."""

    def __init__(self, parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
        self.parameters, self.values = parameters, values

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data


def _freeze(model: VisavisForConditionalGeneration, train_text: bool) -> dict[str, nn.Parameter]:
    """Trained parameters by name; the rest asks for no gradient."""
    for name, parameter in model.named_parameters():
        tower = name.startswith("encoder.vision.") or (name.startswith("encoder.text.") and not train_text)
        parameter.requires_grad_(not tower and "embeddings.word_embeddings" not in name)
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _groups(parameters: dict[str, nn.Parameter], settings: TrainingSettings) -> list[dict[str, Any]]:
    """Layer-wise rates: a pretrained text encoder moves slowly. Matrices alone decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        scale = settings.text_lr_scale if name.startswith("encoder.text.") else 1.0
        decay = settings.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    return [{"params": values, "scale": scale, "weight_decay": decay} for (scale, decay), values in groups.items()]


def _schedule(step: int, warmup_steps: int, done: float) -> float:
    """Linear warm-up, then a cosine down to a hundredth (Loshchilov and Hutter 2017)."""
    cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2
    return cosine * min(1.0, (step + 1) / max(1, warmup_steps))


def _autocast(precision: str) -> Callable[[], Any]:
    """bf16 autocast where the processor has it in hardware; emulated it is a hundred times slower than fp32."""
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"precision must be auto, bf16 or fp32, not {precision!r}")
    if precision == "bf16" or (precision == "auto" and _bf16_is_faster()):
        return lambda: torch.autocast("cpu", torch.bfloat16)
    return nullcontext


def _bf16_is_faster() -> bool:
    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(256, 256, dtype=dtype)
        _ = matrix @ matrix
        start = time.perf_counter()
        _ = matrix @ matrix
        return time.perf_counter() - start

    return seconds(torch.bfloat16) < seconds(torch.float32)
