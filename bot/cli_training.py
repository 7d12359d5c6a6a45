"""The commands `visavis train` and `visavis evaluate`: their flags; the work is done by `visavis.models.training`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from visavis.bot.cli_options import Device, Model, read_settings, sentences


class BlankPart(StrEnum):
    """What `evaluate --blank` takes away."""

    IMAGE = "image"
    QUESTION = "question"


def evaluate(
    model: Model = None,
    captions: Annotated[Path | None, typer.Option(help="captions.*.jsonl: {image, captions}.")] = None,
    questions: Annotated[Path | None, typer.Option(help="questions.*.jsonl: {image, question, answers}.")] = None,
    dialogues: Annotated[Path | None, typer.Option(help="dialogues.*.jsonl: {image, turns}.")] = None,
    things: Annotated[Path | None, typer.Option(help="Questions about single things, one word each.")] = None,
    nonphotos: Annotated[Path | None, typer.Option(help="A folder of pictures that are no photos.")] = None,
    retrieval: Annotated[bool, typer.Option("--retrieval", help="Also find each caption's picture.")] = False,
    swap_images: Annotated[bool, typer.Option("--swap-images", help="Ask about another item's picture.")] = False,
    blank: Annotated[BlankPart | None, typer.Option(help="Take the picture or the question away.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Write what was asked, expected and said here.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items of each file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    device: Device = None,
) -> None:
    """Measure a model on captions, questions and dialogues, as it is served (greedy).

    Example: visavis evaluate --captions captions.dev.jsonl --questions questions.dev.jsonl
    """
    settings = read_settings(model=model, device=device)
    with sentences():
        from visavis.bot.chat_models import model_folder
        from visavis.models.training.evaluation import EvaluationOptions
        from visavis.models.training.evaluation_items import Blank
        from visavis.models.training.evaluation_report import evaluate_command

        options = EvaluationOptions(
            captions=captions,
            questions=questions,
            dialogues=dialogues,
            things=things,
            nonphotos=nonphotos,
            retrieval=retrieval,
            swap_images=swap_images,
            blank=Blank(blank.value) if blank else None,
            predictions=predictions,
            limit=limit,
        )
        evaluate_command(model_folder(settings.model), options, as_json=as_json, device=settings.device)


def train() -> None:
    """Train a model on captions, questions and dialogues."""
