"""Take the times that the simulation is fed with (docs/service-times.json) again, on the machine of the benchmark.

    visavis bench --out bench && cp bench/bench.json docs/ && python deploy/service_times.py

Measures the parts of the model with `visavis.models.part_times`; takes the work of gateway, store and people, and of
the model server as a whole, from the benchmark's report; writes the file and prints what the simulation foretells
beside what was measured. One number is fitted to the waits (of one person alone) and none to the rates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from scaling import Deployment, Sizes, Tally
from simulated_server import MEASURED, Times

ONE = Sizes(gateways=1, replicas=1, shards=1)
PEOPLE = 32  # of whose turns the benchmark tells what they cost the processors
SEEDS = range(4)
BESIDE = {"gateway": "gateways", "store": "store", "people": "people"}
Point = Mapping[str, float]


def simulated(times: Times, people: int) -> list[Tally]:
    """So many people at once on one machine with everything, as in the benchmark; a few times."""
    return [Deployment(ONE, times, seed, on_one=True).closed_loop(people) for seed in SEEDS]


def foretold(times: Times, people: int) -> tuple[float, float]:
    """Turns a second and the median of the seconds to the first words, of so many people at once."""
    runs = simulated(times, people)
    return sum(run.turns_per_s for run in runs) / len(runs), sum(run.first_s(0.5) for run in runs) / len(runs)


def model_ms(times: Times) -> float:
    """Processor time of a turn at the model server, with as many people as the benchmark tells it of."""
    return 1000 * sum(run.model_s for run in simulated(times, PEOPLE)) / len(SEEDS)


def with_parts(times: Times, parts: Mapping[str, float]) -> Times:
    """`parts`: milliseconds by the names of `part_times`."""
    one, full = parts["a step of 1 rows"] / 1000, parts["a step of 32 rows"] / 1000
    picture, question = parts["a picture"] / 1000, parts["a question of 73 tokens"] / 1000
    return replace(times, picture_s=picture, question_s=question, step_s=one, row_s=(full - one) / 31)


def with_processor_ms(times: Times, used: Mapping[str, float]) -> Times:
    """`used`: milliseconds of a turn by part, as the benchmark tells them. `contention` becomes what makes the model
    server's work as dear in the simulation as it was."""
    sides = {f"{name}_s": used[part] / 1000 for name, part in BESIDE.items()}
    times = replace(times, **sides)
    low, high = 1.0, 4.0
    while high - low > 0.01:
        middle = (low + high) / 2
        too_dear = model_ms(replace(times, contention=middle)) > used["model"]
        low, high = (low, middle) if too_dear else (middle, high)
    return replace(times, contention=round(low, 2))


def with_wire(times: Times, curve: Sequence[Point]) -> Times:
    """`wire_s` such that one person alone waits as measured."""
    alone = next(point for point in curve if point["people"] == 1)
    unexplained = alone["first_ms"] / 1000 - foretold(replace(times, wire_s=0.0), 1)[1]
    return replace(times, wire_s=max(0.0, unexplained))


def table(times: Times, curve: Sequence[Point]) -> str:
    """The table of docs/scaling.md."""
    lines = [
        "| people at once | turns/s, measured | foretold | first words, ms, measured | foretold |",
        "| --- " * 5 + "|",
    ]
    for point in curve:
        rate, first = foretold(times, int(point["people"]))
        told = f"{point['turns_per_s']:.1f} | {rate:.1f} | {point['first_ms']:.0f} | {1000 * first:.0f}"
        lines.append(f"| {point['people']} | {told} |")
    return "\n".join(lines)


def measured_parts(precision: str) -> dict[str, float]:
    """Milliseconds by part, with one thread, of the embedded model."""
    command = [sys.executable, "-m", "visavis.models.part_times", "--threads", "1", "--json"]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    parts: dict[str, float] = told[f"{precision}, 1 thread"]
    return parts


def main() -> None:
    """Measure, fit, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--bench", type=Path, default=MEASURED.with_name("bench.json"), help="a report of visavis bench"
    )
    parser.add_argument("--out", type=Path, default=MEASURED)
    parser.add_argument("--precision", default="int8", help="that the benchmark served with")
    parser.add_argument("--preparers", type=int, default=2, help="workers of the engine that prepare")
    given = parser.parse_args()
    told, report = json.loads(MEASURED.read_text()), json.loads(given.bench.read_text())
    times = replace(with_parts(Times.measured(), measured_parts(given.precision)), preparers=given.preparers)
    times = with_processor_ms(times, report["processor_ms"]["visavis"])
    times = with_wire(times, report["over_concurrency"])
    told["times"] = {name: round(value, 6) for name, value in asdict(times).items()}
    told["where_from"] |= {
        "gateway_s, store_s, people_s": f"processor_ms of {given.bench.name}",
        "contention": f"such that a turn of {PEOPLE} people costs a model server processor_ms of {given.bench.name}",
        "wire_s": f"fitted: one person alone in {given.bench.name} waits so long for the first words",
    }
    told["of"] = (
        f"embedded model, {given.precision}, {report['cores']} cores of {report['processor']}; {given.bench.name}"
    )
    given.out.write_text(json.dumps(told, indent=2) + "\n")
    print(table(times, report["over_concurrency"]))


if __name__ == "__main__":
    main()
