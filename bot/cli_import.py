"""The command `visavis import`: its flags; the work is done by `visavis.models.training.data_import`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from visavis.bot.cli_options import fail, sentences


class Form(StrEnum):
    """Whose data it is."""

    COCO = "coco"
    VQAV2 = "vqav2"
    LLAVA = "llava"


def import_data(
    form: Annotated[Form, typer.Argument(metavar="coco|vqav2|llava", help="The form of the data.")],
    source: Annotated[Path, typer.Argument(help="Folder with the annotation files and the photos.")],
    destination: Annotated[Path, typer.Argument(help="Folder to write; `visavis train` reads it.")],
) -> None:
    """Bring COCO captions, VQA v2 questions or LLaVA conversations into the form that `train` and `evaluate` read.

    Photos are linked, not copied, where the file system can. Example: visavis import coco coco2017 my-photos
    """
    with sentences():
        from visavis.models.training.data_import import DataFormat, import_data

        try:
            report = import_data(DataFormat(form.value), source, destination)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            told = (
                str(error) if type(error) is ValueError else f"the files in {source} are not of the form {form.value}"
            )
            fail(told, code=1)
    for name, count in sorted(report.lines.items()):
        typer.echo(f"{destination / name}: {count} lines")
    typer.echo(f"{report.photos} photos; {report.missing} lines left out whose photo is not there")
