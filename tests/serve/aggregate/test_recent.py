"""Rows in memory against a plain oracle and against DuckDB: whatever comes in whichever order and pieces."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serve.aggregate.conftest import MEASURE, NOW, SCHEMA, Row, batch, chunk

from qanat.serve.aggregate import blocks
from qanat.serve.aggregate.buckets import edges
from qanat.serve.aggregate.question import Question, parse
from qanat.serve.aggregate.recent import RecentRows
from qanat.serve.aggregate.sql import query_of, tally_of
from qanat.serve.aggregate.tally import Tally

HORIZON = 3_600_000
MEMORY = 64 << 20
EVERYTHING = "count,min,max,avg,sum,first,last,stddev,p0,p50,p99.5,p100"

#: A group, the begin of a window: what was found there, by function.
Lines = dict[tuple[tuple[object, ...], int], dict[str, float | None]]

sites = st.sampled_from(["a", "b", "c", "", None])
values = st.one_of(
    st.none(),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e9, 1e9 + 1]),
    st.floats(-1e6, 1e6, width=32),
    st.integers(-5, 5).map(float),
)
times = st.one_of(st.none(), st.integers(NOW - HORIZON - 1000, NOW + 1000), st.integers(NOW - 5000, NOW))
row = st.tuples(sites, st.sampled_from([1, 2, None]), st.sampled_from(["s1", "s2", "s3"]), times, values)
texts = st.builds(
    lambda chosen, by, window, start, more: "&".join([chosen, by, window, start, more]),
    st.sampled_from(["", "site=a", "site=a&site=b", "field=2", "site=a&sensor=s1", "sensor=none"]),
    st.sampled_from(["", "by=site", "by=sensor,field", "by=field,site,sensor"]),
    st.sampled_from(["", "window=1s", "window=15min", "window=7min"]),
    st.sampled_from(["", "from=-1h", "from=-5s", "from=-2s&to=-1s", "from=-40min&to=-5min"]),
    st.sampled_from(["", "align=from", "align=clock"]),
)


def taken(rows: Sequence[Row], cuts: Sequence[int] = ()) -> RecentRows:
    """Rows in memory that came in pieces; which end where `cuts` say."""
    recent = RecentRows(MEASURE, HORIZON, MEMORY, NOW - HORIZON, {0: 0, 1: 0})
    ends = sorted({min(cut, len(rows)) for cut in cuts} | {0, len(rows)})
    for begin, end in pairwise(ends):
        recent.take([chunk(rows[begin:end], begin)], NOW)
    return recent


def span_of(text: str) -> tuple[Question, list[int], int, int]:
    question = parse(f"{text}&functions={EVERYTHING}", MEASURE)
    start, end = question.start.at(NOW), question.end.at(NOW)
    return question, edges(question, start, end, 10_000), start, end


def lines_of(question: Question, tally: Tally, borders: Sequence[int]) -> Lines:
    found: Lines = {}
    for place, (group, bucket) in enumerate(zip(tally.group.tolist(), tally.bucket.tolist(), strict=True)):
        line = {name: float(column[place]) for name, column in tally.found.items()}
        line["count"] = int(tally.count[place])
        found[tally.groups[group], borders[bucket]] = line
    return found


def oracle(rows: Sequence[Row], question: Question, borders: Sequence[int], start: int, end: int) -> tuple[Lines, int]:
    """Loops over rows and Python's own numbers; the lines, and how many rows were left out."""
    cells: dict[tuple[tuple[object, ...], int], list[tuple[int, float]]] = {}
    left_out = 0
    for site, field, sensor, ts, v in rows:
        own = {"site": site, "field": field, "sensor": sensor}
        chosen = all(own[name] in wanted for name, wanted in question.chosen)
        if ts is None or not start <= ts < end or not chosen:
            continue
        if v is None or not math.isfinite(v):
            left_out += 1
            continue
        begin = max(border for border in borders if border <= ts)
        cells.setdefault((tuple(own[name] for name in question.by), begin), []).append((ts, v))
    return {cell: _line(found) for cell, found in cells.items()}, left_out


def _line(found: list[tuple[int, float]]) -> dict[str, float | None]:
    ordered = sorted(v for _, v in found)
    return {
        "count": len(found),
        "min": ordered[0],
        "max": ordered[-1],
        "sum": math.fsum(ordered),
        "avg": math.fsum(ordered) / len(ordered),
        "first": min(found)[1],
        "last": max(found)[1],
        "stddev": statistics.stdev(map(Fraction, ordered)) if len(ordered) > 1 else math.nan,
        "p0": ordered[0],
        "p50": _cont(ordered, 0.5),
        "p99.5": _cont(ordered, 0.995),
        "p100": ordered[-1],
    }


def _cont(ordered: list[float], part: float) -> float:
    rank = (len(ordered) - 1) * part
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def assert_same(found: Lines, wanted: Lines) -> None:
    assert found.keys() == wanted.keys()
    for cell, line in wanted.items():
        size = max(abs(line["min"] or 0), abs(line["max"] or 0), 1e-300) * (line["count"] or 0)
        for name, value in line.items():
            assert found[cell][name] == pytest.approx(value, rel=1e-9, abs=1e-12 * size, nan_ok=True), (cell, name)


@given(st.lists(row, max_size=60), st.lists(st.integers(0, 60), max_size=6), texts)
def test_whatever_comes_is_answered_as_a_plain_loop_would(rows: list[Row], cuts: list[int], text: str) -> None:
    question, borders, start, end = span_of(text)
    recent = taken(rows, cuts)
    if start < recent.since:
        assert recent.tally(question, borders, start, end) is None
        return
    tally = recent.tally(question, borders, start, end)
    assert tally is not None
    wanted, left_out = oracle(rows, question, borders, start, end)
    assert_same(lines_of(question, tally, borders), wanted)
    counted = [ts for site, field, sensor, ts, v in rows if _counts((site, field, sensor, ts, v), question, start, end)]
    assert (tally.left_out, tally.newest) == (left_out, max(counted, default=None))
    assert dict(tally.as_of) == {0: len(rows), 1: 0}


def _counts(one: Row, question: Question, start: int, end: int) -> bool:
    return bool(oracle([one], question, [start], start, end)[0])


@given(st.lists(row, max_size=40), texts)
def test_sql_gives_the_same(rows: list[Row], text: str) -> None:
    question, borders, start, end = span_of(text)
    found = by_sql(rows, question, borders, start, end)
    wanted, left_out = oracle(rows, question, borders, start, end)
    assert_same(lines_of(question, found, borders), wanted)
    assert found.left_out == left_out
    recent = taken(rows).tally(question, borders, start, end)
    if recent is not None:
        assert list(found.groups) == list(recent.groups)
        assert found.newest == recent.newest
        assert found.group.tolist() == recent.group.tolist()
        assert found.bucket.tolist() == recent.bucket.tolist()


def by_sql(rows: Sequence[Row], question: Question, borders: Sequence[int], start: int, end: int) -> Tally:
    sql, parameters = query_of(question, MEASURE, borders, start, end)
    connection = duckdb.connect()
    try:
        connection.register("readings", pa.Table.from_batches([batch(rows)], SCHEMA))
        return tally_of(question, connection.sql(sql, params=parameters).to_arrow_table(), borders, {})
    finally:
        connection.close()


def many(count: int, sensors: int, seed: int) -> Iterator[Row]:
    """Mostly in order, a tenth of them late."""
    draw = np.random.default_rng(seed)
    late = np.where(draw.random(count) < 0.1, draw.integers(0, HORIZON // 2, count), 0)
    stamps = np.linspace(NOW - HORIZON // 2, NOW - 1, count).astype(np.int64) - late
    kinds = draw.integers(0, sensors, count)
    found = draw.normal(20, 3, count)
    for number, ts, v in zip(kinds.tolist(), stamps.tolist(), found.tolist(), strict=True):
        yield f"site{number % 7}", number % 3, f"s{number}", ts, v


@pytest.mark.parametrize(
    "text",
    [
        "",
        "by=site&window=15min&from=-1h",
        "site=site3&by=sensor",
        "window=1s&from=-30min&by=field",
        "field=1&window=10s&from=-40min",
        "by=sensor&window=1s&from=-2min",
    ],
)
def test_many_rows_of_many_sensors_by_memory_and_by_sql(text: str) -> None:
    rows = list(many(30_000, 300, 5))
    recent = taken(rows, range(0, 30_000, 700))
    question, borders, start, end = span_of(text)
    found = recent.tally(question, borders, start, end)
    assert found is not None
    assert_same(
        lines_of(question, found, borders), lines_of(question, by_sql(rows, question, borders, start, end), borders)
    )
    assert found.count.sum() > 100


def test_many_runs_stay_few() -> None:
    recent = RecentRows(MEASURE, HORIZON, MEMORY, NOW - HORIZON, {0: 0})
    for number in range(600):
        recent.take([chunk([("a", 1, "s", NOW - 1, float(number))], number)], NOW)
    (block,) = recent._seen.blocks.values()
    assert len(block.runs) <= 10
    assert sum(len(run.keys) for run in block.runs) == 600


def test_memory_is_bounded_and_what_is_left_is_complete() -> None:
    limit = 40_000 * blocks.ROW_BYTES
    recent = RecentRows(MEASURE, HORIZON, limit, NOW - HORIZON, {0: 0})
    rows = sorted(many(90_000, 10, 7), key=lambda one: one[3] or 0)
    for begin in range(0, len(rows), 1000):
        recent.take([chunk(rows[begin : begin + 1000], begin)], NOW)
        assert recent.bytes <= limit
    assert NOW - HORIZON < recent.since < NOW
    kept = [one for one in rows if (one[3] or 0) >= recent.since]
    assert len(kept) > 25_000
    question, borders, _, end = span_of(f"from={recent.since}")
    tally = recent.tally(question, borders, recent.since, end)
    assert tally is not None
    assert tally.count.tolist() == [sum(1 for one in kept if (one[3] or 0) < NOW)]
    assert recent.tally(question, borders, recent.since - 1, end) is None


def test_rows_beyond_the_horizon_go_with_time() -> None:
    recent = taken([("a", 1, "s", NOW - 100, 1.0)])
    recent.expire(NOW + HORIZON - 200_000)
    assert recent.covers(NOW - 100, NOW)
    recent.expire(NOW + 2 * HORIZON)
    assert not recent.covers(NOW - 100, NOW)
    assert recent.bytes < 1000  # the series' number is all that is left


def test_rows_that_are_too_old_take_no_memory() -> None:
    recent = taken([("a", 1, "s", NOW - HORIZON - 1, 1.0), ("a", 1, "s", NOW - 50 * HORIZON, 1.0)])
    assert recent.bytes == 0
    recent = taken([("a", 1, "s", NOW - 50 * HORIZON, 1.0), ("a", 1, "s", NOW - 1, 1.0)])
    assert recent.bytes < 1000
    assert [len(run.keys) for block in recent._seen.blocks.values() for run in block.runs] == [1]


def test_rows_of_a_far_future_are_not_kept_and_not_denied() -> None:
    far = NOW + 10 * 86_400_000
    recent = taken([("a", 1, "s", far, 1.0), ("a", 1, "s", NOW - 1, 2.0)])
    assert recent.covers(NOW - 1000, far)
    assert not recent.covers(NOW - 1000, far + 1)


def test_a_reader_sees_what_was_there_while_more_comes() -> None:
    recent = taken([("a", 1, "s", NOW - 1, 1.0)])
    before = recent._seen
    recent.take([chunk([("a", 1, "s", NOW - 2, 5.0)], 1)], NOW)
    assert [len(block.runs[0].keys) for block in before.blocks.values()] == [1]


def test_columns_that_came_later_are_null_in_older_rows() -> None:
    recent = RecentRows(MEASURE, HORIZON, MEMORY, NOW - HORIZON, {0: 0})
    old = batch([("a", 1, "s", NOW - 2, 1.0)]).select(["site", "ts", "v"])
    recent.take([chunk([("a", 1, "s", NOW - 1, 2.0)], 1), type(chunk([]))("readings", 0, 0, 0, 0, NOW, old)], NOW)
    question, borders, start, end = span_of("by=field")
    tally = recent.tally(question, borders, start, end)
    assert tally is not None
    assert (list(tally.groups), tally.count.tolist()) == ([(None,), (1,)], [1, 1])


def test_very_many_sensors_have_the_same_numbers_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*many(3000, 400, 3), ("x", None, None, NOW - 1, 1.0), (None, 2, "s1", NOW - 1, 1.0)]
    cuts = range(0, len(rows), 300)
    few = taken(rows, cuts)
    monkeypatch.setattr("qanat.serve.aggregate.series._MANY_VALUES", 50)
    many_values = taken(rows, cuts)
    question, borders, start, end = span_of("by=sensor,site,field")
    found = [one.tally(question, borders, start, end) for one in (few, many_values)]
    assert found[0] is not None
    assert found[1] is not None
    assert_same(lines_of(question, found[1], borders), lines_of(question, found[0], borders))
    assert found[0].groups == found[1].groups
    assert found[0].count.sum() == len(rows)
