"""Milliseconds of every part of an answer by precision and threads, as a table in Markdown.

    python -m visavis.models.part_times [--model FOLDER] [--threads 1 2] [--json]

The fastest of several runs each, one after another: on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
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
        batch = _full(model, memory, rows)
        yield f"a step of {rows} rows", lambda batch=batch: batch.step([7] * len(batch))  # type: ignore[misc]


def _full(model: VisavisModel, memory: Memory, rows: int) -> DecodeBatch:
    batch = DecodeBatch(model, rows)
    for _ in range(rows):
        batch.join(memory)
    return batch


def table(times: dict[str, dict[str, float]]) -> str:
    """Columns by name, of milliseconds by part -> Markdown."""
    lines = [["", *times], ["---"] * (len(times) + 1)]
    lines += [[part, *(f"{column[part]:.1f}" for column in times.values())] for part in next(iter(times.values()))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m visavis.models.part_times", description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="folder of a checkpoint; the embedded model")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", action="store_true", help="instead of a table, with all digits")
    given = parser.parse_args()
    times = {
        f"{precision}, {threads} thread{'s' if threads > 1 else ''}": part_times(given.model, precision, threads)
        for precision in PRECISIONS
        for threads in given.threads
    }
    print(json.dumps(times) if given.json else table(times))


if __name__ == "__main__":
    main()
