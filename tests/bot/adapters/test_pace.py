"""The budget of a channel, on a clock of its own."""

from dataclasses import dataclass

from visavis.bot.adapters.pace import Pace, Paces


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_drafts_come_one_an_interval_after_the_first_ones() -> None:
    clock = Clock()
    pace = Pace(1.0, clock)
    shown = 0
    for _ in range(1000):
        shown += pace.take(final=False) == 0.0
        clock.now += 0.01
    assert shown in (11, 12)  # ten seconds, and what was saved up before


def test_a_final_text_always_finds_a_place_that_drafts_have_left() -> None:
    clock = Clock()
    pace = Pace(1.0, clock)
    while pace.take(final=False) == 0.0:
        pass
    assert pace.take(final=True) == 0.0
    assert pace.take(final=True) > 0.0


def test_nobody_writes_before_the_platform_allows_it_again() -> None:
    clock = Clock()
    pace = Pace(1.0, clock)
    pace.cool(30)
    pace.cool(5)
    assert pace.take(final=True) == 30
    clock.now += 29.9
    assert pace.take(final=True) > 0
    clock.now += 0.2
    assert pace.take(final=True) == 0.0


def test_a_clock_that_goes_back_costs_nothing() -> None:
    clock = Clock()
    pace = Pace(1.0, clock)
    clock.now -= 3600
    assert pace.take(final=False) == 0.0


def test_all_answers_of_a_channel_share_one_budget_and_old_ones_are_forgotten() -> None:
    paces = Paces(1.0)
    first = paces.of("a")
    assert paces.of("a") is first
    assert paces.of("b") is not first
    for number in range(3_000):
        paces.of(str(number))
    assert paces.of("a") is not first
