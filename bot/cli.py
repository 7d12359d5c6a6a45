"""The command `visavis`: flags, help texts and exit codes; the work is done elsewhere.

Heavy imports stand inside the commands, so that `visavis --help` is instant. An error that a user can act on is one
sentence on standard error: exit code 2 when nothing could be started or a flag is wrong, 1 when the work failed.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from visavis.bot import cli_bench, cli_import, cli_photos, cli_platforms, cli_privacy, cli_training
from visavis.bot.cli_options import (
    DataDir,
    Device,
    Model,
    RedisUrl,
    fail,
    leave,
    read_settings,
    run,
    sentences,
)

app = typer.Typer(
    name="visavis",
    help="Show pictures to a chatbot and talk with it about them; on your own machine, without a network.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Host = Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1. [VISAVIS_HOST]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on, 0 for any free one; 8080. [VISAVIS_PORT]")]


@app.command()
def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="`embedded` (default), a visavis checkpoint, hf:FOLDER, PROVIDER:NAME (openai:, anthropic:, ...) or "
            "http://HOST/v1#NAME; several times: people may choose. [VISAVIS_MODEL, VISAVIS_MORE_MODELS]"
        ),
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(help="A model that is asked when another one does not answer; several times: in order."),
    ] = None,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option(help="auto (default: what is fastest here at no cost), fp32, bf16 or int8.")
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="On a CUDA device: replay decode steps as one graph.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the model server; 0 lets it decide.")] = None,
    gateways: Annotated[int | None, typer.Option(help="Gateway processes; 1.")] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Address that people use when a proxy stands in front.")
    ] = None,
    allowed_origins: Annotated[
        str | None, typer.Option(help="Other web pages that may embed the widget: https://a.example,https://b.example")
    ] = None,
    allow_public: Annotated[
        bool | None, typer.Option("--allow-public", help="Let --host be reachable by everybody who can connect.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning (default) or error.")] = None,
) -> None:
    """Serve the page, the websocket and the API on one port, until Ctrl-C.

    Every flag can also be given as an environment variable VISAVIS_<FLAG>.
    """
    flags: dict[str, object] = dict(locals())
    if model:
        flags |= {"model": model[0], "more_models": model[1:]}
    settings = read_settings(**flags)
    from visavis.bot.chat_models import ModelNotFound
    from visavis.bot.embedded_store import StoreError
    from visavis.bot.preparation import ServeError, prepared
    from visavis.bot.supervisor import Supervisor

    _log_at(settings.log_level, settings.log_format)
    try:
        with prepared(settings) as listener:
            supervisor = Supervisor(settings, listener, typer.echo)
            run(supervisor.run())
    except (ServeError, StoreError, ModelNotFound) as error:
        fail(str(error), code=2)


@app.command()
def chat(
    url: Annotated[
        str | None, typer.Option(help="Talk with a running server, such as http://127.0.0.1:8080; else in process.")
    ] = None,
    model: Model = None,
    device: Device = None,
) -> None:
    """Chat in the terminal. `/image PATH` shows a picture, `/quit` ends."""
    settings = read_settings(model=model, device=device)
    with sentences():
        if url is not None:
            from visavis.bot.server_chat import chat_with_server

            run(chat_with_server(url))
        else:
            from visavis.bot.terminal_chat import chat_in_process

            run(chat_in_process(settings))


app.command("ask")(cli_photos.ask)
app.command("caption")(cli_photos.caption)
app.command("search")(cli_photos.search)
app.command("explain")(cli_photos.explain)
app.command("slack")(cli_platforms.slack)
app.command("discord")(cli_platforms.discord)
app.command("train")(cli_training.train)
app.command("evaluate")(cli_training.evaluate)
app.command("calibrate")(cli_training.calibrate)
app.command("average")(cli_training.average)
app.command("promote")(cli_training.promote)
app.command("compare")(cli_training.compare)
app.command("import")(cli_import.import_data)
app.command("bench")(cli_bench.bench)
app.command("export")(cli_privacy.export)
app.command("forget")(cli_privacy.forget)


@app.command()
def doctor(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    model: Model = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as one JSON object.")] = False,
) -> None:
    """Say what is there and what is missing; exit code 1 when `visavis serve` could not start."""
    settings = read_settings(host=host, port=port, data_dir=data_dir, redis_url=redis_url, model=model)
    from dataclasses import asdict

    from visavis.bot.doctor import examine, is_healthy

    findings = run(examine(settings))
    if as_json:
        typer.echo(json.dumps({"healthy": is_healthy(findings), "findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            typer.echo(f"{finding.verdict:<8}{finding.subject:<14}{finding.detail}")
    if not is_healthy(findings):
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the installed command."""
    try:
        app()
    except SystemExit as end:
        if "visavis.bot.local_chat" in sys.modules:  # the commands that answer in this process
            leave(end.code)
        raise


def _log_at(level: str, form: str) -> None:
    from visavis.models.log_lines import log_to_stderr

    log_to_stderr(level, form)


if __name__ == "__main__":
    main()
