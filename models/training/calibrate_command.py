"""The command behind `visavis calibrate`: teaches a trained checkpoint what it does not know, and writes it anew.

Two things are fitted, and neither touches what the model says: a head that tells photos from other pictures, and how
sure an answer is, on the dev files of the data (questions and dialogues that were not trained on).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from visavis.models.confidence import Calibration
from visavis.models.engine import InferenceEngine
from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.training.calibration_fitting import fit_calibration
from visavis.models.training.data import load_photos
from visavis.models.training.evaluation import ask_all
from visavis.models.training.evaluation_items import Item, Section, read_items
from visavis.models.training.evaluation_summary import score_answers
from visavis.models.training.export import export_checkpoint
from visavis.models.training.photo_fitting import PhotoFit, fit_photo_head, pictures, summaries
from visavis.models.visavis_model import VisavisModel

JUDGED = (Section.QUESTIONS, Section.DIALOGUES)


def calibrate_command(
    model_dir: Path, folders: Sequence[Path], output: Path, *, photos: int = 1200, seed: int = 1
) -> None:
    """Fit on `photos` photos of the train files and as many drawings, and on the dev files; write to `output`.

    Raises:
        ModelError: the checkpoint cannot be loaded.
        ValueError: the folders hold no dev questions or dialogues, or a file is broken.
        OSError: a file cannot be read or written.
    """
    items = dev_items(folders)
    model, processor = load_model(model_dir, "cpu")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        fit = _fit_head(model, processor, [photo.path for photo in load_photos(folders)], photos, seed, progress)
        # Asked without the head: what it refuses by mistake would tell nothing about confidence.
        calibration = _calibrate(model, processor, items, progress)
    knowing = with_photo_head(model, fit)
    knowing.config.calibration = calibration
    console.print(f"drawings recognised {fit.recognised:.1%}, photos refused {fit.false_alarms:.1%} (held back)")
    console.print(f"confidence: {knowing.config.calibration}")
    export_checkpoint(knowing, processor, output)


def dev_items(folders: Sequence[Path]) -> list[Item]:
    """The questions and dialogue turns of the folders' dev files. Raises ValueError if there are none."""
    files = [(section, folder / f"{section.value}.dev.jsonl") for folder in folders for section in JUDGED]
    items = [item for section, file in files if file.is_file() for item in read_items(section, file)]
    if not items:
        raise ValueError(f"none of {', '.join(map(str, folders))} holds questions.dev.jsonl or dialogues.dev.jsonl")
    return items


def with_photo_head(model: VisavisModel, fit: PhotoFit) -> VisavisModel:
    """The same model with the head."""
    grown = VisavisModel(replace(model.config, photo_head=True))
    grown.load_state_dict(model.state_dict(), strict=False)
    assert grown.encoder.photo_head is not None
    grown.encoder.photo_head.load_state_dict(fit.head.state_dict())
    return grown.train(False)


def _fit_head(
    model: VisavisModel, processor: Processor, paths: Sequence[Path], count: int, seed: int, progress: Progress
) -> PhotoFit:
    shown = summaries(model, processor, pictures(paths, count, seed))
    return fit_photo_head(list(progress.track(shown, 2 * min(count, len(paths)), description="photos and drawings")))


def _calibrate(model: VisavisModel, processor: Processor, items: Sequence[Item], progress: Progress) -> Calibration:
    """Ask everything, and find what makes the model's confidence true."""
    task = progress.add_task("answers", total=len(items))
    with InferenceEngine(model, processor) as engine:
        replies = asyncio.run(ask_all(engine, items, lambda done, _: progress.update(task, completed=done)))
    judged = zip(replies, score_answers(items, replies), strict=True)
    spoken = [(reply.log_probabilities, bool(answer.scored)) for reply, answer in judged if reply.log_probabilities]
    return fit_calibration(spoken)
