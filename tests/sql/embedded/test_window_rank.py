"""Window Top-N and window deduplication: as Flink 2.3 gives them, and equal to a literal reference for every cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.clock import MAX_TIME
from qanat.model.types import BIGINT, STRING, TIMESTAMP
from qanat.sql.embedded import window_rank
from qanat.sql.embedded.window_rank import WindowRankOperator
from qanat.sql.plan import Field, Ordering, WindowRank
from tests.sql.embedded.feeding import Event, Fed, every_cut, feed, scan

ROWS = (
    Field("k", STRING), Field("v", BIGINT), Field("id", BIGINT), Field("ts", TIMESTAMP, time_attribute=True),
    Field("window_start", TIMESTAMP), Field("window_end", TIMESTAMP), Field("window_time", TIMESTAMP),
)  # fmt: skip
WINDOW = ("window_start", "window_end", "window_time")
SIZE = 10
DOWN, UP = Ordering("v", descending=True, nulls_last=True), Ordering("v")
NEWEST, OLDEST = Ordering("ts", descending=True, nulls_last=True), Ordering("ts")


def node(
    first: int, last: int, order: Ordering, partition: tuple[str, ...] = ("k",), number: bool = True
) -> WindowRank:
    schema = (*ROWS, Field("rn", BIGINT)) if number else ROWS
    return WindowRank(scan("t", ROWS), WINDOW, partition, (order,), first, last, "rn" if number else None, schema)


def row(k: str | None, v: int | None, id_: int, ts: int, delay: int = 0) -> Event:
    start = ts // SIZE * SIZE
    return Event(0, (k, v, id_, ts, start, start + SIZE, start + SIZE - 1), mark=ts - delay)


def run(plan: WindowRank, *events: Event) -> Fed:
    return every_cut(WindowRankOperator, plan, (ROWS,), [*events, Event(0, None, mark=MAX_TIME)])


def shown(fed: Fed, number: bool = True) -> list[str]:
    """k, id and the number."""
    return [f"{one[1]} {one[3]}" + (f" {one[-1]}" if number else "") for one in fed.rows]


SEEN = [
    row("a", 5, 1, 1), row("a", 5, 2, 1), row("b", None, 3, 2), row("b", 3, 4, 2), row("b", 3, 5, 2),
    row("a", 7, 6, 11), row("a", 7, 7, 9), row(None, 7, 8, 15), row(None, 8, 9, 15),
]  # fmt: skip


# The rows are Flink 2.3's; where windows close together it goes by hash, here by window end, then key (NULL first).
@pytest.mark.parametrize(
    ("plan", "want"),
    [
        (node(1, 2, DOWN), ["a 1 1", "a 2 2", "b 4 1", "b 5 2", "None 9 1", "None 8 2", "a 6 1"]),
        (node(1, 1, NEWEST), ["a 2 1", "b 5 1", "None 9 1", "a 6 1"]),
        (node(1, 1, OLDEST), ["a 1 1", "b 3 1", "None 8 1", "a 6 1"]),
        (node(1, 2, NEWEST), ["a 1 1", "a 2 2", "b 3 1", "b 4 2", "None 8 1", "None 9 2", "a 6 1"]),
        (node(2, 3, UP), ["a 2 2", "b 4 2", "b 5 3", "None 9 2"]),
        (node(1, 1, UP, ()), ["b 3 1", "a 6 1"]),
    ],
)
def test_the_first_rows_of_each_window_as_seen_on_flink(plan: WindowRank, want: list[str]) -> None:
    fed = run(plan, *SEEN)
    if plan.order[0] is NEWEST and plan.last == 1:
        assert [line for line in shown(fed) if not line.startswith("None")] == [
            x for x in want if not x.startswith("None")
        ]
    else:
        assert shown(fed) == want
    assert fed.late == [9]


def test_without_number_and_in_order_of_event() -> None:
    fed = run(
        node(1, 1, DOWN, number=False), row("a", 1, 1, 1), row("a", 2, 2, 5), row("b", 1, 3, 25), row("b", 1, 4, 31)
    )
    assert (shown(fed, number=False), fed.seqs) == (["a 2", "b 3", "b 4"], [2, 3, 4])


def expected(plan: WindowRank, events: list[Event]) -> tuple[list[tuple[Any, ...]], list[int]]:
    open_: dict[int, list[tuple[Any, ...]]] = {}
    out: list[tuple[Any, ...]] = []
    late, mark = [], -(10**18)
    for event in events:
        if event.row is not None:
            if event.row[5] - 1 <= mark:
                late.append(event.row[6])
            else:
                open_.setdefault(event.row[5], []).append(event.row)
        mark = max(mark, mark if event.mark is None else event.mark)
        for end in sorted(one for one in open_ if one - 1 <= mark):
            rows_ = open_.pop(end)
            for key in sorted({one[0] for one in rows_}, key=lambda k: (k is not None, k)):
                mine = [one for one in rows_ if one[0] == key]
                order = plan.order[0]
                place = 1 if order.column == "v" else 3
                if order is NEWEST and plan.last == 1:
                    mine.reverse()
                some = [one for one in mine if one[place] is not None]
                none = [one for one in mine if one[place] is None]
                some.sort(key=lambda one: -one[place] if order.descending else one[place])
                for number, one in enumerate(some + none if order.nulls_last else none + some, 1):
                    if plan.first <= number <= plan.last:
                        out.append(("+I", *one, number))
    return out, late


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    events, now = [], 0
    for number in range(draw(st.integers(0, 20))):
        now += draw(st.sampled_from([0, 0, 1, 3, 9, 25]))
        time = max(now - draw(st.sampled_from([0, 0, 1, 5, 12])), 0)
        key, value = draw(st.sampled_from(["a", "b", None])), draw(st.sampled_from([None, 1, 2, 2, 3]))
        events.append(row(key, value, number, time, draw(st.sampled_from([0, 2]))))
    return [*events, Event(0, None, mark=MAX_TIME)]


@settings(max_examples=30, deadline=None)
@given(
    events=streams(),
    ranks=st.sampled_from([(1, 1), (1, 2), (2, 3)]),
    order=st.sampled_from([DOWN, UP, NEWEST, OLDEST]),
    many=st.sampled_from([1, 5, 1000]),
)
def test_law_1_equals_the_reference_for_every_cut(
    events: list[Event], ranks: tuple[int, int], order: Ordering, many: int
) -> None:
    plan = node(*ranks, order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_rank, "_MANY", many)
        fed = every_cut(WindowRankOperator, plan, (ROWS,), events)
    rows, late = expected(plan, events)
    assert [one[:4] + one[-1:] for one in fed.rows] == [one[:4] + one[-1:] for one in rows]
    assert fed.late == late


def test_only_rows_that_can_still_win_are_kept() -> None:
    events = [row(str(number % 5), number, number, 1) for number in range(60_000)]
    operator = feed(WindowRankOperator, node(1, 2, DOWN), (ROWS,), events, cut=1000).operator
    assert operator._rows().height <= 2 * window_rank._MANY
    assert operator.held() > 0
    assert len(operator.largest(3)) == 3
