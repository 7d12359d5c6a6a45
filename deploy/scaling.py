"""How many gateways, model servers and Redis shards a load needs: a simulation by discrete events (docs/scaling.md).

    python deploy/scaling.py --turns-per-s 2000 --sessions 1000000 --first-s 1.0

A turn passes a gateway, a shard of the store, a model server, and the gateway again. A model server is what the engine
is: workers prepare (pictures in slices, ready questions first), one takes steps for all rows together, and all share
the cores of a machine. Times are measured ones (docs/service-times.json); nothing here imports visavis.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from dataclasses import dataclass, field, replace

import simpy
from simulated_server import Cores, Events, ModelServer, Times, Turn


@dataclass
class Tally:
    """What came out: seconds to the first words, turns answered and refused, how busy each kind of part was, and the
    seconds of a processor that a turn cost the model server."""

    firsts: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0
    model_s: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)

    def first_s(self, share: float) -> float:
        """A quantile; infinite when turns were refused beyond that share."""
        waits = sorted(self.firsts) + [math.inf] * self.refused
        return waits[min(len(waits) - 1, math.ceil(share * len(waits)) - 1)] if waits else math.nan

    @property
    def turns_per_s(self) -> float:
        """The throughput."""
        return len(self.firsts) / self.seconds


@dataclass(frozen=True)
class Sizes:
    """How many of each: a gateway has one core, a shard is one Redis."""

    gateways: int
    replicas: int
    shards: int


class Deployment:
    """All parts. Conversations go to the replica that their picture's hash names, and there alone.

    Each gateway, shard and replica has a machine of its own; or `on_one`, with the people, as in the benchmark.
    """

    def __init__(
        self, sizes: Sizes, times: Times, seed: int = 0, *, turns_a_picture: int = 4, on_one: bool = False
    ) -> None:
        self.env, self.times, self.chance = simpy.Environment(), times, random.Random(seed)
        self.tally = Tally()
        self.turns_a_picture = turns_a_picture
        self._gateways = [simpy.Resource(self.env) for _ in range(sizes.gateways)]
        self._shards = [simpy.Resource(self.env) for _ in range(sizes.shards)]
        self._machine = Cores(self.env, times.cores, times.contention) if on_one else None
        self._replicas = [
            ModelServer(self.env, times, self._machine or Cores(self.env, times.cores, times.contention))
            for _ in range(sizes.replicas)
        ]
        self._spent = {"gateway": 0.0, "store": 0.0}
        self._uncounted_s = 0.0

    def turn(self, conversation: int) -> Events:
        """One turn of a conversation, from the socket to the recorded end."""
        times, begun = self.times, self.env.now
        if self._machine is not None:
            yield from self._machine.work(times.people_s)
        gateway, shard = self._gateways[conversation % len(self._gateways)], self.chance.choice(self._shards)
        yield from self._use(gateway, "gateway", times.gateway_s / 2)
        yield from self._use(shard, "store", times.store_s / 2)
        yield self.env.timeout(times.wire_s)
        asked = Turn(conversation, self.chance.randint(4, 48), begun, self.env.event())
        if not self._replicas[hash((conversation, 1)) % len(self._replicas)].ask(asked):
            self.tally.refused += 1
            return
        yield asked.ended
        self.tally.firsts.append(asked.first_at - begun)
        yield from self._use(gateway, "gateway", times.gateway_s / 2)
        yield from self._use(shard, "store", times.store_s / 2)

    def open_loop(self, turns_per_s: float, seconds: float) -> Tally:
        """Turns come at random (Poisson), whether or not anybody keeps up. The first quarter is not counted."""
        self.env.process(self._arrivals(turns_per_s))
        self.env.run(seconds / 4)
        self.tally.firsts.clear()
        self.tally.refused, self._uncounted_s = 0, self._model_s()
        self.env.run(seconds)
        return self._told(seconds * 3 / 4)

    def closed_loop(self, people: int, turns: int = 4) -> Tally:
        """People who ask `turns` questions each about a picture of their own, one after the other."""

        def converse(person: int) -> Events:
            for _ in range(turns):
                yield from self.turn(person)

        self.env.run(simpy.AllOf(self.env, [self.env.process(converse(number)) for number in range(people)]))
        return self._told(self.env.now)

    def _arrivals(self, turns_per_s: float) -> Events:
        """As many conversations as there are new pictures for, each of whose turns comes at any time."""
        number = 0
        while True:
            yield self.env.timeout(self.chance.expovariate(turns_per_s))
            newest = number // self.turns_a_picture
            self.env.process(self.turn(max(0, newest - self.chance.randrange(200))))
            number += 1

    def _use(self, resource: simpy.Resource, name: str, seconds: float) -> Events:
        with resource.request() as mine:
            yield mine
            self._spent[name] += seconds
            if self._machine is None:
                yield self.env.timeout(seconds)
            else:
                yield from self._machine.work(seconds)

    def _model_s(self) -> float:
        """Of processors of all model servers, so far."""
        return sum(one.spent_s for one in self._replicas)

    def _told(self, seconds: float) -> Tally:
        tally, now = self.tally, self.env.now
        tally.seconds = seconds
        tally.model_s = (self._model_s() - self._uncounted_s) / max(1, len(tally.firsts))
        tally.busy = {
            "gateway": self._spent["gateway"] / now / len(self._gateways),
            "store": self._spent["store"] / now / len(self._shards),
            "model": self._model_s() / now / self.times.cores / len(self._replicas),
        }
        return tally


def replicas_for(
    turns_per_s: float, first_s: float, times: Times, *, share: float = 0.99, busiest: float = 0.75, cell: int = 8
) -> float:
    """Model servers for a rate, such that the quantile `share` of the first words stays under `first_s` and at most the
    share `busiest` of their processors' time is taken.

    Servers share nothing, so `cell` of them are simulated and the rate that they bear (to one part in fifty) is scaled.
    """
    low, high = 0.0, cell * 2.0 / times.question_s
    while high - low > 0.02 * high:
        rate = (low + high) / 2
        sizes = Sizes(gateways=max(1, math.ceil(rate * times.gateway_s / 0.5)), replicas=cell, shards=1)
        tally = Deployment(sizes, times).open_loop(rate, 120.0)
        bears = tally.first_s(share) <= first_s and tally.busy["model"] <= busiest
        low, high = (rate, high) if bears else (low, rate)
    return turns_per_s * cell / low if low else math.inf


def plan(turns_per_s: float, sessions: int, first_s: float, times: Times) -> dict[str, float]:
    """How many of each part. Gateways and shards are at most 60 % busy, model servers 75 %; half a GiB of a gateway is
    for sockets."""
    by_cpu = turns_per_s * times.gateway_s / 0.6
    by_sockets = sessions * times.socket_bytes / 2**29
    return {
        "gateways": math.ceil(max(by_cpu, by_sockets)),
        "gateways_for_turns": math.ceil(by_cpu),
        "gateways_for_sockets": math.ceil(by_sockets),
        "model_servers": math.ceil(replicas_for(turns_per_s, first_s, times)),
        "redis_shards": math.ceil(turns_per_s * times.store_s / 0.6),
    }


def main() -> None:
    """Print a plan as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns-per-s", type=float, required=True)
    parser.add_argument("--sessions", type=int, required=True, help="people who are connected at once")
    parser.add_argument("--first-s", type=float, default=1.0, help="99 of 100 turns have their first words by then")
    parser.add_argument(
        "--model-speed", type=float, default=1.0, help="of a model server, in ones of the measured kind"
    )
    given = parser.parse_args()
    times, faster = Times.measured(), given.model_speed
    times = replace(
        times,
        picture_s=times.picture_s / faster,
        question_s=times.question_s / faster,
        step_s=times.step_s / faster,
        row_s=times.row_s / faster,
    )
    print(json.dumps(plan(given.turns_per_s, given.sessions, given.first_s, times), indent=2))


if __name__ == "__main__":
    main()
