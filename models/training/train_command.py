"""The command behind `visavis train`: from settings to a checkpoint, with progress on standard error."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.training.curriculum import phases_of
from visavis.models.training.data import Photo, load_photos
from visavis.models.training.features import FeatureCache, View
from visavis.models.training.initialise import new_model, with_shared_space, with_tags
from visavis.models.training.optimisation import autocast
from visavis.models.training.settings import TrainingSettings
from visavis.models.training.trainer import StepReport, Trainer
from visavis.models.visavis_model import VisavisModel


def train_command(settings: TrainingSettings, *, fresh: bool = False) -> Path:
    """Train, or go on with a stopped run of the same output folder, and return the folder of the checkpoint.

    The run may be stopped at any time (Ctrl-C, a kill): the same command goes on from the last checkpoint.

    Raises:
        ValueError: wrong settings or data; a run of other settings in the output folder.
        ModelError: `start_from` holds no checkpoint.
        OSError: a folder cannot be read or written.
    """
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    torch.manual_seed(settings.seed)
    photos = load_photos([Path(folder) for folder in settings.data])
    model, processor = starting_point(settings, photos)
    if model.config.shared is None and phases_of(settings).use("itc"):
        model = with_shared_space(model)
    features = FeatureCache(
        Path(settings.feature_cache or output / "features"),
        model,
        processor,
        settings.vision_blocks,
        autocast=autocast(settings.precision),
    )
    trainer = Trainer(model, processor, photos, settings, features)
    if not fresh and trainer.resume():
        console.print(f"going on after step {trainer.position.step}, {trainer.done:.0%} done")
    settings.save(output / "settings.json")
    _fill(features, views_of(photos, settings), console)
    if phases_of(settings).use("i2t_perturbed", "t2i_perturbed"):
        _fill(features.of_perturbed(), [View(photo.path) for photo in photos if photo.captions], console)
    _train(trainer, console)
    return output / "checkpoint"


def starting_point(settings: TrainingSettings, photos: Sequence[Photo]) -> tuple[VisavisModel, Processor]:
    """The model of `start_from` (a checkpoint of an earlier stage), else a new one over the pretrained towers.

    A checkpoint without object tags gets them where `towers` is named as well.
    """
    if settings.start_from:
        model, processor = load_model(settings.start_from, "cpu")
        tagged = model.encoder.tags is not None or not settings.towers
        return (model if tagged else with_tags(model, processor, Path(settings.towers))), processor
    if not (settings.towers or (settings.vision and settings.text)):
        raise ValueError(
            "a new model needs `towers` (folders `vision` and `text`); or name a checkpoint as `start_from`"
        )
    return new_model(settings, photos)


def views_of(photos: Sequence[Photo], settings: TrainingSettings) -> list[View]:
    """What is encoded before the first step; crops are when they are first seen, since no run sees all of them soon."""
    return [View(photo.path, flip) for photo in photos for flip in (False, True)[: 2 if settings.mirror_share else 1]]


def _fill(features: FeatureCache, views: Sequence[View], console: Console) -> None:
    columns = (
        TextColumn("image features"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("features", total=len(views))
        for done in features.fill(views):
            progress.update(task, completed=done)


def _train(trainer: Trainer, console: Console) -> None:
    """A bar that lives where there is a terminal, and a line every fifty steps that a log keeps."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.1f}%"), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("training", total=1.0)
        progress.update(task, completed=trainer.done)
        mean = None
        for report in trainer.train():
            mean = report.loss if mean is None else 0.95 * mean + 0.05 * report.loss
            progress.update(task, completed=report.done, description=_line(report, mean))
            if report.position.step % 50 == 0:
                progress.console.print(f"{report.done:6.1%}  {_line(report, mean)}", highlight=False)


def _line(report: StepReport, mean: float) -> str:
    position = report.position
    reward = "" if report.reward is None else f"  CIDEr of samples {report.reward:.3f}"
    return f"step {position.step}  epoch {position.epoch}  loss {mean:.3f}{reward}  {report.photos_per_s:.1f} photos/s"
