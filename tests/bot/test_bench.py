"""The benchmark: everybody is asked the same, ratios are of runs side by side, a busy machine gets no verdict."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image
from rich.console import Console
from running_gateway import RunGateway
from scripted_chat_model import ScriptedChatModel

from visavis.bot.bench import machine
from visavis.bot.bench.command import write
from visavis.bot.bench.contest import Contest, Plan, Results
from visavis.bot.bench.deployment import measure, table
from visavis.bot.bench.gateway import ForcedLengths
from visavis.bot.bench.load import Outcome, open_loop
from visavis.bot.bench.processor_time import beside_model, milliseconds_a_turn, processor_seconds
from visavis.bot.bench.report import RATIOS, equal_share, plot, summary
from visavis.bot.bench.workload import (
    LONGEST,
    PEOPLE,
    SHORTEST,
    SIZE,
    TURNS,
    Person,
    as_stored,
    crowd,
    forced_length,
    question,
)
from visavis.models.generation import GenerationChunk, GenerationRequest

FEW = Plan(repeats=2, sampled=1, litserve_turns=1, probed=1, open_loop_people=2, concurrencies=(1, 2), waves=3)


class SlowRival:
    """Answers as the gateway's scripted model does, at a made-up speed."""

    def __init__(self, answer: str) -> None:
        self.answer, self.asked = answer, list[int]()

    async def sequential(self, people: Sequence[Person]) -> Outcome:
        self.asked.append(len(people))
        return Outcome(1000.0, [[self.answer] * len(person.questions) for person in people])

    static_cold = static_cached = closed_loop = sequential

    async def rooflines(self) -> dict[str, float]:
        return {"encoder": 0.7, "decode": 0.6}


async def test_a_running_server_is_measured_from_outside(run_gateway: RunGateway) -> None:
    model = ScriptedChatModel(pause_s=0.02)
    async with run_gateway(model) as url:
        report = await measure(url, people=3, turns=2)
    assert (report["people"], report["turns"], len(model.asked)) == (3, 6, 6)
    assert 20 <= report["first_ms"]["p50"] <= report["first_ms"]["p99"] <= report["first_ms"]["max"]
    assert report["total_ms"]["p50"] >= 5 * 20, "five words, and a pause before each"
    assert report["turns_per_s"] > 0
    assert table(report).row_count == 2


@pytest.mark.parametrize("error", [None, RuntimeError("broken")])
async def test_a_server_that_does_not_answer_gets_no_figures(run_gateway: RunGateway, error: Exception | None) -> None:
    if error is None:
        with pytest.raises(ConnectionError):
            await measure("http://127.0.0.1:1", people=1)
        return
    async with run_gateway(ScriptedChatModel(error=error)) as url:
        with pytest.raises(RuntimeError, match="not answered"):
            await measure(url, people=1)


def test_everybody_is_asked_the_same_again() -> None:
    people, others = crowd(3, people=6), crowd(4, people=6)
    assert people == crowd(3, people=6)
    assert len({person.picture for person in people + others}) == 12
    assert [person.questions for person in people] == [person.questions for person in others]
    assert all(len(set(person.questions)) == TURNS for person in people)
    stored = as_stored(people[0].picture)
    assert Image.open(io.BytesIO(stored)).size == SIZE


def test_lengths_are_spread_over_the_whole_range() -> None:
    lengths = [forced_length(question(person, turn)) for person in range(PEOPLE) for turn in range(TURNS)]
    assert min(lengths) < SHORTEST + 5 and max(lengths) > LONGEST - 5
    assert sum(lengths) / len(lengths) == pytest.approx((SHORTEST + LONGEST) / 2, abs=3)


async def test_the_gateway_asks_for_the_forced_length() -> None:
    asked: list[GenerationRequest] = []

    class Engine:
        model_name = "tiny"

        async def stream(self, request: GenerationRequest) -> Any:
            asked.append(request)
            yield GenerationChunk("a dog")

    asks = question(0, 0)
    async for _ in ForcedLengths(engine=Engine()).astream([HumanMessage(asks)]):
        pass
    sampling = asked[0].sampling
    assert sampling.min_new_tokens == sampling.max_new_tokens == forced_length(asks)


@pytest.fixture
def two_people(monkeypatch: pytest.MonkeyPatch) -> None:
    def few(seed: int, people: int = 2, turns: int = 2) -> list[Person]:
        return crowd(seed, min(people, 2), turns)

    monkeypatch.setattr("visavis.bot.bench.contest.crowd", few)


@pytest.mark.usefixtures("two_people")
async def test_a_contest_over_the_real_wire(run_gateway: RunGateway) -> None:
    model = ScriptedChatModel()
    rival, steps = SlowRival("other words"), list[str]()
    async with run_gateway(model) as url:
        clock = {"model": 0.0, "store": 0.0, "gateways": 0.0, "people": 0.0}

        def spent(asked: str) -> dict[str, float]:  # at every second reading a wave of four turns has passed
            assert asked == url
            readings.append(dict(clock))
            wave = len(readings) // 2
            if len(readings) % 2:
                clock.update(model=clock["model"] + 2.0, store=clock["store"] + 0.1, gateways=0.1 * wave)
            return readings[-1]

        readings = list[dict[str, float]]()
        contest = Contest(url, url, spent, rival, rival, FEW, steps.append)  # type: ignore[arg-type]
        results = await contest.run()
        waits = await open_loop(url, crowd(9, people=3, turns=2), turns_per_s=100.0)
    assert len(waits) == 6 and min(waits) > 0
    assert {len(runs) for runs in results.turns_per_s.values()} == {2}
    assert steps[:4] == ["sequential", "visavis_fp32", "static_cold", "visavis_fp32_cold"]
    assert rival.asked[:4] == [1, 2, 2, 2]
    report = summary(results, {"sequential": 0.5}, {"busy": False})
    for name in RATIOS:
        assert report["ratios"][name] > 1
    assert report["ratios"]["roofline_encoder"] == 0.7
    assert {"followup_ttft_over_first", "p99_ttft_over_unloaded", "itl_p99_over_quiet", "turn20_over_turn2"} <= set(
        report["ratios"]
    )
    assert len(readings) == 8
    assert report["processor_ms"]["visavis"] == pytest.approx({"model": 500, "store": 25, "gateways": 25, "people": 0})
    assert report["ratios"]["gateway_store_over_model_cpu"] == pytest.approx(0.1)
    assert report["ratios"]["gateway_store_over_model_cpu_fp32"] == pytest.approx((0.05 + 0.1) / 2)
    assert [point["people"] for point in report["over_concurrency"]] == [1, 2]
    assert len(model.asked) >= 3 * (2 + 4), "several waves a point"
    assert results.equal["sequential"][0][0] == "other words"


def test_a_ratio_is_the_median_of_runs_side_by_side() -> None:
    results = Results(turns_per_s={"visavis": [10.0, 30.0, 50.0], "sequential": [1.0, 10.0, 10.0]})
    assert results.over("visavis", "sequential") == 5
    assert results.over("visavis", "litserve") is None


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([([1, 2, 3], [1, 2, 3])], 1.0),
        ([([1, 2, 3, 4], [1, 2, 9, 4])], 0.5),
        ([([1, 2], [1, 2, 3, 4]), ([5], [6])], 0.4),
        ([], 1.0),
    ],
)
def test_equal_tokens_count_up_to_the_first_difference(
    pairs: list[tuple[list[int], list[int]]], expected: float
) -> None:
    assert equal_share(pairs) == expected


@pytest.mark.parametrize(
    ("pressure", "load", "busy"), [(4.9, 9, False), (5.1, 0, True), (None, 0.4, False), (None, 1, True)]
)
def test_who_is_busy(monkeypatch: pytest.MonkeyPatch, pressure: float | None, load: float, busy: bool) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0, 0))
    assert machine.is_busy(pressure) is busy


def test_a_busy_machine_gets_no_verdict_and_everything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = [{"people": 1, "turns_per_s": 2.0, "first_ms": 50.0}, {"people": 8, "turns_per_s": 9.0, "first_ms": 80.0}]
    results = Results({"visavis": [9.0], "sequential": [1.0]}, {"turn20_over_turn2": 1.1}, curve=curve)
    report = summary(results, {"sequential": 1.0}, {"busy": True, "cores": 2})
    text = io.StringIO()
    write(report, Console(file=text, width=100), as_json=False, out=tmp_path)
    assert "No verdict: the machine was busy" in text.getvalue()
    assert json.loads((tmp_path / "bench.json").read_text())["ratios"]["over_sequential_default"] == 9
    assert ElementTree.fromstring((tmp_path / "bench.svg").read_text()).tag.endswith("svg")
    write(report, Console(file=text), as_json=True, out=None)
    assert json.loads(capsys.readouterr().out)["busy"] is True
    assert plot(curve).count("<polyline") == 2


def test_the_parts_of_a_stack_are_told_apart() -> None:
    burn = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    start = "import subprocess, sys\nchildren = [subprocess.Popen([sys.executable, '-c', sys.argv[1], name], stdin=0)"
    start += " for name in ('visavis.models.model_' + 'server', 'val' + 'key')]\n"
    command = [sys.executable, "-c", f"{start}{burn}\nsys.stdin.read()", f"{burn}\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as above:
        while len(spent := processor_seconds(above.pid)) < 4 or min(spent.values()) < 0.2:
            time.sleep(0.05)
        above.stdin.close()  # type: ignore[union-attr]
    assert set(spent) == {"model", "store", "gateways", "people"}
    assert processor_seconds(above.pid) == {}
    assert beside_model({"model": 2.0, "store": 0.5, "gateways": 0.5, "people": 9.0}) == 0.5
    assert beside_model({"model": 0.0, "store": 1.0, "gateways": 1.0}) is None and beside_model({}) is None
    assert milliseconds_a_turn({"model": 1.0}, {"model": 2.0, "store": 0.5}, 4) == {"model": 250.0, "store": 125.0}
    assert milliseconds_a_turn({}, {}, 4) == {}
