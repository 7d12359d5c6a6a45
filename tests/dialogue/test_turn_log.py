import asyncio

from visavis.dialogue.events import TextDelta, TurnCancelled, TurnRestarted
from visavis.dialogue.turn_log import TurnLog


def delta(attempt: int, seq: int) -> TextDelta:
    return TextDelta(session="s", turn="t", attempt=attempt, seq=seq, text="x")


def final(attempt: int, seq: int) -> TurnCancelled:
    return TurnCancelled(session="s", turn="t", attempt=attempt, seq=seq, text="x")


def test_known_and_void_events_are_dropped() -> None:
    log = TurnLog("s", "t")
    log.begin(1, [delta(1, 1)])
    log.extend([delta(1, 1), delta(1, 2), delta(1, 2)])
    assert log.after(1, 0) == [delta(1, 1), delta(1, 2)]
    restarted = TurnRestarted(session="s", turn="t", attempt=2, seq=1)
    log.extend([restarted, delta(1, 3)])
    assert log.after(1, 2) == [restarted] == log.after(2, 0)
    log.begin(2, [restarted])
    assert log.after(2, 0) == [restarted]


def test_a_place_that_was_never_reached_gets_the_end() -> None:
    log = TurnLog("s", "t")
    log.begin(1, [delta(1, 1)])
    assert log.after(1, 9) == log.after(3, 1) == []
    log.extend([final(1, 2)])
    assert log.is_finished
    assert log.after(1, 9) == log.after(3, 1) == [final(1, 2)]
    assert log.after(1, 2) == []


async def test_waiting_ends_with_a_change_or_the_time() -> None:
    log = TurnLog("s", "t")
    await log.wait(0.01)
    waiting = asyncio.create_task(log.wait(None))
    await asyncio.sleep(0)
    log.extend([delta(1, 1)])
    await waiting
