"""The simulation behind docs/scaling.md: it keeps the laws that it must, and foretells what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

simpy = pytest.importorskip("simpy")
scaling = pytest.importorskip("scaling")
simulated_server = pytest.importorskip("simulated_server")
service_times = pytest.importorskip("service_times")
DOCS = Path(__file__).parents[2] / "docs"
TIMES = scaling.Times.measured()
ONE = scaling.Sizes(gateways=1, replicas=1, shards=1)


def measured() -> list[dict[str, float]]:
    curve: list[dict[str, float]] = json.loads((DOCS / "bench.json").read_text())["over_concurrency"]
    return curve


@pytest.mark.parametrize("point", measured(), ids=lambda point: f"{point['people']} people")
def test_it_foretells_the_throughput_that_was_measured(point: dict[str, float]) -> None:
    assert service_times.foretold(TIMES, int(point["people"]))[0] == pytest.approx(point["turns_per_s"], rel=0.2)


@pytest.mark.parametrize("point", measured(), ids=lambda point: f"{point['people']} people")
def test_it_foretells_the_wait_for_the_first_words(point: dict[str, float]) -> None:
    assert 1000 * service_times.foretold(TIMES, int(point["people"]))[1] == pytest.approx(point["first_ms"], rel=0.35)


def test_parts_are_as_busy_as_their_work_says() -> None:
    """Utilisation law: rate times service time, whatever the queues do."""
    tally = scaling.Deployment(scaling.Sizes(2, 2, 1), TIMES).open_loop(10.0, 200.0)
    assert tally.turns_per_s == pytest.approx(10.0, rel=0.1)
    assert tally.busy["gateway"] == pytest.approx(10.0 * TIMES.gateway_s / 2, rel=0.1)
    assert tally.busy["store"] == pytest.approx(10.0 * TIMES.store_s, rel=0.1)
    assert tally.refused == 0


def test_beyond_its_capacity_a_model_server_refuses_and_what_it_takes_it_answers() -> None:
    small = replace(TIMES, line=4)
    tally = scaling.Deployment(ONE, small).open_loop(90.0, 40.0)
    assert tally.refused > 0
    assert tally.first_s(0.99) == float("inf")
    assert 20 < tally.turns_per_s < 90


def test_a_known_picture_is_not_encoded_again_and_overtakes() -> None:
    often = scaling.Deployment(ONE, TIMES, turns_a_picture=50).open_loop(10.0, 60.0)
    seldom = scaling.Deployment(ONE, TIMES, turns_a_picture=1).open_loop(10.0, 60.0)
    assert often.busy["model"] < seldom.busy["model"]
    assert often.first_s(0.5) < seldom.first_s(0.5)


def test_two_that_prepare_encode_two_pictures_at_once_and_one_picture_only_once() -> None:
    free = replace(TIMES, contention=1.0, cores=3)  # a core for each worker
    alone = [scaling.Deployment(ONE, replace(free, preparers=n)).closed_loop(1).first_s(0.5) for n in (1, 2)]
    assert alone[0] == pytest.approx(alone[1], rel=0.05), "a picture is encoded by one of them"
    crowd = [scaling.Deployment(ONE, replace(free, preparers=n)).closed_loop(16).turns_per_s for n in (1, 2)]
    assert crowd[1] > 1.3 * crowd[0]


def test_cores_are_shared_evenly_and_company_makes_work_dearer() -> None:
    env = simpy.Environment()
    cores, ended = simulated_server.Cores(env, 2, 1.5), list[tuple[float, float]]()

    def worker(seconds: float) -> simulated_server.Events:
        spent = yield from cores.work(seconds)
        ended.append((round(env.now, 6), round(spent, 6)))

    for seconds in (0.4, 0.4, 0.4):
        env.process(worker(seconds))
    env.run()
    assert ended == [pytest.approx((0.9, 0.6), rel=0.02)] * 3, "1.5 times as dear, and two thirds of a core each"
    env.process(worker(0.4))
    env.run()
    assert ended[-1] == pytest.approx((1.3, 0.4), rel=0.02), "alone: a core, at the price of one"


def test_what_is_fitted_is_found_again_and_parts_are_read() -> None:
    """What the simulation itself has made gives back the numbers that made it."""
    true = replace(TIMES, wire_s=0.05, contention=1.8)
    used = {"model": service_times.model_ms(true), "gateways": 7.0, "store": 1.0, "people": 2.0}
    beside = replace(true, gateway_s=0.007, store_s=0.001, people_s=0.002)
    used["model"] = service_times.model_ms(beside)
    found = service_times.with_processor_ms(replace(true, contention=1.0, gateway_s=0.0), used)
    assert found == replace(beside, contention=pytest.approx(1.8, abs=0.05))
    first = 1000 * service_times.foretold(beside, 1)[1]
    assert service_times.with_wire(replace(beside, wire_s=0.0), [{"people": 1, "first_ms": first}]).wire_s == (
        pytest.approx(0.05, rel=0.05)
    )
    parts = {"a picture": 50.0, "a question of 73 tokens": 10.0, "a step of 1 rows": 4.0, "a step of 32 rows": 35.0}
    times = service_times.with_parts(TIMES, parts)
    assert (times.picture_s, times.question_s, times.step_s, times.row_s) == pytest.approx((0.05, 0.01, 0.004, 0.001))


@pytest.mark.slow
def test_twice_the_rate_wants_twice_the_servers_and_patience_and_idle_time_cost_some() -> None:
    servers = scaling.replicas_for(100.0, 0.5, TIMES, cell=1, busiest=1.0)
    assert scaling.replicas_for(200.0, 0.5, TIMES, cell=1, busiest=1.0) == pytest.approx(2 * servers)
    assert scaling.replicas_for(100.0, 4.0, TIMES, cell=1, busiest=1.0) < servers
    assert scaling.replicas_for(100.0, 4.0, TIMES, cell=1) > servers


def test_a_plan_names_whatever_runs_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "replicas_for", lambda *_: 152.2)
    plan = scaling.plan(2_000, 1_000_000, 1.0, TIMES)
    assert plan["model_servers"] == 153
    assert plan["gateways"] == plan["gateways_for_sockets"] > plan["gateways_for_turns"]
    assert plan["redis_shards"] == 3
