"""The command behind `visavis promote`: a checkpoint takes another one's place only if it measures no worse.

Both are asked the same dev files in one run, as they are served, so that nothing but the weights differs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from visavis.models.checkpoint_files import EMBEDDED
from visavis.models.training.evaluation import evaluate
from visavis.models.training.evaluation_items import Section
from visavis.models.training.evaluation_options import EvaluationOptions

DECIDING = {Section.CAPTIONS: "cider", Section.QUESTIONS: "accuracy", Section.DIALOGUES: "accuracy"}
RECORD = "promotion.json"


@dataclass(frozen=True)
class Comparison:
    """A figure of a dev file: of the checkpoint `before`, and of the one that may take its place."""

    file: str
    figure: str
    before: float
    after: float


def promote_command(
    candidate: Path, folders: Sequence[Path], target: Path, *, may_fall: float = 0.0, limit: int | None = None
) -> bool:
    """Put `candidate` at `target`, unless a figure of the folders' dev files fell by more than `may_fall`.

    It is compared with what lies at `target`, or with the model that ships. What lay there stays beside it, with the
    suffix `.before`. True if the candidate was promoted.

    Raises:
        ModelError: a checkpoint cannot be loaded. ValueError: no dev files, or a broken one. OSError.
    """
    current = target if target.exists() else EMBEDDED
    compared = list(compare(candidate, current, folders, limit))
    fell = [one for one in compared if one.after < one.before - may_fall]
    console = Console(stderr=True)
    console.print(table_of(compared))
    if fell:
        console.print(f"not promoted: {', '.join(f'{one.figure} of {one.file}' for one in fell)} fell")
        return False
    put(candidate, target, compared)
    console.print(f"promoted to {target}")
    return True


def compare(candidate: Path, current: Path, folders: Sequence[Path], limit: int | None) -> Iterator[Comparison]:
    """What decides, of both checkpoints. Raises as `promote_command`."""
    for options in options_of(folders, limit):
        before, after = (_figures(model, options) for model in (current, candidate))
        for section, name in DECIDING.items():
            if (file := options.files.get(section)) is not None:
                yield Comparison(f"{file.parent.name}/{file.name}", name, before[section], after[section])


def options_of(folders: Sequence[Path], limit: int | None) -> list[EvaluationOptions]:
    """The dev files of each folder. Raises ValueError where there are none."""
    found: list[EvaluationOptions] = []
    for folder in folders:
        files = {section: folder / f"{section.value}.dev.jsonl" for section in DECIDING}
        there = {section.value: file for section, file in files.items() if file.is_file()}
        if not there:
            raise ValueError(f"{folder} holds no {', '.join(file.name for file in files.values())}")
        found.append(EvaluationOptions(**there, limit=limit))  # type: ignore[arg-type]
    return found


def _figures(model: Path, options: EvaluationOptions) -> dict[Section, float]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(model.name, total=None)
        figures, _ = evaluate(
            model, options, advance=lambda done, total: progress.update(task, completed=done, total=total)
        )
    return {section: figures[section][DECIDING[section]] or 0.0 for section in options.files}


def put(candidate: Path, target: Path, compared: Sequence[Comparison]) -> None:
    """Copy, then rename: whoever starts a server finds the old checkpoint or the new one, never half of it."""
    new, old = (target.with_name(f"{target.name}.{name}") for name in ("new", "before"))
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(candidate, new)
    record = [asdict(one) for one in compared]
    (new / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    new.rename(target)


def table_of(compared: Sequence[Comparison]) -> Table:
    """One line a figure."""
    table = Table("file", "figure", "before", "after", box=None)
    for one in compared:
        table.add_row(one.file, one.figure, f"{one.before:.4f}", f"{one.after:.4f}")
    return table
