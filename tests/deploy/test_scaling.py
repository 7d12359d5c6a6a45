"""The simulation behind docs/scaling.md: it keeps the laws that it must, and foretells what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

scaling = pytest.importorskip("scaling")
DOCS = Path(__file__).parents[2] / "docs"
TIMES = scaling.Times.measured()
ONE = scaling.Sizes(gateways=1, replicas=1, shards=1)


def measured() -> list[dict[str, float]]:
    curve: list[dict[str, float]] = json.loads((DOCS / "bench.json").read_text())["over_concurrency"]
    return curve


@pytest.mark.parametrize("point", measured(), ids=lambda point: f"{point['people']} people")
def test_it_foretells_the_throughput_that_was_measured(point: dict[str, float]) -> None:
    runs = [scaling.Deployment(ONE, TIMES, seed).closed_loop(int(point["people"])) for seed in range(2)]
    assert sum(run.turns_per_s for run in runs) / 2 == pytest.approx(point["turns_per_s"], rel=0.2)


@pytest.mark.parametrize("point", measured()[:-1], ids=lambda point: f"{point['people']} people")
def test_it_foretells_the_wait_for_the_first_words_up_to_as_many_people_as_rows(point: dict[str, float]) -> None:
    runs = [scaling.Deployment(ONE, TIMES, seed).closed_loop(int(point["people"])) for seed in range(2)]
    assert 1000 * sum(run.first_s(0.5) for run in runs) / 2 == pytest.approx(point["first_ms"], rel=0.3)


def test_parts_are_as_busy_as_their_work_says() -> None:
    """Utilisation law: rate times service time, whatever the queues do."""
    tally = scaling.Deployment(scaling.Sizes(2, 2, 1), TIMES).open_loop(10.0, 200.0)
    assert tally.turns_per_s == pytest.approx(10.0, rel=0.1)
    assert tally.busy["gateway"] == pytest.approx(10.0 * TIMES.gateway_s / 2, rel=0.1)
    assert tally.busy["store"] == pytest.approx(10.0 * TIMES.store_s, rel=0.1)
    assert tally.refused == 0


def test_beyond_its_capacity_a_model_server_refuses_and_what_it_takes_it_answers() -> None:
    small = replace(TIMES, line=4)
    tally = scaling.Deployment(ONE, small).open_loop(40.0, 40.0)
    assert tally.refused > 0
    assert tally.first_s(0.99) == float("inf")
    assert 5 < tally.turns_per_s < 20


def test_a_known_picture_is_not_encoded_again_and_overtakes() -> None:
    often = scaling.Deployment(ONE, TIMES, turns_a_picture=50).open_loop(10.0, 60.0)
    seldom = scaling.Deployment(ONE, TIMES, turns_a_picture=1).open_loop(10.0, 60.0)
    assert often.busy["model"] < seldom.busy["model"]
    assert often.first_s(0.5) < seldom.first_s(0.5)


@pytest.mark.slow
def test_twice_the_rate_wants_twice_the_servers_and_patience_saves_some() -> None:
    servers = scaling.replicas_for(100.0, 1.0, TIMES, cell=1)
    assert scaling.replicas_for(200.0, 1.0, TIMES, cell=1) == pytest.approx(2 * servers)
    assert scaling.replicas_for(100.0, 4.0, TIMES, cell=1) < servers


def test_a_plan_names_whatever_runs_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "replicas_for", lambda *_: 152.2)
    plan = scaling.plan(2_000, 1_000_000, 1.0, TIMES)
    assert plan["model_servers"] == 153
    assert plan["gateways"] == plan["gateways_for_sockets"] > plan["gateways_for_turns"]
    assert plan["redis_shards"] == 6
