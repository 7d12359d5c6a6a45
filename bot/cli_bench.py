"""The command `visavis bench`: its flags; the work is done by `visavis.bot.bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.bot.cli_options import Device, Model, fail, read_settings, run, sentences


def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="Ask the slow rivals a sample only; ends within 90 s.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Gateway processes.")] = 1,
    threads: Annotated[int | None, typer.Option(help="Threads of every contestant; the number of cores.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for bench.json and bench.svg.")] = None,
    model: Model = None,
    device: Device = None,
    url: Annotated[
        str | None, typer.Option(help="Measure a running server instead, such as https://chat.example.org.")
    ] = None,
    people: Annotated[int, typer.Option(min=1, max=200, help="With --url: how many ask at once.")] = 32,
) -> None:
    """Compare visavis with the same weights under `generate` (one by one, in batches) and LitServe.

    32 people ask four questions each about a picture of their own, over the real websocket and store. All contestants
    take turns, five times; with a busy machine there is no verdict. With --url: how soon a running server answers.
    """
    if url is not None:
        return _measure(url, people, as_json=as_json)
    settings = read_settings(model=model, threads=threads, device=device or "cpu")
    from rich.console import Console

    from visavis.bot.bench.command import bench as run_bench
    from visavis.bot.bench.command import write

    console = Console(stderr=as_json)
    with sentences():
        try:
            report = run(run_bench(settings, workers=workers, quick=quick, console=console))
        except RuntimeError as error:
            fail(str(error), code=1)
    write(report, console, as_json=as_json, out=out)


def _measure(url: str, people: int, *, as_json: bool) -> None:
    import json

    from rich.console import Console

    from visavis.bot.bench.deployment import measure, table

    with sentences():
        try:
            report = run(measure(url, people))
        except RuntimeError as error:
            fail(str(error), code=1)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        Console().print(table(report))
