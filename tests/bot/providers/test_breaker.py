"""When a circuit opens, and who may try it."""

from visavis.bot.providers.breaker import CircuitBreaker


def test_it_opens_after_failures_in_a_row_and_lets_one_try() -> None:
    now = [100.0]
    breaker = CircuitBreaker(2, 30, lambda: now[0])
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.wait_s() == 0
    breaker.failed()
    assert breaker.wait_s() == 30
    now[0] += 30
    assert [breaker.wait_s(), breaker.wait_s()] == [0, 30], "one caller tries, the others wait"
    breaker.succeeded()
    assert [breaker.wait_s(), breaker.wait_s()] == [0, 0]


def test_a_rest_that_was_asked_for_is_given_at_once() -> None:
    now = [100.0]
    breaker = CircuitBreaker(5, 30, lambda: now[0])
    breaker.failed(12)
    assert breaker.wait_s() == 12
    now[0] += 12
    assert [breaker.wait_s(), breaker.wait_s()] == [0, 0]
