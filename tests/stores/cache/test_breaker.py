"""When a cache is asked and when not, in time that is moved by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qanat.stores.cache.breaker import Breaker, BreakerLimits, State

LIMITS = BreakerLimits(slow=0.02, in_a_row=5, window=20, least=10, share=0.5, probes=3, gap=0.1, first=0.5, longest=30)
QUICK, SLOW = 0.001, 0.03


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker(LIMITS)
    for _ in range(5):
        assert breaker.state is State.CLOSED
        breaker.record(False, QUICK, now)
    assert breaker.state is State.OPEN
    return breaker


def probe(breaker: Breaker, now: float, ok: bool = True, seconds: float = QUICK) -> None:
    assert breaker.due(now)
    breaker.begin_probe(now)
    assert breaker.state is State.HALF_OPEN
    assert not breaker.due(now + 1)
    breaker.probed(ok, seconds, now)


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(30):
        for ok in (True, True, True, True, True, True, False, False, False, False):
            breaker.record(ok, QUICK, 0)
    assert breaker.state is State.CLOSED
    opened()


def test_half_of_the_last_ones_open_it() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(100):
        breaker.record(True, QUICK, 0)
    for number in range(19):
        assert breaker.state is State.CLOSED, number
        breaker.record(number % 2 == 1, QUICK, 0)
    assert breaker.state is State.OPEN


def test_slow_is_failed() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(100):
        breaker.record(True, 0.02, 0)
    assert breaker.state is State.CLOSED
    for _ in range(5):
        breaker.record(True, SLOW, 0)
    assert breaker.state is State.OPEN


def test_it_is_tried_after_the_back_off_and_closed_by_good_probes_only() -> None:
    breaker = opened(100)
    assert not breaker.due(100.49)
    probe(breaker, 100.5)
    assert not breaker.due(100.59)
    probe(breaker, 100.6)
    assert breaker.state is State.HALF_OPEN
    probe(breaker, 100.7)
    assert breaker.state is State.CLOSED
    assert not breaker.due(200)


def test_a_probe_must_be_twice_as_fast_as_an_answer() -> None:
    breaker = opened(100)
    probe(breaker, 101)
    probe(breaker, 102, seconds=0.015)
    assert breaker.state is State.OPEN
    for number in range(3):
        probe(breaker, 110 + number, seconds=0.01)
    assert breaker.state is State.CLOSED
    breaker.record(True, 0.015, 120)
    assert breaker.state is State.CLOSED


def test_the_back_off_doubles_up_to_its_end_and_half_of_it_is_drawn() -> None:
    breaker, now, waits = opened(0), 0.0, []
    for _ in range(9):
        wait = next(step / 100 for step in range(10_000) if breaker.due(now + step / 100))
        waits.append(wait)
        now += wait
        probe(breaker, now, ok=False)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    breaker.begin_probe(now + 60)
    breaker.probed(False, QUICK, now + 60, draw=0.0)
    assert breaker.due(now + 75)
    assert not breaker.due(now + 74.9)


def reopened(after: float) -> Breaker:
    """It came back, worked for a while, and failed again."""
    breaker = opened(0)
    for number in range(3):
        probe(breaker, 1.0 + number)
    for _ in range(5):
        breaker.record(False, QUICK, 3.0 + after)
    assert breaker.state is State.OPEN
    return breaker


def test_one_that_fails_again_soon_waits_longer() -> None:
    assert not reopened(after=29).due(32 + 0.9)
    assert reopened(after=29).due(32 + 1)
    assert reopened(after=31).due(34 + 0.5)


def test_what_comes_late_does_not_count() -> None:
    breaker = opened(100)
    for _ in range(50):
        breaker.record(True, QUICK, 100.1)
        breaker.record(False, QUICK, 100.2)
    assert breaker.due(100.5)
    for number in range(3):
        probe(breaker, 101.0 + number)
    breaker.record(False, QUICK, 104)
    assert breaker.state is State.CLOSED


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 0.05), st.floats(0, 5)), max_size=200))
def test_it_never_closes_without_good_probes_one_after_the_other(steps: list[tuple[bool, float, float]]) -> None:
    breaker, now, good = Breaker(LIMITS), 0.0, 0
    for ok, seconds, wait in steps:
        now += wait
        if breaker.state is State.CLOSED:
            breaker.record(ok, seconds, now)
            good = 0
        elif breaker.due(now):
            breaker.begin_probe(now)
            breaker.probed(ok, seconds, now)
            good = good + 1 if ok and seconds <= 0.01 else 0
            assert (breaker.state is State.CLOSED) == (good >= 3)
