"""The wheel of deadlines beside a plain list of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qanat.gateway.mqtt.deadlines import Deadlines

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5), st.integers(0, 20_000)),
        st.tuples(st.just("drop"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("due"), st.just(0), st.integers(0, 5_000)),
    ),
    max_size=50,
)


@given(STEPS)
def test_nobody_is_given_too_early_or_twice_or_more_than_half_a_second_late(steps: list[tuple[str, int, int]]) -> None:
    wheel, plain, now = Deadlines[int](), dict[int, int](), 0
    for what, member, number in steps:
        if what == "put":
            wheel.put(member, now + number)
            plain[member] = now + number
        elif what == "drop":
            wheel.drop(member)
            plain.pop(member, None)
        else:
            now += number
            found = wheel.due(now)
            assert len(found) == len(set(found))
            assert {one for one, at in plain.items() if at + 500 <= now} <= set(found)
            assert set(found) <= {one for one, at in plain.items() if at <= now}
            for one in found:
                del plain[one]
        assert len(wheel) == len(plain)


def test_it_keeps_nothing_of_those_who_are_gone() -> None:
    wheel = Deadlines[str]()
    for number in range(1000):
        wheel.put("a", number * 1000)
    assert (len(wheel), len(wheel._slots)) == (1, 1)
    wheel.drop("a")
    assert (len(wheel), len(wheel._slots)) == (0, 0)
