"""Milliseconds of every part of an answer by precision and threads, as a table in Markdown.

    python -m visavis.models.part_times [--model FOLDER] [--threads 1 2] [--json]
    python -m visavis.models.part_times --company

The fastest of several runs each, one after another: on a machine that does nothing else. With `--company` the processor
time of parts that run at once, in threads of one process as in the engine, beside that of each alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from visavis.models.decode_batch import DecodeBatch
from visavis.models.loading import load_model
from visavis.models.precision import Precision, serve_with
from visavis.models.roofline import fastest_s
from visavis.models.visavis_model import Memory, VisavisModel

PRECISIONS = (Precision.FP32, Precision.BF16, Precision.INT8)
TEXT_TOKENS = (20, 73, 121)
ROWS = (1, 8, 32)
TOKENS = 26  # of an answer
COMPANY = ("a picture", "a question of 73 tokens", "a step of 32 rows")
COMPANY_S = 5.0
WEIGHTS = Path(__file__).with_name("weights")


def part_times(folder: Path, precision: Precision, threads: int) -> dict[str, float]:
    """Milliseconds by part. Sets the threads of this process."""
    torch.set_num_threads(threads)
    model, processor = load_model(folder, "cpu")
    serve_with(model, precision)
    size = processor.images.size
    with torch.inference_mode():
        return {name: 1000 * fastest_s(work) for name, work in _parts(model, torch.zeros(1, 3, size, size))}


def _parts(model: VisavisModel, pixels: torch.Tensor) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "a picture", lambda: model.image_state(model.encode_image(pixels))
    state = model.image_state(model.encode_image(pixels))
    for tokens in TEXT_TOKENS:
        text = torch.ones(1, tokens, dtype=torch.long)
        yield f"a question of {tokens} tokens", lambda text=text: model.fuse(state, text, text, text * 0)  # type: ignore[misc]
    memory = model.fuse(state, text, text, text * 0)
    for rows in ROWS:
        yield f"a step of {rows} rows", _Steps(model, memory, rows)


def company_times(folder: Path, precision: Precision, together: Sequence[str] = COMPANY) -> dict[str, float]:
    """Milliseconds of a processor that each part takes while all of `together` run again and again, a thread each."""
    torch.set_num_threads(1)
    model, processor = load_model(folder, "cpu")
    serve_with(model, precision)
    size = processor.images.size
    with torch.inference_mode():
        works = dict(_parts(model, torch.zeros(1, 3, size, size)))
    until = time.monotonic() + COMPANY_S
    with ThreadPoolExecutor(len(together)) as pool:
        taken = pool.map(lambda part: _processor_ms(works[part], until), together)
        return dict(zip(together, taken, strict=True))


def _processor_ms(work: Callable[[], object], until: float) -> float:
    torch.set_num_threads(1)
    with torch.inference_mode():
        work()
        started, runs = time.thread_time(), 0
        while not runs or time.monotonic() < until:
            work()
            runs += 1
        return 1000 * (time.thread_time() - started) / runs


class _Steps:
    """Steps of rows that all make place for others after an answer's tokens."""

    def __init__(self, model: VisavisModel, memory: Memory, rows: int) -> None:
        self._batch, self._memory, self._taken = DecodeBatch(model, rows), memory, 0
        for _ in range(rows):
            self._batch.join(memory)

    def __call__(self) -> None:
        if self._taken == TOKENS:
            self._taken = 0
            for row in range(len(self._batch)):
                self._batch.leave(row)
                self._batch.join(self._memory)
        self._taken += 1
        self._batch.step([7] * len(self._batch))


def table(times: dict[str, dict[str, float]]) -> str:
    """Columns by name, of milliseconds by part -> Markdown."""
    lines = [["", *times], ["---"] * (len(times) + 1)]
    lines += [[part, *(f"{column[part]:.1f}" for column in times.values())] for part in next(iter(times.values()))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _in_company(folder: Path) -> dict[str, dict[str, float]]:
    times = {}
    for precision in (Precision.FP32, Precision.INT8):
        alone = [company_times(folder, precision, [part]) for part in COMPANY]
        times[f"{precision}, alone"] = {part: ms for column in alone for part, ms in column.items()}
        times[f"{precision}, all at once"] = company_times(folder, precision)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m visavis.models.part_times", description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="folder of a checkpoint; the embedded model")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--company", action="store_true", help="what parts cost a processor, alone and at once")
    parser.add_argument("--json", action="store_true", help="instead of a table, with all digits")
    given = parser.parse_args()
    times = (
        _in_company(given.model)
        if given.company
        else {
            f"{precision}, {threads} thread{'s' if threads > 1 else ''}": part_times(given.model, precision, threads)
            for precision in PRECISIONS
            for threads in given.threads
        }
    )
    print(json.dumps(times) if given.json else table(times))


if __name__ == "__main__":
    main()
