"""The model server: one engine behind HTTP, on a unix socket or a port. Run: `python -m visavis.models.model_server`.

SIGTERM lets running answers end first. torch is imported by `main` only, after the wait policy of its threads is set.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from visavis.models.checkpoint_files import EMBEDDED, FOREIGN
from visavis.models.engine_api import create_app
from visavis.models.errors import ModelError
from visavis.models.log_lines import log_to_stderr
from visavis.models.tracing import TRACING

if TYPE_CHECKING:
    from visavis.models.engine import InferenceEngine
    from visavis.models.transformers_engine import TransformersEngine

KEEP_ALIVE_S = 75
ENGINE_DIED = 70  # EX_SOFTWARE


def main(arguments: list[str] | None = None) -> int:
    """Take the address, load the weights, serve until SIGTERM or SIGINT. 0 after a clean stop, 1 with one sentence,
    70 when the engine died."""
    options = _parse(arguments)
    log_to_stderr(options.log_level, options.log_format)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would starve the gateway
    try:
        if options.traces:
            TRACING.export("visavis-model")
        with _bind(options) as listener, _load_engine(options) as engine:
            return _serve(engine, listener, options)
    except ModelError as error:
        print(f"visavis model server: {error}", file=sys.stderr)
        return 1
    finally:
        TRACING.end()


def open_engine(flags: list[str]) -> InferenceEngine | TransformersEngine:
    """The engine that this program would serve by these flags, which name no address; for other servers of it.

    Raises:
        ModelError: a sentence about what is wrong with the model.
    """
    return _load_engine(_parse([*flags, "--port", "0"]))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m visavis.models.model_server", description="Serve a visavis model.")
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="folder of the checkpoint, or hf:FOLDER")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--uds", type=Path, help="unix socket to listen on")
    place.add_argument("--port", type=int, help="port to listen on")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--name", default="visavis-embedded", help="what people call the model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "int8"])
    parser.add_argument("--no-compile", action="store_true", help="launch decode steps kernel by kernel on a GPU")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a computation")
    parser.add_argument("--cache-bytes", type=int, default=256 << 20, help="kept of what was computed from pictures")
    parser.add_argument("--max-queue", type=int, default=64, help="questions that may wait")
    parser.add_argument("--max-new-tokens", type=int, help="longest answer; 48, of hf: models 256")
    parser.add_argument("--words-every-ms", type=int, default=50, help="faster words are sent together; 0: each alone")
    parser.add_argument("--drain-s", type=int, default=30, help="how long running answers may take after SIGTERM")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error", "critical"])
    parser.add_argument("--log-format", default="text", choices=["text", "json"])
    parser.add_argument("--traces", action="store_true", help="send OpenTelemetry traces")
    return parser.parse_args(arguments)


def _load_engine(options: argparse.Namespace) -> InferenceEngine | TransformersEngine:
    import torch

    from visavis.models.engine import InferenceEngine
    from visavis.models.loading import load_model
    from visavis.models.precision import Precision, serve_with
    from visavis.models.words_in_pictures import WordReader

    torch.set_num_threads(max(1, options.threads))
    if (name := str(options.model)).startswith(FOREIGN):
        from visavis.models.transformers_loading import load_transformers_engine

        longest = options.max_new_tokens or 256
        foreign = load_transformers_engine(
            name.removeprefix(FOREIGN),
            model_name=options.name,
            device=options.device,
            max_queue=options.max_queue,
            max_new_tokens=longest,
        )
        print(f"visavis: {options.name}: {foreign.told}.", file=sys.stderr, flush=True)
        return foreign
    model, processor = load_model(options.model, options.device)
    serve_with(model, Precision(options.precision))
    engine = InferenceEngine(
        model,
        processor,
        model_name=options.name,
        cache_bytes=options.cache_bytes,
        max_queue=options.max_queue,
        max_new_tokens=options.max_new_tokens or 48,
        reader=WordReader.find(),
        compiled=not options.no_compile,
        words_every_s=options.words_every_ms / 1000,
    )
    if model.device.type != "cpu":
        _warm_up(engine)
    return engine


def _warm_up(engine: InferenceEngine) -> None:
    started = time.monotonic()
    print("visavis: the accelerator warms up ...", file=sys.stderr, flush=True)
    engine.warm_up()
    print(f"visavis: warm after {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bind(options: argparse.Namespace) -> Iterator[socket.socket]:
    """A socket that does not listen yet. A unix one is ours alone, replaces a dead server's, and goes at the end."""
    place = options.uds or f"{options.host}:{options.port}"
    with (
        socket.socket(socket.AF_UNIX if options.uds else socket.AF_INET) as listener,
        contextlib.ExitStack() as clean_up,
    ):
        try:
            if options.uds:
                options.uds.unlink(missing_ok=True)
                listener.bind(str(options.uds))
                clean_up.callback(options.uds.unlink, missing_ok=True)
                options.uds.chmod(0o600)  # nobody can connect before: it does not listen
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((options.host, options.port))
        except OSError as error:
            raise ModelError(f"cannot listen on {place}: {error.strerror}") from error
        yield listener


class EngineServer(uvicorn.Server):
    """Ends by itself when the engine has died: whoever watches the process starts another one."""

    def __init__(self, config: uvicorn.Config, engine: InferenceEngine | TransformersEngine) -> None:
        super().__init__(config)
        self._engine = engine

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; True ends the server."""
        return await super().on_tick(counter) or not self._engine.alive


def _serve(engine: InferenceEngine | TransformersEngine, listener: socket.socket, options: argparse.Namespace) -> int:
    config = uvicorn.Config(
        create_app(engine),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=options.drain_s,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises its signal again after the drain: then we are done
    gc.freeze()  # torch and the weights stay: to look through them for garbage would halt every answer
    EngineServer(config, engine).run(sockets=[listener])
    return 0 if engine.alive else ENGINE_DIED


if __name__ == "__main__":
    sys.exit(main())
