"""Patience with a client: one timer for all frames, and nobody who reads is cut off."""

import asyncio

import pytest

from visavis.dialogue.sockets import Patience


async def test_frames_share_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up: list[int] = []
    patience = Patience(60, lambda: given_up.append(1))
    loop, timers = asyncio.get_running_loop(), []
    later = loop.call_later

    def count(delay: float, *args: object) -> asyncio.TimerHandle:
        timers.append(delay)
        return later(delay, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_later", count)
    for _ in range(100):
        with patience:
            pass
    patience.end()
    assert len(timers) == 1 and not given_up


async def test_whoever_reads_slowly_stays_and_whoever_does_not_read_is_given_up() -> None:
    given_up = asyncio.Event()
    patience = Patience(0.2, given_up.set)
    for _ in range(10):  # each frame well within the limit, all together far beyond it
        with patience:
            await asyncio.sleep(0.04)
    assert not given_up.is_set()
    with patience:
        async with asyncio.timeout(5):
            await given_up.wait()


async def test_nobody_is_given_up_when_nothing_is_sent() -> None:
    given_up: list[int] = []
    patience = Patience(0.02, lambda: given_up.append(1))
    with patience:
        pass
    await asyncio.sleep(0.1)
    assert not given_up
    with pytest.raises(ValueError), patience:
        raise ValueError
    await asyncio.sleep(0.1)
    assert not given_up
