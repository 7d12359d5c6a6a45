"""The commands `visavis slack` and `visavis discord`: a chat platform by itself, or a check of its tokens."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.bot.cli_options import DataDir, Device, Model, RedisUrl, fail, read_settings, run

if TYPE_CHECKING:
    from visavis.bot.settings import Settings

Check = Annotated[bool, typer.Option("--check", help="Only ask the platform whether tokens and permissions will do.")]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning (default) or error.")]


def slack(
    check: Check = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    model: Model = None,
    device: Device = None,
    log_level: LogLevel = None,
) -> None:
    """Answer in Slack, without the page. `visavis serve` does it too when VISAVIS_SLACK_BOT_TOKEN is set.

    Several may run on one --redis-url. How to set it up: docs/slack.md.
    """
    settings = read_settings(data_dir=data_dir, redis_url=redis_url, model=model, device=device, log_level=log_level)
    _platform(settings, "slack", check=check)


def discord(
    check: Check = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    model: Model = None,
    device: Device = None,
    log_level: LogLevel = None,
) -> None:
    """Answer in Discord, without the page. `visavis serve` does it too when VISAVIS_DISCORD_TOKEN is set.

    Several may run on one --redis-url. How to set it up: docs/discord.md.
    """
    settings = read_settings(data_dir=data_dir, redis_url=redis_url, model=model, device=device, log_level=log_level)
    _platform(settings, "discord", check=check)


def _platform(settings: Settings, name: str, *, check: bool) -> None:
    from visavis.bot.supervisor import PLATFORM_LIBRARIES

    if importlib.util.find_spec(PLATFORM_LIBRARIES[name]) is None:
        fail(f"{name.capitalize()} needs a library that is not installed: pip install 'visavis[{name}]'", code=2)
    if check:
        _report(run(importlib.import_module(f"visavis.bot.{name}.check").check_setup(settings)))
    else:
        _serve(settings, name)


def _report(findings: list[tuple[bool, str]]) -> None:
    """One line a finding; exit code 1 when one of them is bad."""
    for good, sentence in findings:
        typer.echo(f"{'ok' if good else 'missing':<8}{sentence}")
    if not all(good for good, _ in findings):
        raise typer.Exit(1)


def _serve(settings: Settings, platform: str) -> None:
    """With a store and model servers of its own where none are named; then the data folder is its own as well."""
    from visavis.bot.chat_models import ModelNotFound
    from visavis.bot.embedded_store import StoreError
    from visavis.bot.gateway import log_at
    from visavis.bot.preparation import ServeError, locked_folder
    from visavis.bot.supervisor import Supervisor, local_models

    log_at(settings.log_level, settings.log_format)
    needs_folder = settings.redis_url is None or local_models(settings)
    try:
        with locked_folder(settings.data_dir) if needs_folder else contextlib.nullcontext():
            run(Supervisor(settings, None, typer.echo, platform=platform).run())
    except (ServeError, StoreError, ModelNotFound) as error:
        fail(str(error), code=2)
