"""`visavis bench`: start everybody, let them compete, write down what came out."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from visavis.bot.bench.contest import QUICK, Contest, Plan, Results
from visavis.bot.bench.machine import facts
from visavis.bot.bench.processor_time import processor_seconds
from visavis.bot.bench.report import equal_share, plot, summary, tables
from visavis.bot.bench.rivals import GenerateRivals, generate_rivals, litserve_rival
from visavis.bot.bench.stack import running_stack
from visavis.bot.bench.workload import PEOPLE
from visavis.bot.chat_models import model_folder
from visavis.bot.settings import Settings


async def bench(settings: Settings, *, workers: int, quick: bool, console: Console) -> dict[str, Any]:
    """Run the contest and give the report.

    Raises:
        RuntimeError: the servers do not start, or leave a turn unanswered.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for the rivals, too: spinning threads would cost them most
    threads, folder = settings.threads or os.cpu_count() or 1, model_folder(settings.model)
    known = facts(threads) | {"device": settings.device, "gateways": workers, "quick": quick}
    common = settings.model_copy(update={"gateways": workers, "threads": threads})
    plan = QUICK if quick else Plan()
    with _progress(console) as progress:
        task = progress.add_task("starting", total=None)
        async with (
            running_stack(common.model_copy(update={"precision": "fp32"})) as fp32,
            running_stack(common) as default,
            generate_rivals(folder, threads, settings.device) as generate,
            litserve_rival(folder, threads, PEOPLE, settings.device) as litserve,
        ):
            above = {stack.url: stack.supervisor for stack in (fp32, default)}
            show = partial(_show, progress, task)
            contest = Contest(
                fp32.url, default.url, lambda url: processor_seconds(above[url]), generate, litserve, plan, show
            )
            results = await contest.run()
            equal = await _equal_tokens(results, generate)
    if litserve is None:
        console.print("LitServe is not installed (pip install 'visavis[bench]'), so it was left out.")
    return summary(results, equal, known)


def write(report: dict[str, Any], console: Console, *, as_json: bool, out: Path | None) -> None:
    """Print the tables or JSON; with `out` also write `bench.json` and `bench.svg` there."""
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        for table in tables(report):
            console.print(table)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if report["over_concurrency"]:
            (out / "bench.svg").write_text(plot(report["over_concurrency"]), encoding="utf-8")


async def _equal_tokens(results: Results, generate: GenerateRivals) -> dict[str, float]:
    shares = {}
    for name, pairs in results.equal.items():
        ids = await generate.token_ids([text for pair in pairs for text in pair])
        shares[name] = equal_share(list(zip(ids[::2], ids[1::2], strict=True)))
    return shares


def _progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _show(progress: Progress, task: Any, name: str) -> None:
    progress.update(task, description=name)
