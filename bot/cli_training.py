"""The commands `visavis train`, `evaluate` and `calibrate`: their flags; `visavis.models.training` does the work."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from visavis.bot.cli_options import Beams, Device, Model, fail, read_settings, sentences


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
    ocr: Annotated[bool, typer.Option("--ocr", help="Also read words drawn into the photos (extra `ocr`).")] = False,
    swap_images: Annotated[bool, typer.Option("--swap-images", help="Ask about another item's picture.")] = False,
    blank: Annotated[BlankPart | None, typer.Option(help="Take the picture or the question away.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Write what was asked, expected and said here.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items of each file.")] = None,
    beams: Beams = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    device: Device = None,
) -> None:
    """Measure a model on captions, questions and dialogues, as it is served (greedy).

    Example: visavis evaluate --captions captions.dev.jsonl --questions questions.dev.jsonl
    """
    settings = read_settings(model=model, device=device)
    with sentences():
        from visavis.bot.chat_models import ModelNotFound, model_folder
        from visavis.models.training.evaluation_items import Blank
        from visavis.models.training.evaluation_options import EvaluationOptions
        from visavis.models.training.evaluation_report import evaluate_command

        options = EvaluationOptions(
            captions=captions,
            questions=questions,
            dialogues=dialogues,
            things=things,
            nonphotos=nonphotos,
            retrieval=retrieval,
            ocr=ocr,
            swap_images=swap_images,
            blank=Blank(blank.value) if blank else None,
            predictions=predictions,
            limit=limit,
            beams=beams,
        )
        try:
            folder, kept = model_folder(settings.model), {"device": settings.device, "precision": settings.precision}
            evaluate_command(folder, options, as_json=as_json, **kept)
        except ModelNotFound:
            raise
        except ModuleNotFoundError as error:
            fail(f"{error.name} is not installed; pip install 'visavis[train]'.", code=1)
        except ValueError as error:
            fail(str(error), code=1)


def train(
    data: Annotated[
        list[Path] | None, typer.Argument(help="Folders with images/ and captions|questions|dialogues.train.jsonl.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A JSON file of training settings; flags override it.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run: state, features, checkpoint.")] = None,
    start_from: Annotated[str | None, typer.Option(help="A checkpoint to go on from, or `embedded`.")] = None,
    towers: Annotated[Path | None, typer.Option(help="Pretrained towers for a new model.")] = None,
    epochs: Annotated[float | None, typer.Option(min=0, help="Length of the run.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Length by the clock instead.")] = None,
    seed: Annotated[int | None, typer.Option(help="Order, dropout and first weights repeat with it.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.")] = None,
    feedback: Annotated[
        Path | None, typer.Option(help="Also learn from this folder of `visavis export --feedback`, or its .jsonl.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of going on with a stopped run.")] = False,
) -> None:
    """Train a model on captions, questions and dialogues; the same command goes on with a stopped run.

    Example: visavis train my-photos --start-from embedded --epochs 3 --output run
    """
    if feedback is not None:
        data = [*(data or []), feedback if feedback.is_dir() else feedback.parent]
    with sentences():
        from visavis.models.checkpoint_files import EMBEDDED
        from visavis.models.training.settings import TrainingSettings
        from visavis.models.training.train_command import train_command

        start = str(EMBEDDED) if start_from == "embedded" else start_from
        flags = {"data": data or None, "output": output, "start_from": start, "towers": towers, "epochs": epochs}
        flags |= {"budget_minutes": minutes, "seed": seed, "threads": threads}
        try:
            settings = TrainingSettings.load(config, **{name: _plain(value) for name, value in flags.items()})
            checkpoint = train_command(settings, fresh=fresh)
        except ValueError as error:
            fail(str(error), code=2)
    typer.echo(checkpoint)


def promote(
    candidate: Annotated[Path, typer.Argument(help="A checkpoint, as `train` or `calibrate` writes it.")],
    data: Annotated[list[Path], typer.Argument(help="Folders with captions|questions|dialogues.dev.jsonl.")],
    to: Annotated[Path, typer.Option(help="Folder of the checkpoint that is served (`serve --model`).")],
    may_fall: Annotated[float, typer.Option(min=0, help="So much may a figure fall: 0.005 is half a point.")] = 0.0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items of each file.")] = None,
) -> None:
    """Let a checkpoint take the place of the one that is served, only if no figure falls.

    Both answer the same dev files: CIDEr of captions, accuracy of questions and dialogues. Exit code 1 if one fell. The
    first time a checkpoint is compared with the model that ships; what it replaces stays beside it, as NAME.before.

    Example: visavis promote run/checkpoint my-photos --to model
    """
    with sentences():
        from visavis.models.training.promotion import promote_command

        try:
            promoted = promote_command(candidate, data, to, may_fall=may_fall, limit=limit)
        except ModuleNotFoundError as error:
            fail(f"{error.name} is not installed; pip install 'visavis[train]'.", code=1)
        except ValueError as error:
            fail(str(error), code=2)
    if not promoted:
        raise typer.Exit(1)


def average(
    checkpoints: Annotated[list[Path], typer.Argument(help="Two or more, trained on from one beginning.")],
    output: Annotated[Path, typer.Option(help="Folder of the new checkpoint.")],
) -> None:
    """Make one checkpoint of several that were trained on from the same one: the mean of their weights.

    Example: visavis average run-a/checkpoint run-b/checkpoint --output run-ab
    """
    with sentences():
        from visavis.models.training.averaging import average_command

        try:
            average_command(checkpoints, output)
        except ValueError as error:
            fail(str(error), code=2)
    typer.echo(output)


def calibrate(
    data: Annotated[list[Path], typer.Argument(help="Folders with train and dev files.")],
    output: Annotated[Path, typer.Option(help="Folder of the new checkpoint.")],
    model: Model = None,
    photos: Annotated[int, typer.Option(min=20, help="So many photos, and as many drawings.")] = 1200,
    seed: Annotated[int, typer.Option(help="Which photos, and what is drawn.")] = 1,
) -> None:
    """Teach a trained model to tell photos from other pictures and to say how sure it is.

    Example: visavis calibrate my-photos --model run/checkpoint --output calibrated
    """
    settings = read_settings(model=model)
    with sentences():
        from visavis.bot.chat_models import model_folder
        from visavis.models.training.calibrate_command import calibrate_command

        try:
            calibrate_command(model_folder(settings.model), data, output, photos=photos, seed=seed)
        except ValueError as error:
            fail(str(error), code=2)
    typer.echo(output)


def compare(
    data: Annotated[
        list[Path], typer.Argument(help="Folders with images/, *.train.jsonl to learn and *.dev.jsonl to measure.")
    ],
    towers: Annotated[
        Path, typer.Option(help="Pretrained towers (`vision`, `text`, `objects`), the same for all runs.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the runs; what was stopped goes on.")] = Path("comparison"),
    steps: Annotated[int, typer.Option(min=1, help="Steps of every run.")] = 600,
    config: Annotated[
        Path | None, typer.Option(help="A JSON file of other training settings, the same for all.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="The runs to take, by name; all nine by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items of each development file.")] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write the table and the plot here, such as docs/fusion.md.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same for all runs.")] = None,
) -> None:
    """Train four kinds of fusion and five mixes of objectives on one budget, and measure them alike.

    Example: visavis compare flickr8k daquar --towers towers --steps 600 --page docs/fusion.md
    """
    with sentences():
        from visavis.models.training.comparison import ENTRIES
        from visavis.models.training.comparison_report import compare_command
        from visavis.models.training.settings import TrainingSettings

        known = {entry.name: entry for entry in ENTRIES}
        if unknown := [name for name in only or () if name not in known]:
            fail(f"there is no run {unknown[0]!r}; there are {', '.join(known)}", code=2)
        entries = [entry for entry in ENTRIES if not only or entry.name in only]
        flags = {"data": data, "output": output, "towers": towers, "threads": threads, "seed": seed}
        try:
            settings = TrainingSettings.load(config, **{name: _plain(value) for name, value in flags.items()})
            compare_command(settings, steps, entries, limit=limit, page=page)
        except ModuleNotFoundError as error:
            fail(f"{error.name} is not installed; pip install 'visavis[train]'.", code=1)
        except ValueError as error:
            fail(str(error), code=2)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
