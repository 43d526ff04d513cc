"""Token buckets: what is taken, slowed and refused, on a clock that the test moves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.gateway.limits import PATIENCE_MS, Grant, Limit, Limiter, RateLimits

NOW = 1_700_000_000_000


def limiter(**device: float) -> Limiter:
    return Limiter(RateLimits(device=Limit(**device)))  # type: ignore[arg-type]


def test_without_limits_everything_is_taken_at_once() -> None:
    free = Limiter(RateLimits())
    account = free.open("h1", NOW)
    assert account is not None
    assert free.take(account, 10**9, 10**12, NOW) == Grant()


def test_a_second_of_messages_may_come_at_once_and_what_is_over_waits() -> None:
    one = limiter(messages_per_second=10)
    account = one.account("h1")
    assert one.take(account, 10, 0, NOW) == Grant()
    assert one.take(account, 5, 0, NOW) == Grant(500)
    assert one.take(account, 1, 0, NOW + 500) == Grant(100)
    assert one.take(account, 10, 0, NOW + 10_000) == Grant()


def test_bytes_are_counted_apart_from_messages() -> None:
    one = limiter(messages_per_second=1000, bytes_per_second=1000)
    account = one.account("h1")
    assert one.take(account, 1, 3000, NOW) == Grant(2000)


def test_who_goes_on_in_spite_of_his_debt_is_refused_and_told_when_to_come() -> None:
    one = limiter(messages_per_second=1)
    account = one.account("h1")
    assert one.take(account, 100, 0, NOW) == Grant(PATIENCE_MS)
    assert one.take(account, 1, 0, NOW + PATIENCE_MS) == Grant(99_000 - PATIENCE_MS, refused=True)
    assert one.take(account, 1, 0, NOW + 99_000) == Grant(1000)


def test_a_device_that_sends_twice_a_minute_is_slowed_not_refused() -> None:
    one = limiter(messages_per_second=1 / 30)
    account = one.account("h1")
    assert one.take(account, 1, 0, NOW) == Grant()
    assert one.take(account, 1, 0, NOW + 29_000) == Grant(1000)
    assert one.take(account, 1, 0, NOW + 30_000) == Grant(PATIENCE_MS)


def test_all_together_are_held_to_the_total() -> None:
    one = Limiter(RateLimits(total=Limit(messages_per_second=10)))
    assert one.take(one.account("h1"), 10, 0, NOW) == Grant()
    assert one.take(one.account("h2"), 10, 0, NOW) == Grant(1000)
    assert one.wait_ms(one.account("h3"), NOW) == 1000
    assert one.wait_ms(one.account("h3"), NOW + 1000) == 0


def test_one_name_does_not_pay_for_another() -> None:
    one = limiter(messages_per_second=1)
    assert one.take(one.account("h1"), 1000, 0, NOW).wait_ms > 0
    assert one.take(one.account("h2"), 1, 0, NOW) == Grant()


def test_connections_are_counted_by_name() -> None:
    one = limiter(connections=2)
    first, second = one.open("h1", NOW), one.open("h1", NOW)
    assert first is second is not None
    assert one.open("h1", NOW) is None
    assert one.open("h2", NOW) is not None
    assert one.connected == 2
    one.close(first)
    assert one.open("h1", NOW) is not None
    for _ in range(2):
        one.close(first)
    assert one.connected == 1


def test_who_was_there_is_told_once() -> None:
    one = Limiter(RateLimits())
    account = one.open("h1", NOW)
    assert account is not None
    assert one.seen(NOW + 1) == {"h1": NOW}
    assert one.seen(NOW + 2) == {}
    one.take(account, 1, 1, NOW + 3)
    assert one.seen(NOW + 4) == {"h1": NOW + 3}


def test_names_without_connection_and_debt_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qanat.gateway.limits._MAX_IDLE", 3)
    one = limiter(messages_per_second=1)
    kept = one.open("there", NOW)
    one.take(one.account("owes"), 100, 0, NOW)
    for number in range(10):
        one.account(f"gone{number}")
    one.seen(NOW)
    assert set(one._accounts) == {"there", "owes"}
    assert one.account("there") is kept


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 50)), max_size=60), st.floats(0.5, 100))
def test_nobody_gets_more_than_his_rate_and_one_burst(steps: list[tuple[int, int]], rate: float) -> None:
    """What a front takes that waits as it is told is bounded by rate and time, but for the last run."""
    one = limiter(messages_per_second=rate)
    account, now, taken, last = one.account("h1"), NOW, 0, 0
    for pause, messages in steps:
        now += pause
        grant = one.take(account, messages, 0, now)
        if not grant.refused:
            taken, last = taken + messages, messages
            assert taken - last <= rate * ((now - NOW) / 1000 + 1 + PATIENCE_MS / 1000) + 3
        now += grant.wait_ms
