"""OVER: as Flink 2.3 gives it, and equal to a literal reference for every cut."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.clock import MAX_TIME
from qanat.errors import SqlError
from qanat.model.functions import UserFunction
from qanat.model.types import BIGINT, BOOLEAN, DOUBLE, FLOAT, INT, STRING, TIMESTAMP, Type, array, decimal
from qanat.sql.embedded import over
from qanat.sql.embedded.over import OverOperator
from qanat.sql.expressions import Call, Column, Literal
from qanat.sql.plan import AggregateCall, Field, Over
from tests.sql.embedded.feeding import Event, Fed, every_cut, feed, scan

ROWS = (Field("k", STRING), Field("v", INT), Field("id", INT), Field("ts", TIMESTAMP, time_attribute=True))
V = Column("v", INT)
BIG = Call(">", (V, Literal(2, INT)), BOOLEAN)
COUNT_ALL = AggregateCall("COUNT", (), BIGINT)
SUM = AggregateCall("SUM", (V,), INT)


def node(
    *calls: AggregateCall, rows: bool = False, preceding: int | None = None, timed: bool = True, value: Type = INT
) -> Over:
    source = (ROWS[0], Field("v", value), *ROWS[2:])
    made = tuple(Field(f"c{number}", call.type) for number, call in enumerate(calls))
    return Over(scan("t", source), ("k",), "ts" if timed else None, rows, preceding, calls, (*source, *made))


def row(k: str | None, v: Any, id_: int, ts: int, delay: int = 1000) -> Event:
    return Event(0, (k, v, id_, ts), mark=ts - delay)


def run(plan: Over, *events: Event) -> Fed:
    return every_cut(OverOperator, plan, (plan.input.schema,), [*events, Event(0, None, mark=MAX_TIME)])


def shown(fed: Fed) -> list[str]:
    """k, id, the columns of the calls."""
    return [" ".join("NULL" if x is None else str(x) for x in (one[1], one[3], *one[5:])) for one in fed.rows]


# --- as seen on Flink 2.3 --------------------------------------------------------------------------------------------

SEEN = [
    row("a", 5, 1, 1000), row("a", 6, 2, 1000), row("a", 1, 3, 3000), row("b", None, 4, 2000), row("b", 3, 5, 4000),
    row("a", 2, 6, 2000), row("a", 9, 7, 8000), row("b", 4, 8, 7000), row("a", 8, 9, 8000), row("c", 4, 10, 6000),
    row("c", 4, 11, 5000), row("a", 3, 12, 20000),
]  # fmt: skip


def test_a_bounded_frame_takes_late_rows_as_long_as_no_later_one_of_their_key_is_out() -> None:
    fed = run(node(SUM, rows=True, preceding=1), *SEEN)
    assert shown(fed) == [
        "a 1 5", "a 2 11", "b 4 NULL", "a 3 7", "b 5 3", "c 11 4", "c 10 8", "b 8 7", "a 7 10", "a 9 17", "a 12 11",
    ]  # fmt: skip
    assert fed.late == [2000]


def test_a_range_holds_all_rows_of_its_time() -> None:
    fed = run(node(SUM, preceding=2000), *SEEN)
    assert shown(fed) == [
        "a 1 11", "a 2 11", "b 4 NULL", "a 3 12", "b 5 3", "c 11 4", "c 10 8", "b 8 4", "a 7 17", "a 9 17", "a 12 3",
    ]  # fmt: skip


def test_an_unbounded_frame_takes_no_row_that_the_watermark_has_reached() -> None:
    fed = run(node(SUM, COUNT_ALL), *SEEN)
    assert shown(fed) == ["a 1 11 2", "a 2 11 2", "a 3 12 3", "b 5 3 1", "a 7 29 5", "a 9 29 5", "a 12 32 6"]
    assert fed.late == [2000, 2000, 7000, 6000, 5000]
    assert shown(run(node(SUM, rows=True), *SEEN)) == [
        "a 1 5",
        "a 2 11",
        "a 3 12",
        "b 5 3",
        "a 7 21",
        "a 9 29",
        "a 12 32",
    ]


@pytest.mark.parametrize(
    ("calls", "want"),
    [
        ([AggregateCall("ROW_NUMBER", (), BIGINT)], "1, 2, 3, 1, 4, 5, 6"),
        # the rank of the first row of a time, which is where Flink 2.3 is wrong
        ([AggregateCall("RANK", (), BIGINT)], "1, 1, 3, 1, 4, 4, 6"),
        ([AggregateCall("DENSE_RANK", (), BIGINT)], "1, 1, 2, 1, 3, 3, 4"),
        ([AggregateCall("LAG", (V,), INT)], "5, 5, 6, NULL, 9, 9, 8"),
        ([AggregateCall("LAG", (V, Literal(2, INT), Literal(77, INT)), INT)], "77, 77, 5, 77, 1, 1, 9"),
        ([AggregateCall("FIRST_VALUE", (V,), INT)], "5, 5, 5, 3, 5, 5, 5"),
        ([AggregateCall("LAST_VALUE", (V,), INT)], "6, 6, 1, 3, 8, 8, 3"),
        ([AggregateCall("STDDEV_POP", (V,), INT)], "0, 0, 2, 0, 2, 2, 2"),
    ],
)  # fmt: skip
def test_functions_of_an_unbounded_range(calls: list[AggregateCall], want: str) -> None:
    assert ", ".join(line.split()[2] for line in shown(run(node(*calls), *SEEN))) == want


def test_functions_of_rows() -> None:
    calls = (
        AggregateCall("FIRST_VALUE", (V,), INT), AggregateCall("LAST_VALUE", (V,), INT),
        AggregateCall("MAX", (V,), INT), AggregateCall("ARRAY_AGG", (V,), array(INT)),
        AggregateCall("COUNT", (V,), BIGINT, distinct=True),
    )  # fmt: skip
    assert shown(run(node(*calls, rows=True, preceding=1), *SEEN)) == [
        "a 1 5 5 5 [5] 1", "a 2 5 6 6 [5, 6] 2", "b 4 NULL NULL NULL [None] 0", "a 3 6 1 6 [6, 1] 2",
        "b 5 3 3 3 [None, 3] 1", "c 11 4 4 4 [4] 1", "c 10 4 4 4 [4, 4] 1", "b 8 3 4 4 [3, 4] 2", "a 7 1 9 9 [1, 9] 2",
        "a 9 9 8 9 [9, 8] 2", "a 12 8 3 8 [8, 3] 2",
    ]  # fmt: skip


def test_in_order_of_arrival_rows_come_out_at_once() -> None:
    plan = node(SUM, AggregateCall("MAX", (V,), INT), rows=True, preceding=1, timed=False)
    fed = run(plan, *SEEN)
    assert shown(fed) == [
        "a 1 5 5", "a 2 11 6", "a 3 7 6", "b 4 NULL NULL", "b 5 3 3", "a 6 3 2", "a 7 11 9", "b 8 7 4", "a 9 17 9",
        "c 10 4 4", "c 11 8 4", "a 12 11 8",
    ]  # fmt: skip
    assert fed.seqs == list(range(12))
    assert fed.late == []
    running = [line.split()[2] for line in shown(run(node(SUM, timed=False), *SEEN))]
    assert running == ["5", "11", "12", "NULL", "3", "14", "23", "7", "31", "4", "8", "34"]


def test_a_range_by_arrival_has_no_time() -> None:
    with pytest.raises(SqlError, match="needs a time attribute"):
        OverOperator(node(SUM, preceding=1000, timed=False), None)  # type: ignore[arg-type]


def test_the_state_of_a_range_is_cleared_half_a_frame_after_its_use() -> None:
    first = [row("a", 1, 1, 100, 0), row("z", 0, 2, 115, 0)]
    plan = node(SUM, preceding=10)
    # 116 = 100 + 15 + 1 clears key a: a row that is older than the one emitted is taken then
    assert shown(run(plan, *first, row("a", 7, 3, 90, 0), row("z", 0, 4, 130, 0))) == ["a 1 1", "z 2 0", "z 4 0"]
    later = [*first, row("z", 0, 4, 116, 0), row("a", 7, 3, 90, 0), row("a", 5, 5, 95, 0), row("z", 0, 6, 130, 0)]
    fed = run(plan, *later)
    assert shown(fed) == ["a 1 1", "z 2 0", "z 4 0", "a 3 7", "a 5 12", "z 6 0"]
    assert fed.seqs == [0, 1, 2, 5, 5, 5]


def test_a_replaced_timer_counts_as_a_row_as_in_flink() -> None:
    # the timer at 116 is replaced by one at 128; still, at 116 Flink notes that time as emitted
    events = [row("a", 1, 1, 100, 0), row("a", 1, 2, 112, 0), row("z", 0, 3, 117, 0), row("a", 1, 4, 114, 0)]
    fed = run(node(SUM, preceding=10), *events)
    assert (shown(fed), fed.late) == (["a 1 1", "a 2 1", "z 3 0"], [114])


# --- other types -----------------------------------------------------------------------------------------------------


def values_of(call_type: Type, function: str, values: list[Any], plan_type: Type, **frame: Any) -> list[Any]:
    plan = node(AggregateCall(function, (Column("v", plan_type),), call_type), value=plan_type, **frame)
    events = [row("a", value, number, 1000 * number) for number, value in enumerate(values)]
    events.append(Event(0, None, mark=MAX_TIME))
    if any(value != value for value in values):  # NaN does not equal itself
        return [one[5] for one in feed(OverOperator, plan, (plan.input.schema,), events, 2, snapshots=True).rows]
    return [one[5] for one in every_cut(OverOperator, plan, (plan.input.schema,), events).rows]


def test_floats_are_added_and_taken_back_one_by_one() -> None:
    values = [0.1, 0.2, 1e16, None, 0.3, -1e16]
    total, want, frame = -0.0, [], []
    for value in values:
        frame.append(value)
        if len(frame) > 2 and (gone := frame.pop(0)) is not None:
            total -= gone
        total = total if value is None else total + value
        want.append(total if any(one is not None for one in frame) else None)
    assert values_of(DOUBLE, "SUM", values, DOUBLE, rows=True, preceding=1) == want


def test_extremes_of_doubles_have_an_order_for_all() -> None:
    nan = float("nan")
    values = [0.0, -0.0, nan, -1.5, None]
    assert [str(x) for x in values_of(DOUBLE, "MIN", values, DOUBLE, rows=True, preceding=1)] == [
        "0.0", "-0.0", "-0.0", "-1.5", "-1.5",
    ]  # fmt: skip
    assert [str(x) for x in values_of(DOUBLE, "MAX", values, DOUBLE)] == ["0.0", "0.0", "nan", "nan", "nan"]


def test_whole_numbers_wrap_and_averages_are_cut() -> None:
    assert values_of(INT, "SUM", [2**31 - 1, 1], INT) == [2**31 - 1, -(2**31)]
    assert values_of(INT, "AVG", [-1, -2, 3], INT, rows=True, preceding=1) == [-1, -1, 0]


@pytest.mark.parametrize("frame", [{}, {"rows": True, "preceding": 1}, {"preceding": 1000}])
def test_texts_decimals_and_single_floats(frame: dict[str, Any]) -> None:
    bounded = bool(frame)
    assert values_of(STRING, "MIN", ["b", "c", "a"], STRING, **frame) == ["b", "b", "a"]
    assert values_of(STRING, "LISTAGG", ["b", None, "a"], STRING, **frame) == ["b", "b", "a" if bounded else "b,a"]
    money = [Decimal("1.10"), Decimal("2.20"), Decimal("3.30")]
    want = [Decimal("1.10"), Decimal("3.30"), Decimal("5.50") if bounded else Decimal("6.60")]
    assert values_of(decimal(38, 2), "SUM", money, decimal(10, 2), **frame) == want
    assert values_of(FLOAT, "SUM", [0.5, 0.25], FLOAT, **frame) == [0.5, 0.75]


class Longest:
    """A user's aggregate that cannot take rows back."""

    def __init__(self) -> None:
        self.found: str | None = None

    def add(self, values: pa.Array) -> None:
        for value in values.to_pylist():
            if value is not None and (self.found is None or len(value) > len(self.found)):
                self.found = value

    def merge(self, other: Longest) -> None:
        self.add(pa.array([other.found], pa.string()))

    def result(self) -> str | None:
        return self.found

    def state(self) -> Any:
        return [self.found]

    def restore(self, state: Any) -> None:
        (self.found,) = state


@pytest.mark.parametrize(
    ("frame", "want"), [({}, ["a", "ccc", "ccc", "ccc"]), ({"rows": True, "preceding": 1}, ["a", "ccc", "ccc", "bb"])]
)
def test_a_users_aggregate_that_cannot_take_back_is_computed_anew(frame: dict[str, Any], want: list[str]) -> None:
    function = UserFunction("LONGEST", "AGGREGATE", (STRING,), STRING, (), Longest)
    call = AggregateCall("LONGEST", (Column("v", STRING),), STRING, user=function)
    events = [row("a", value, number, 1000 * number) for number, value in enumerate(["a", "ccc", "b", "bb"])]
    assert [one[5] for one in run(node(call, value=STRING, **frame), *events).rows] == want


# --- against a literal reference -------------------------------------------------------------------------------------


class Key:
    """What Flink keeps for one key of a frame over event time."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, ...]] = []
        self.past: list[tuple[Any, ...]] = []
        self.last = -(10**18)
        self.until: int | None = None
        self.timers: list[int] = []


class Reference:
    """Row by row; timers fire when the watermark moves, in order of their time."""

    def __init__(self, rows: bool, preceding: int | None) -> None:
        self.rows, self.preceding = rows, preceding
        self.keys: dict[Any, Key] = defaultdict(Key)
        self.mark = -(10**18)
        self.late: list[int] = []
        self.out: list[tuple[tuple[Any, ...], list[tuple[Any, ...]], list[tuple[Any, ...]]]] = []

    def take(self, given_row: tuple[Any, ...]) -> None:
        key, time = self.keys[given_row[0]], given_row[3]
        if time <= (self.mark if self.preceding is None else key.last):
            self.late.append(time)
            return
        key.waiting.append(given_row)
        if self.preceding is None or self.rows:
            return
        if key.until is None or key.until < time + self.preceding + 1:
            key.until = time + int(self.preceding * 1.5) + 1
            key.timers.append(key.until)

    def move(self, mark: int) -> None:
        if mark <= self.mark:
            return
        self.mark = mark
        times = {one[3] for key in self.keys.values() for one in key.waiting if one[3] <= mark}
        times |= {time for key in self.keys.values() for time in key.timers if time <= mark}
        for time in sorted(times):
            fired: list[tuple[int, tuple[Any, ...], list[tuple[Any, ...]], list[tuple[Any, ...]]]] = []
            for name, key in self.keys.items():
                if time in key.timers or any(one[3] == time for one in key.waiting):
                    fired += self.fire(name, key, time)
            self.out += [one[1:] for one in sorted(fired, key=lambda one: one[0])]

    def fire(self, name: Any, key: Key, time: int) -> list[Any]:
        if time in key.timers:
            key.timers.remove(time)
        if key.until is not None and key.until <= time:
            self.keys[name].__init__()  # type: ignore[misc]
            return []
        rows = [one for one in key.waiting if one[3] == time]
        key.waiting = [one for one in key.waiting if one[3] != time]
        key.last = time
        found = []
        for number, one in enumerate(rows):
            seen = key.past + rows[: number + 1] if self.rows else key.past + rows
            frame = seen
            if self.preceding is not None and self.rows:
                frame = seen[-self.preceding - 1 :]
            elif self.preceding is not None:
                frame = [other for other in seen if other[3] >= time - self.preceding]
            found.append((one[2], one, frame, key.past + rows[: number + 1]))
        key.past += rows
        return found


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    events, now = [], 0
    for number in range(draw(st.integers(0, 18))):
        now += draw(st.sampled_from([0, 0, 1, 2, 4, 7, 12]))
        time = now - draw(st.sampled_from([0, 0, 0, 1, 2, 3, 5, 9, 20]))
        value = draw(st.sampled_from([None, 1, 2, 3, 3, -7]))
        delay = draw(st.sampled_from([0, 0, 2, 4]))
        given_row = (draw(st.sampled_from(["a", "b", None])), value, number, time)
        events.append(Event(0, given_row, mark=draw(st.sampled_from([time - delay, time - delay, None]))))
    return [*events, Event(0, None, mark=MAX_TIME)]


CALLS = (
    COUNT_ALL, SUM, AggregateCall("COUNT", (V,), BIGINT), AggregateCall("MIN", (V,), INT),
    AggregateCall("MAX", (V,), INT), AggregateCall("FIRST_VALUE", (V,), INT), AggregateCall("LAST_VALUE", (V,), INT),
    AggregateCall("ARRAY_AGG", (V,), array(INT)), AggregateCall("SUM", (V,), INT, distinct=True),
    AggregateCall("SUM", (V,), INT, filter=BIG), AggregateCall("AVG", (Column("v", INT),), INT),
)  # fmt: skip


def aggregates(frame: list[tuple[Any, ...]]) -> list[Any]:
    values = [one[1] for one in frame if one[1] is not None]
    big = [value for value in values if value > 2]
    average = None if not values else int(sum(values) / len(values))
    return [
        len(frame), sum(values) if values else None, len(values), min(values, default=None), max(values, default=None),
        values[0] if values else None, values[-1] if values else None, [one[1] for one in frame],
        sum(set(values)) if values else None, sum(big) if big else None, average,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "preceding"), [(True, None), (False, None), (True, 1), (True, 3), (False, 4), (False, 1), (False, 8)]
)
@settings(max_examples=10, deadline=None)
@given(events=streams())
def test_law_1_frames_over_time_equal_the_reference(rows: bool, preceding: int | None, events: list[Event]) -> None:
    reference = Reference(rows, preceding)
    for event in events:
        if event.row is not None:
            reference.take(event.row)
        reference.move(reference.mark if event.mark is None else event.mark)
    plan = node(*CALLS, rows=rows, preceding=preceding)
    fed = every_cut(OverOperator, plan, (ROWS,), events)
    assert [list(one[1:4] + one[5:]) for one in fed.rows] == [
        [*one[:3], *aggregates(frame)] for one, frame, _ in reference.out
    ]
    assert fed.late == reference.late


@settings(max_examples=10, deadline=None)
@given(events=streams())
def test_law_1_ranks_and_rows_before_equal_the_reference(events: list[Event]) -> None:
    reference = Reference(False, None)
    for event in events:
        if event.row is not None:
            reference.take(event.row)
        reference.move(reference.mark if event.mark is None else event.mark)
    names = ("ROW_NUMBER", "RANK", "DENSE_RANK")
    lag = AggregateCall("LAG", (V, Literal(2, INT), Literal(99, INT)), INT)
    plan = node(*(AggregateCall(name, (), BIGINT) for name in names), lag, CALLS[5], CALLS[6])
    fed = every_cut(OverOperator, plan, (ROWS,), events)
    want = []
    for one, frame, before in reference.out:
        times = [other[3] for other in frame]
        earlier = [time for time in times if time < one[3]]
        lagged = frame[-3][1] if len(frame) > 2 else 99
        want.append([*one[:3], len(before), len(earlier) + 1, len(set(earlier)) + 1, lagged, *aggregates(frame)[5:7]])
    assert [list(row_[1:4] + row_[5:]) for row_ in fed.rows] == want


@pytest.mark.parametrize("preceding", [None, 0, 2])
@settings(max_examples=10, deadline=None)
@given(events=streams())
def test_law_1_frames_over_arrival_equal_the_reference(preceding: int | None, events: list[Event]) -> None:
    fed = every_cut(OverOperator, node(*CALLS, rows=True, preceding=preceding, timed=False), (ROWS,), events)
    past: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
    want = []
    for event in events:
        if event.row is not None:
            mine = past[event.row[0]]
            mine.append(event.row)
            want.append([*event.row[:3], *aggregates(mine if preceding is None else mine[-preceding - 1 :])])
    assert [list(one[1:4] + one[5:]) for one in fed.rows] == want


# --- state -----------------------------------------------------------------------------------------------------------


def test_state_of_bounded_frames_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over, "_MANY", 64)
    events = [row(str(number // 10), 1, number, 1000 * number) for number in range(5000)]
    operator = feed(OverOperator, node(SUM, preceding=3000), (ROWS,), events, 100).operator
    assert len(operator._table) <= 256
    assert operator._history.height <= 1000
    operator = feed(
        OverOperator, node(SUM, rows=True, preceding=3), (ROWS,), [row("a", 1, 1, t, 0) for t in range(500)], 7
    ).operator
    assert operator._history.height == 4
    assert operator.held() > 0
    assert operator.largest(2)[0][0] == "a"


def test_keys_that_were_forgotten_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over, "_MANY", 4)
    events = [row(str(number % 6), 1, number, 1000 * number) for number in range(60)]
    calls = (SUM, AggregateCall("ARRAY_AGG", (V,), array(INT)), AggregateCall("AVG", (Column("v", INT),), INT))
    fed = every_cut(OverOperator, node(*calls, preceding=2000), (ROWS,), [*events, Event(0, None, mark=MAX_TIME)])
    assert [one[5:] for one in fed.rows] == [(1, [1], 1)] * 60
