"""What is news: raised, still raised, changed, cleared; and that a restart finds it as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.model.sinks import Sink
from qanat.notify.raised import Draft, Raised

HOUR = 3_600_000


def one(**declared: Any) -> Raised:
    return Raised("ops", Sink(stream="alerts", **{"key": ("site",), "state": "state"} | declared))


def say(raised: Raised, *rows: tuple[str, str | None, int]) -> list[str | None]:
    """Each row is decided and delivered before the next."""
    told = []
    for key, state, now in rows:
        draft = Draft()
        told.append(raised.decide(key, state, now, draft))
        raised.accept(draft)
    return told


def test_raised_once_cleared_once_per_key() -> None:
    rows = [
        ("a", "raised", 0),
        ("a", "raised", 9),
        ("b", "raised", 9),
        ("a", None, 9),
        ("a", None, 9),
        ("a", "raised", 9),
    ]
    assert say(one(), *rows) == ["raised", None, "raised", "cleared", None, "raised"]


def test_repeated_when_it_is_time_counted_from_when_it_was_sent() -> None:
    rows = [("a", "raised", HOUR * n // 2) for n in range(6)]
    assert say(one(repeat_after=HOUR), *rows) == ["raised", None, "raised", None, "raised", None]
    assert say(one(), *rows) == ["raised", None, None, None, None, None]


def test_another_state_is_news() -> None:
    rows = [("a", "warning", 0), ("a", "critical", 1), ("a", "critical", 2), ("a", None, 3)]
    assert say(one(), *rows) == ["raised", "raised", None, "cleared"]


def test_without_recovery_the_end_is_known_and_not_said() -> None:
    assert say(one(recovery=False), ("a", "raised", 0), ("a", None, 1), ("a", "raised", 2)) == [
        "raised",
        None,
        "raised",
    ]


def test_what_nobody_heard_of_does_not_clear() -> None:
    assert say(one(), ("a", None, 0)) == [None]


def test_a_draft_that_is_thrown_away_leaves_nothing() -> None:
    raised, draft = one(), Draft()
    assert raised.decide("a", "raised", 0, draft) == "raised"
    assert raised.decide("a", "raised", 0, draft) is None
    assert raised.decide("a", "raised", 0, Draft()) == "raised"
    assert len(raised) == 0


def test_keys_without_state_are_dropped_when_they_may_be_said_again() -> None:
    raised = one(state=None, repeat_after=HOUR)
    keys = [f"site-{n}" for n in range(2000)]
    say(raised, *((key, "raised", 0) for key in keys))
    assert len(raised) == 2000
    for key in (f"later-{n}" for n in range(500)):
        draft = Draft()
        assert raised.decide(key, "raised", HOUR, draft) == "raised"
        raised.forget_stale(HOUR, draft)
        raised.accept(draft)
    assert len(raised) < 600


@pytest.mark.parametrize("other", [{"key": ("level",)}, {"state": "level"}, {"stream": "others"}])
def test_another_declaration_begins_with_nothing(other: dict[str, Any]) -> None:
    raised, draft = one(), Draft()
    raised.decide("a", "raised", 0, draft)
    stored = raised.stored(draft)
    for declared, expected in (({}, 1), (other, 0)):
        after = Raised("ops", Sink(**{"stream": "alerts", "key": ("site",), "state": "state"} | declared))
        after.load([stored.get(key) for key in after.state_keys])
        assert len(after) == expected


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([None, "raised", "worse"])), max_size=60),
    st.lists(st.integers(1, 7), min_size=1, max_size=20),
)
def test_restarts_and_batches_change_nothing(rows: list[tuple[str, str | None]], sizes: list[int]) -> None:
    """Law 1, and recovery: the log's state after any batch is all there is to know."""
    whole = say(one(), *((key, state, 5) for key, state in rows))
    kept: dict[str, bytes] = {}
    told: list[str | None] = []
    number = 0
    while rows:
        size = sizes[number % len(sizes)]
        number += 1
        raised, draft = one(), Draft()
        raised.load([kept.get(key) for key in raised.state_keys])
        told += [raised.decide(key, state, 5, draft) for key, state in rows[:size]]
        for key, data in raised.stored(draft).items():
            if data is None:
                kept.pop(key, None)
            else:
                kept[key] = data
        rows = rows[size:]
    assert told == whole
