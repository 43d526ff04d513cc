"""Outer interval joins and all window joins: what Flink 2.3 gave, and a literal reference for every cut."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.model.types import BIGINT, BOOLEAN, STRING, TIMESTAMP
from qanat.sql.embedded.interval_join import IntervalJoinOperator
from qanat.sql.embedded.window_join import WindowJoinOperator
from qanat.sql.expressions import Call, Column
from qanat.sql.plan import Field, IntervalJoin, WindowJoin
from tests.sql.embedded.drive import drive
from tests.sql.embedded.feeding import LEFT, RIGHT, Event, every_cut, feed, scan

START = datetime(2026, 1, 1)
SMALLER = Call("<", (Column("v", BIGINT), Column("w", BIGINT)), BOOLEAN)
TABLES = """
CREATE TABLE l (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE r (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE VIEW wl AS SELECT * FROM TABLE(TUMBLE(TABLE l, DESCRIPTOR(ts), INTERVAL '10' SECOND));
CREATE VIEW wr AS SELECT * FROM TABLE(TUMBLE(TABLE r, DESCRIPTOR(ts), INTERVAL '10' SECOND));
"""


def table(*rows: tuple[str | None, int, float]) -> pl.DataFrame:
    columns = {
        "k": [r[0] for r in rows],
        "v": [r[1] for r in rows],
        "ts": [START + timedelta(seconds=r[2]) for r in rows],
    }
    return pl.DataFrame(columns, schema={"k": pl.String, "v": pl.Int32, "ts": pl.Datetime("ms")})


def shown(sql: str, left: pl.DataFrame, right: pl.DataFrame) -> list[tuple[Any, ...]]:
    found = [drive(TABLES + sql, {"l": left, "r": right}, cut, snapshots=cut == 2)[0] for cut in (1, 2, 3, 1000)]
    assert all(each == found[0] for each in found)
    return [tuple(row.values()) for row in found[0]]


# --- as seen on Flink 2.3 -------------------------------------------------------------------------------------------

PAIRS = {(1, 10), (4, 13), (6, 15)}
#: a late row and one without a key among them
LEFT_ALONE = {(5, None), (2, None), (3, None), (7, None), (8, None)}
RIGHT_ALONE = {(None, 11), (None, 12), (None, 14), (None, 16)}


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        ("INNER", PAIRS),
        ("LEFT", PAIRS | LEFT_ALONE),
        ("RIGHT", PAIRS | RIGHT_ALONE),
        ("FULL", PAIRS | LEFT_ALONE | RIGHT_ALONE),
    ],
)
def test_interval_joins_give_the_rows_that_flink_gives(kind: str, want: set[tuple[Any, ...]]) -> None:
    left = table(
        ("a", 1, 10), ("b", 2, 11), (None, 3, 12), ("a", 4, 20),
        ("a", 5, 12), ("a", 6, 30), ("z", 7, 14.5), ("a", 8, 40),
    )  # fmt: skip
    right = table(
        ("a", 10, 10.5), ("c", 11, 11), (None, 12, 12), ("a", 13, 19.5), ("a", 14, 3), ("a", 15, 31), ("y", 16, 40)
    )  # fmt: skip
    sql = f"""SELECT l.v, r.v AS w FROM l {kind} JOIN r
      ON l.k = r.k AND l.ts BETWEEN r.ts - INTERVAL '1' SECOND AND r.ts + INTERVAL '1' SECOND"""
    rows = shown(sql, left, right)
    assert len(rows) == len(want)
    assert set(rows) == want


WINDOW_PAIRS = {(1, 10), (5, 10), (6, 50)}
ON = "l.k = r.k AND l.window_start = r.window_start AND l.window_end = r.window_end"


@pytest.mark.parametrize(
    ("query", "want"),
    [
        (f"SELECT l.v, r.v AS w FROM wl l JOIN wr r ON {ON} AND r.v <> 30", WINDOW_PAIRS),
        (
            f"SELECT l.v, r.v AS w FROM wl l LEFT JOIN wr r ON {ON} AND r.v <> 30",
            WINDOW_PAIRS | {(2, None), (3, None), (4, None)},
        ),
        (
            f"SELECT l.v, r.v AS w FROM wl l RIGHT JOIN wr r ON {ON} AND r.v <> 30",
            WINDOW_PAIRS | {(None, 20), (None, 30), (None, 40)},
        ),
        (
            f"SELECT l.v, r.v AS w FROM wl l FULL JOIN wr r ON {ON} AND r.v <> 30",
            WINDOW_PAIRS | {(2, None), (3, None), (4, None), (None, 20), (None, 30), (None, 40)},
        ),
        (f"SELECT l.v FROM wl l WHERE EXISTS (SELECT * FROM wr r WHERE {ON} AND r.v <> 30)", {(1,), (5,), (6,)}),
        (f"SELECT l.v FROM wl l WHERE NOT EXISTS (SELECT * FROM wr r WHERE {ON} AND r.v <> 30)", {(2,), (3,), (4,)}),
        (f"SELECT l.v FROM wl l WHERE EXISTS (SELECT * FROM wr r WHERE {ON} AND r.v > l.v + 43)", {(6,)}),
    ],
)
def test_window_joins_give_the_rows_that_flink_gives(query: str, want: set[tuple[Any, ...]]) -> None:
    left = table(("a", 1, 1), ("b", 2, 9), (None, 3, 3), ("a", 4, 11), ("a", 5, 8), ("a", 6, 25))
    right = table(("a", 10, 5), (None, 40, 3), ("c", 20, 11), ("a", 30, 19), ("a", 50, 26))
    rows = shown(query, left, right)
    assert len(rows) == len(want)
    assert set(rows) == want


# --- interval joins -------------------------------------------------------------------------------------------------


def interval(kind: str, lower: int, upper: int, *, residual: bool) -> IntervalJoin:
    return IntervalJoin(
        scan("l", LEFT), scan("r", RIGHT), (Column("k", STRING),), (Column("k0", STRING),), "ts", "ts0",
        lower, upper, SMALLER if residual else None, LEFT + RIGHT, kind,
    )  # fmt: skip


def ms(value: Any) -> int | None:
    return None if value is None else round((value - datetime(1970, 1, 1)).total_seconds() * 1000)


def test_a_row_without_partner_comes_out_when_the_watermark_passes_its_last_chance() -> None:
    node = interval("LEFT", -10, 5, residual=False)
    events = [
        Event(0, ("a", 1, 100), mark=100),
        Event(1, None, mark=110),  # a right row of time 110 may still come
        Event(1, ("b", 1, 111), mark=111),
        Event(0, ("a", 2, 100), mark=111),  # late: at once
        Event(0, (None, 3, 105), mark=115),
        Event(1, None, mark=116),
    ]
    fed = every_cut(IntervalJoinOperator, node, (LEFT, RIGHT), events)
    assert [(row[2], seq) for row, seq in zip(fed.rows, fed.seqs, strict=True)] == [(1, 2), (2, 3), (3, 5)]
    assert all(row[4:] == (None, None, None) for row in fed.rows)
    assert fed.late == []
    assert fed.end == 116 - 10


def test_only_rows_of_the_side_that_is_not_outer_can_be_late() -> None:
    node = interval("LEFT", 0, 0, residual=False)
    events = [Event(0, ("a", 1, 5), mark=100), Event(1, ("a", 1, 5)), Event(0, ("a", 2, 6)), Event(1, (None, 1, 7))]
    assert every_cut(IntervalJoinOperator, node, (LEFT, RIGHT), events).late == [5, 7]


def reference(node: IntervalJoin, events: list[Event]) -> tuple[list[tuple[Any, ...]], list[int]]:
    """Row by row: output rows and the events that made them."""
    outer = (node.kind in ("LEFT", "FULL"), node.kind in ("RIGHT", "FULL"))
    reach = (-node.lower, node.upper)
    kept: tuple[list[list[Any]], list[list[Any]]] = ([], [])  # [row, matched, number]
    mark, out, seqs = -(10**18), [], []

    def emit(left: Any, right: Any, seq: int) -> None:
        out.append(("+I", *(left or (None,) * 3), *(right or (None,) * 3)))
        seqs.append(seq)

    for seq, event in enumerate(events):
        if event.row is not None:
            side, row = event.side, event.row
            mine = [row, False, seq]
            for other in kept[1 - side]:
                one, two = (row, other[0]) if side == 0 else (other[0], row)
                if other[0][2] + reach[1 - side] < mark or row[0] is None or row[0] != other[0][0]:
                    continue
                if not two[2] + node.lower <= one[2] <= two[2] + node.upper:
                    continue
                if node.residual is not None and (None in (one[1], two[1]) or not one[1] < two[1]):
                    continue
                emit(one, two, seq)
                mine[1] = other[1] = True
            kept[side].append(mine)
        mark = max(mark, event.mark if event.mark is not None else mark)
        gone = sorted(
            (one[0][2] + reach[side], side, one[2], one)
            for side in (0, 1)
            for one in kept[side]
            if one[0][2] + reach[side] < mark
        )
        for _, side, _, one in gone:
            kept[side].remove(one)
            if outer[side] and not one[1]:
                emit(one[0] if side == 0 else None, one[0] if side == 1 else None, seq)
    return out, seqs


@st.composite
def timed(draw: st.DrawFn) -> list[Event]:
    """Rows of both sides with a watermark that moves on beside them, so that some are late."""
    events, now, mark = [], 1000, 900
    for _ in range(draw(st.integers(0, 22))):
        now += draw(st.sampled_from([0, 0, 1, 2, 5, 30]))
        mark = max(mark, now - draw(st.sampled_from([0, 2, 5, 20])))
        row = (
            draw(st.sampled_from(["a", "b", None])),
            draw(st.sampled_from([0, 1, 2, None])),
            now - draw(st.integers(0, 12)),
        )
        present = draw(st.sampled_from([True, True, True, False]))
        events.append(Event(draw(st.integers(0, 1)), row if present else None, mark=mark))
    return [*events, Event(0, None, mark=2**60)]


@pytest.mark.parametrize("kind", ["INNER", "LEFT", "RIGHT", "FULL"])
@settings(max_examples=30, deadline=None)
@given(
    events=timed(),
    cut=st.integers(1, 9),
    bounds=st.sampled_from([(0, 0), (-5, 3), (2, 6), (-8, -1)]),
    residual=st.booleans(),
)
def test_law_1_outer_interval_joins_equal_the_reference_for_every_cut(
    kind: str, events: list[Event], cut: int, bounds: tuple[int, int], residual: bool
) -> None:
    node = interval(kind, *bounds, residual=residual)
    want, seqs = reference(node, events)
    for size, snapshots in ((10_000, False), (cut, True)):
        fed = feed(IntervalJoinOperator, node, (LEFT, RIGHT), events, size, snapshots=snapshots)
        assert [(*r[:3], ms(r[3]), *r[4:6], ms(r[6])) for r in fed.rows] == want
        assert fed.seqs == seqs


# --- window joins ---------------------------------------------------------------------------------------------------

WL = (*LEFT, Field("ws", TIMESTAMP), Field("we", TIMESTAMP), Field("wt", TIMESTAMP, time_attribute=True))
WR = (*RIGHT, Field("ws0", TIMESTAMP), Field("we0", TIMESTAMP), Field("wt0", TIMESTAMP, time_attribute=True))


def window(kind: str, *, residual: bool) -> WindowJoin:
    half = kind in ("SEMI", "ANTI")
    return WindowJoin(
        scan("l", WL), scan("r", WR), (Column("k", STRING),), (Column("k0", STRING),), ("ws", "we", "wt"),
        ("ws0", "we0", "wt0"), SMALLER if residual else None, WL if half else WL + WR, kind, WL + WR,
    )  # fmt: skip


def window_reference(node: WindowJoin, events: list[Event]) -> list[tuple[Any, ...]]:
    """(left v, left time, right v, right time) per output row, in no order."""
    sides: tuple[list[Any], list[Any]] = ([], [])
    mark = -(10**18)
    for event in events:
        if event.row is not None and event.row[2] // 10 * 10 + 9 > mark:
            sides[event.side].append(event.row)
        mark = max(mark, event.mark if event.mark is not None else mark)

    def fits(one: Any, two: Any) -> bool:
        if one[0] is None or one[0] != two[0] or one[2] // 10 != two[2] // 10:
            return False
        return node.residual is None or (None not in (one[1], two[1]) and one[1] < two[1])

    out: list[tuple[Any, ...]] = []
    for one in sides[0]:
        partners = [two for two in sides[1] if fits(one, two)]
        if node.kind in ("SEMI", "ANTI"):
            out += [one[1:]] if bool(partners) is (node.kind == "SEMI") else []
        else:
            out += [(*one[1:], *two[1:]) for two in partners]
            out += [(*one[1:], None, None)] if not partners and node.kind in ("LEFT", "FULL") else []
    if node.kind in ("RIGHT", "FULL"):
        out += [(None, None, *two[1:]) for two in sides[1] if not any(fits(one, two) for one in sides[0])]
    return out


@pytest.mark.parametrize("kind", ["INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI"])
@settings(max_examples=20, deadline=None)
@given(events=timed(), cut=st.integers(1, 9), residual=st.booleans())
def test_law_1_window_joins_equal_the_reference_for_every_cut(
    kind: str, events: list[Event], cut: int, residual: bool
) -> None:
    node = window(kind, residual=residual)
    half = kind in ("SEMI", "ANTI")
    whole = [Event(e.side, None if e.row is None else (*e.row, *windowed(e.row[2])), mark=e.mark) for e in events]
    fed = feed(WindowJoinOperator, node, (WL, WR), whole)
    found = [(r[2], ms(r[3])) if half else (r[2], ms(r[3]), r[8], ms(r[9])) for r in fed.rows]
    assert sorted(map(str, found)) == sorted(map(str, window_reference(node, events)))
    pieces = feed(WindowJoinOperator, node, (WL, WR), whole, cut, snapshots=True)
    assert (pieces.rows, pieces.seqs, sorted(pieces.late)) == (fed.rows, fed.seqs, sorted(fed.late))


def windowed(time: int) -> tuple[int, int, int]:
    start = time // 10 * 10
    return start, start + 10, start + 9


# --- state ----------------------------------------------------------------------------------------------------------


def test_both_say_how_much_they_hold_and_which_keys_hold_most() -> None:
    rows = [(key, i, 100 + i % 5) for key, n in (("many", 40), ("few", 3), (None, 9)) for i in range(n)]
    joins: list[tuple[Any, Any, Any]] = [
        (IntervalJoinOperator, interval("LEFT", 0, 9, residual=False), (LEFT, RIGHT)),
        (WindowJoinOperator, window("LEFT", residual=False), (WL, WR)),
    ]
    for make, node, schemas in joins:
        events = [Event(0, row if schemas[0] is LEFT else (*row, *windowed(row[2]))) for row in rows]
        operator = feed(make, node, schemas, events).operator
        largest = operator.largest(5)
        assert largest[0][0] == "many"
        assert dict(largest)["few"] < largest[0][1] <= operator.held()
        gone = feed(make, node, schemas, [*events, Event(0, None, mark=10**6)]).operator
        assert gone.largest(5) == []
