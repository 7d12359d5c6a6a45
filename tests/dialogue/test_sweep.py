"""How soon a process looks again for turns that another one has left behind."""

from visavis.dialogue.turn_runner import sweep_pause_s


def test_pauses_grow_while_the_store_is_away_are_bounded_and_differ() -> None:
    drawn = [[sweep_pause_s(4.0, failures) for _ in range(200)] for failures in range(40)]
    middles = [sum(pauses) / len(pauses) for pauses in drawn]
    assert 3.0 <= min(drawn[0]) < max(drawn[0]) <= 5.0, "the period, when all is well"
    assert middles[1] < middles[2] < middles[3] < middles[4] < middles[5], "longer each time"
    assert max(middles[1:3]) < 5.0, "a short absence is noticed soon"
    assert max(map(max, drawn)) <= 8 * 4.0 * 1.25 and all(len(set(pauses)) > 100 for pauses in drawn)
