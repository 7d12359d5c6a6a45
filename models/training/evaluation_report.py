"""The command behind `visavis evaluate`: progress while it asks, then a table or JSON, and a file of all answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from visavis.models.errors import NoSharedSpace
from visavis.models.precision import Precision
from visavis.models.training.evaluation import evaluate
from visavis.models.training.evaluation_options import Answer, EvaluationOptions, Figures


def evaluate_command(
    model_dir: Path,
    options: EvaluationOptions,
    *,
    as_json: bool = False,
    device: str = "auto",
    precision: str = "auto",
) -> None:
    """Evaluate, print the figures on stdout (progress goes to stderr) and write `options.predictions` if it is named.

    Raises:
        ModelError, ValueError, OSError, ModuleNotFoundError: as `evaluate`, or the predictions cannot be written;
            nothing was printed then.
    """
    if options.predictions is not None:
        options.predictions.open("a", encoding="utf-8").close()  # a path that cannot be written shows now
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("answers", total=None)
        figures, answers = evaluate(
            model_dir,
            options,
            device=device,
            precision=Precision(precision),
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if options.retrieval and figures["retrieval"] is None:
        Console(stderr=True).print(f"{NoSharedSpace()}: retrieval is null", style="yellow")
    if options.predictions is not None:
        write_predictions(options.predictions, answers)
    if as_json:
        print(json.dumps(figures))
    else:
        Console().print(table_of(figures))


def write_predictions(file: Path, answers: Iterable[Answer]) -> None:
    """One JSON line for every answer: what was asked, expected, said and scored.

    `image` is null for an all-grey picture; `scored` is true or false, for a caption its CIDEr.
    """
    with file.open("w", encoding="utf-8") as lines:
        for answer in answers:
            lines.write(json.dumps(_row(answer), ensure_ascii=False) + "\n")


def table_of(figures: Figures) -> Table:
    """The figures, one a line; sections without figures are left out."""
    table = Table("section", "figure", Column("value", overflow="fold"), box=None)
    for section, values in figures.items():
        for name, value in (values or {}).items():
            table.add_row(
                section, name, "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
            )
    return table


def _row(answer: Answer) -> dict[str, Any]:
    item = answer.item
    return {
        "section": item.section,
        "image": None if item.image is None else f"{item.image.parent.name}/{item.image.name}",
        "history": item.history,
        "asked": item.asked,
        "expected": item.expected,
        "written": item.written,
        "said": answer.said,
        "scored": answer.scored,
        "confidence": answer.confidence,
    }
