import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.dialogue import rate_limits
from visavis.dialogue.errors import RateLimited
from visavis.dialogue.limits import Limits
from visavis.dialogue.rate_limits import RateLimits, TokenBuckets


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(rate_limits.time, "monotonic", lambda: now[0])
    return now


def test_a_bucket_fills_steadily_and_tells_when_there_is_one(clock: list[float]) -> None:
    buckets = TokenBuckets(6)
    assert [buckets.take("a") for _ in range(7)] == [0] * 6 + [10]
    assert buckets.take("b") == 0
    clock[0] += 9
    assert buckets.take("a") == pytest.approx(1)
    clock[0] += 1.001
    assert buckets.take("a") == 0
    clock[0] += 3600
    assert [buckets.take("a") for _ in range(7)].count(0) == 6


@given(st.lists(st.floats(0, 30), max_size=80))
def test_no_more_than_a_full_bucket_and_what_has_flown_in(pauses: list[float]) -> None:
    buckets, now, taken = TokenBuckets(12), 0.0, 0
    with pytest.MonkeyPatch.context() as patch:
        for pause in pauses:
            now += pause
            patch.setattr(rate_limits.time, "monotonic", lambda now=now: now)
            taken += buckets.take("a") == 0
    assert taken <= 12 + now * 12 / 60 + 1


def test_forgotten_keys_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "_MOST_KEYS", 10)
    buckets = TokenBuckets(6)
    for number in range(100):
        buckets.take(str(number))
    assert len(buckets._buckets) == 10


def test_sockets_are_counted_while_they_are_open() -> None:
    rates = RateLimits(Limits())
    with rates.socket("a", 1), rates.socket("", 1), rates.socket("", 1):
        with pytest.raises(RateLimited), rates.socket("a", 1):
            pass
        with rates.socket("b", 1):
            pass
    with rates.socket("a", 1):
        pass
    assert not rates._sockets
