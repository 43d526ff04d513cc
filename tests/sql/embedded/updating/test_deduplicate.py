"""Deduplication: changes as Flink 2.3 gives them, and equal to a literal reference for every cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.clock import MAX_TIME
from qanat.model.types import BIGINT, STRING, TIMESTAMP
from qanat.sql.embedded.updating.deduplicate import DeduplicateOperator
from qanat.sql.embedded.updating.key_table import KeyTable
from qanat.sql.plan import Deduplicate, Field
from tests.sql.embedded.feeding import UB, Event, Fed, every_cut, feed, scan

ROWS = (Field("k", STRING), Field("v", BIGINT), Field("ts", TIMESTAMP, time_attribute=True))
TIMELESS = ROWS[:2]
DELAY = 2


def node(keep: Any, *, by_time: bool = True, ttl: int | None = None) -> Deduplicate:
    schema = ROWS if by_time else TIMELESS
    return Deduplicate(scan("t", schema), ("k",), "ts" if by_time else None, keep, schema, ttl)


def clocked(*rows: tuple[str | None, int, int]) -> list[Event]:
    """Rows of a source whose watermark is 2 behind; then the end of it."""
    return [*(Event(0, row, mark=row[2] - DELAY) for row in rows), Event(0, None, mark=MAX_TIME)]


def shown(fed: Fed) -> list[str]:
    """Without the time column."""
    return [" ".join("NULL" if one is None else str(one) for one in row[:3]) for row in fed.rows]


# --- as seen on Flink 2.3 --------------------------------------------------------------------------------------------

SEEN = clocked(
    ("a", 1, 5), ("a", 2, 5), ("a", 3, 3), ("b", 4, 6), ("a", 5, 9), ("a", 6, 2), ("b", 7, 6), ("a", 7, 1),
    ("c", 8, 20), ("c", 9, 18), ("d", 10, 19), ("d", 11, 18), ("d", 12, 18),
)  # fmt: skip


def test_the_last_row_by_time_gives_way_to_every_row_that_is_not_older() -> None:
    fed = every_cut(DeduplicateOperator, node("LAST"), (ROWS,), SEEN)
    assert shown(fed) == [
        "+I a 1", "-U a 1", "+U a 2", "+I b 4", "-U a 2", "+U a 5", "-U b 4", "+U b 7", "+I c 8", "+I d 10",
    ]  # fmt: skip
    assert fed.late == []


def test_the_first_row_by_time_waits_until_none_can_come_before_it() -> None:
    fed = every_cut(DeduplicateOperator, node("FIRST"), (ROWS,), SEEN)
    assert shown(fed) == ["+I a 3", "+I b 4", "+I c 9", "+I d 11"]
    assert fed.seqs == [3, 4, 13, 13]
    assert fed.late == [2, 6, 1]


def test_the_first_row_by_arrival_is_final() -> None:
    events = [Event(0, event.row[:2]) for event in SEEN if event.row]
    fed = every_cut(DeduplicateOperator, node("FIRST", by_time=False), (TIMELESS,), events)
    assert shown(fed) == ["+I a 1", "+I b 4", "+I c 8", "+I d 10"]


def test_the_last_row_by_arrival_changes_only_where_it_differs() -> None:
    events = [Event(0, row) for row in (("a", 1), ("a", 1), ("a", 2), (None, 2), (None, 2), (None, 3), ("a", 1))]
    fed = every_cut(DeduplicateOperator, node("LAST", by_time=False), (TIMELESS,), events)
    assert shown(fed) == [
        "+I a 1", "-U a 1", "+U a 2", "+I NULL 2", "-U NULL 2", "+U NULL 3", "-U a 2", "+U a 1",
    ]  # fmt: skip


def test_a_row_at_the_watermark_is_not_late_and_waits_for_its_next_step() -> None:
    events = [
        Event(0, ("a", 1, 10), mark=10),
        Event(0, ("b", 2, 10)),
        Event(0, ("b", 3, 9)),
        Event(0, ("c", 4, 12), mark=12),
    ]
    fed = every_cut(DeduplicateOperator, node("FIRST"), (ROWS,), events)
    assert (shown(fed), fed.seqs, fed.late) == (["+I a 1", "+I b 2", "+I c 4"], [0, 3, 3], [9])


@pytest.mark.parametrize("by_time", [True, False])
def test_an_untouched_key_is_forgotten_after_its_ttl(by_time: bool) -> None:
    rows = [("a", 1, 0), ("a", 2, 9), ("a", 3, 19), ("a", 4, 28)]
    width = 3 if by_time else 2
    events = [Event(0, (k, v, 5)[:width], at=1000 + at) for k, v, at in rows]
    schema = ROWS if by_time else TIMELESS
    fed = every_cut(DeduplicateOperator, node("LAST", by_time=by_time, ttl=10), (schema,), events)
    assert shown(fed) == ["+I a 1", "-U a 1", "+U a 2", "+I a 3", "-U a 3", "+U a 4"]


def test_a_first_row_is_remembered_for_its_ttl_from_when_it_was_given() -> None:
    events = [Event(0, ("a", number), at=1000 + at) for number, at in enumerate((0, 9, 10, 19, 20))]
    fed = every_cut(DeduplicateOperator, node("FIRST", by_time=False, ttl=10), (TIMELESS,), events)
    assert shown(fed) == ["+I a 0", "+I a 2", "+I a 4"]


def test_nothing_is_forgotten_where_the_arrival_is_unknown() -> None:
    events = [Event(0, ("a", number)) for number in range(3)]
    fed = every_cut(DeduplicateOperator, node("FIRST", by_time=False, ttl=1), (TIMELESS,), events)
    assert shown(fed) == ["+I a 0"]


def test_a_changelog_is_refused() -> None:
    with pytest.raises(TypeError, match="inserts only"):
        feed(DeduplicateOperator, node("LAST"), (ROWS,), [Event(0, ("a", 1, 1), UB)])


def test_state_shrinks_when_keys_are_forgotten() -> None:
    events = [Event(0, (str(number), number), at=1000 + number) for number in range(40_000)]
    for keep in ("FIRST", "LAST"):
        fed = feed(DeduplicateOperator, node(keep, by_time=False, ttl=100), (TIMELESS,), events, cut=2000)
        assert len(fed.rows) == 40_000
        assert len(fed.operator._policy.keys) < 20_000
        assert fed.operator.held() > 0
        assert len(fed.operator.largest(3)) == 3


# --- against a literal reference -------------------------------------------------------------------------------------


def last(events: list[Event], ttl: int | None, *, by_time: bool) -> list[tuple[Any, ...]]:
    kept: dict[Any, tuple[Any, ...]] = {}
    touched: dict[Any, int] = {}
    out: list[tuple[Any, ...]] = []
    for event in events:
        if event.row is None:
            continue
        key = event.row[0]
        if ttl is not None and key in kept and 0 < touched[key] <= event.at - ttl:
            del kept[key]
        if key not in kept:
            out.append(("+I", *event.row))
        elif event.row[2] < kept[key][2] if by_time else ttl is None and event.row == kept[key]:
            continue
        else:
            out += [("-U", *kept[key]), ("+U", *event.row)]
        kept[key], touched[key] = event.row, event.at
    return out


def first_by_time(events: list[Event], ttl: int | None) -> tuple[list[tuple[Any, ...]], list[int]]:
    waiting: dict[Any, tuple[tuple[Any, ...], int, int]] = {}
    given_at: dict[Any, int] = {}
    out, late, mark = [], [], -(10**18)
    for number, event in enumerate(events):
        if event.row is not None:
            key, time = event.row[0], event.row[2]
            if ttl is not None and 0 < given_at.get(key, 0) <= event.at - ttl:
                del given_at[key]
            if time < mark:
                late.append(time)
            elif key not in given_at and (key not in waiting or time < waiting[key][0][2]):
                waiting[key] = (event.row, number, mark)
        now = max(mark, event.mark if event.mark is not None else mark)
        if now > mark:
            due = sorted((row[2], order, key, row) for key, (row, order, _) in waiting.items() if row[2] <= now)
            for _, _, key, row in due:
                out.append(("+I", *row))
                given_at[key] = event.at
                del waiting[key]
        mark = now
    return out, late


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    events, now, at = [], 0, 1000
    for number in range(draw(st.integers(0, 16))):
        now += draw(st.sampled_from([0, 0, 1, 1, 4]))
        at += draw(st.sampled_from([0, 0, 1, 5, 11]))
        time = now - draw(st.sampled_from([0, 0, 1, 2, 3, 5]))
        mark = draw(st.sampled_from([time - DELAY, time, None]))
        row = (draw(st.sampled_from(["a", "b", "c", None])), draw(st.sampled_from([number, 7])), time)
        events.append(Event(0, draw(st.sampled_from([row, row, row, None])), mark=mark, at=at))
    return [*events, Event(0, None, mark=MAX_TIME, at=at)]


@settings(max_examples=20, deadline=None)
@given(events=streams(), ttl=st.sampled_from([None, 3, 10]))
def test_law_1_keeping_the_last_equals_the_reference(events: list[Event], ttl: int | None) -> None:
    fed = every_cut(DeduplicateOperator, node("LAST", ttl=ttl), (ROWS,), events)
    want = last(events, ttl, by_time=True)
    assert [row[:3] for row in fed.rows] == [row[:3] for row in want]
    timeless = [Event(0, event.row and event.row[:2], at=event.at) for event in events]
    fed = every_cut(DeduplicateOperator, node("LAST", by_time=False, ttl=ttl), (TIMELESS,), timeless)
    assert fed.rows == last(timeless, ttl, by_time=False)


@settings(max_examples=20, deadline=None)
@given(events=streams(), ttl=st.sampled_from([None, 3, 10]))
def test_law_1_keeping_the_first_by_time_equals_the_reference(events: list[Event], ttl: int | None) -> None:
    fed = every_cut(DeduplicateOperator, node("FIRST", ttl=ttl), (ROWS,), events)
    rows, late = first_by_time(events, ttl)
    assert [row[:3] for row in fed.rows] == [row[:3] for row in rows]
    assert fed.late == late


@settings(max_examples=15, deadline=None)
@given(events=streams(), ttl=st.sampled_from([None, 3, 10]))
def test_law_1_keeping_the_first_by_arrival_equals_the_reference(events: list[Event], ttl: int | None) -> None:
    timeless = [Event(0, event.row and event.row[:2], at=event.at) for event in events]
    fed = every_cut(DeduplicateOperator, node("FIRST", by_time=False, ttl=ttl), (TIMELESS,), timeless)
    given_at: dict[Any, int] = {}
    want = []
    for event in timeless:
        if event.row is not None and (
            event.row[0] not in given_at or (ttl is not None and given_at[event.row[0]] <= event.at - ttl)
        ):
            given_at[event.row[0]] = event.at
            want.append(("+I", *event.row))
    assert fed.rows == want


# --- the table of keys -----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    batches=st.lists(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([None, "x", "y"])), max_size=30)),
    hashes=st.sampled_from([2**64 - 1, 499]),
)
def test_keys_are_numbered_in_order_of_appearance_even_where_hashes_collide(
    batches: list[list[tuple[int, str | None]]], hashes: int
) -> None:
    class Colliding(KeyTable):
        def _hash(self, keys: pl.DataFrame) -> Any:
            return super()._hash(keys) % np.uint64(hashes)

    schema = {"a": pl.Int64, "b": pl.String}
    table, known = Colliding(pl.DataFrame(schema=schema)), {}  # type: ignore[var-annotated]
    for rows in batches:
        found = table.encode(pl.DataFrame(rows, schema=schema, orient="row"))
        assert found.tolist() == [known.setdefault(row, len(known)) for row in rows]
        assert table.rows(found).rows() == rows
    used = np.arange(len(table)) % 2 == 0
    again = Colliding(pl.DataFrame(schema=schema))
    renumber = table.keep(used)
    again.restore(table.snapshot())
    rows = [row for row, number in known.items() if used[number]]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    assert again.encode(frame).tolist() == table.encode(frame).tolist() == renumber[used].tolist()
