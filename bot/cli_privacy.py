"""The commands `visavis export` and `visavis forget`: their flags; the work is done by `privacy`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from visavis.bot.cli_options import DataDir, Device, Model, RedisUrl, fail, read_settings, run, sentences

Person = Annotated[str | None, typer.Option(help="A person, by one of the names: web:<hash>, embed:<subject>, ...")]


def export(
    person: Person = None,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Instead: answers that were liked with consent, for `visavis train`.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for a person's data.")] = Path("export"),
    heat_maps: Annotated[
        bool, typer.Option("--heat-maps", help="Draw where the model looked, too; it is loaded for that.")
    ] = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    model: Model = None,
    device: Device = None,
) -> None:
    """Write a person's data: JSON lines, pictures, and one page for each conversation.

    With --feedback: <data-dir>/feedback, which forgetting a conversation cleans as well.
    """
    if (person is None) != feedback:
        fail("give either --person NAME or --feedback", code=2)
    settings = read_settings(data_dir=data_dir, redis_url=redis_url, model=model, device=device)
    from visavis.bot import privacy

    with sentences():
        if person is None:
            folder, rows = run(privacy.export_feedback(settings))
            typer.echo(f"{folder}: {rows} dialogues")
        else:
            count = run(privacy.export_person(settings, person, out, heat_maps=heat_maps))
            typer.echo(f"{out}: {count} conversations")


def forget(
    person: Person = None,
    session: Annotated[str | None, typer.Option(help="One conversation, by its id.")] = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
) -> None:
    """Delete everything about a person, over all linked channels, or one conversation; prints a receipt."""
    if (person is None) == (session is None):
        fail("give either --person NAME or --session ID", code=2)
    settings = read_settings(data_dir=data_dir, redis_url=redis_url)
    from visavis.bot import privacy

    with sentences():
        typer.echo(json.dumps(asdict(run(privacy.forget(settings, person, session)))))
