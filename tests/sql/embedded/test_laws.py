"""Windows, sessions and joins equal the row-by-row reference, however the input is cut (laws 1, 3, 4, 10)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sql.embedded import reference
from tests.sql.embedded.drive import drive

EPOCH = datetime(2026, 1, 1)
BASE = int(EPOCH.replace(tzinfo=UTC).timestamp() * 1000)
DELAY = 2000
TABLES = """
CREATE TABLE p (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE q (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
"""
COLUMNS = """k, window_start, window_end, COUNT(*) AS n, COUNT(v) AS nv,
  SUM(v) AS s, AVG(v) AS a, MIN(v) AS lo, MAX(v) AS hi, ARRAY_AGG(v) AS vs,
  FIRST_VALUE(v) AS f, LAST_VALUE(v) AS l, COUNT(DISTINCT v) AS d, SUM(v) FILTER (WHERE v > 1) AS big"""


@st.composite
def rows(draw: st.DrawFn) -> list[reference.Row]:
    """A stream that moves on, with disorder, late rows, quiet gaps and ties."""
    found, now = [], 0
    for _ in range(draw(st.integers(0, 24))):
        now += draw(st.sampled_from([0, 0, 100, 250, 1000, 1000, 9000]))
        back = draw(st.sampled_from([0, 0, 0, 500, 1999, 2000, 2001, 4000, 7000]))
        value = draw(st.sampled_from([None, 0.1, 0.2, 0.7, 1.5, 1e16, -3.0]))
        found.append((draw(st.sampled_from(["a", "b", None])), value, BASE + now - back))
    return found


def frame(given_rows: list[reference.Row]) -> pl.DataFrame:
    times = [EPOCH + timedelta(milliseconds=t - BASE) for _, _, t in given_rows]
    columns = {"k": [r[0] for r in given_rows], "v": [r[1] for r in given_rows], "ts": times}
    return pl.DataFrame(columns, schema={"k": pl.String, "v": pl.Float64, "ts": pl.Datetime("ms")})


def expected_row(window: reference.Window, *, fold_by_arrival: bool) -> dict[str, object]:
    key, start, end, members = window
    in_time = sorted(members, key=lambda r: r[2])
    values = [v for _, v, _ in (members if fold_by_arrival else in_time) if v is not None]
    arrived = [v for _, v, _ in members if v is not None]
    total = None
    for value in values:
        total = value if total is None else total + value
    big = [v for v in values if v > 1]
    return {
        "k": key,
        "window_start": EPOCH + timedelta(milliseconds=start - BASE),
        "window_end": EPOCH + timedelta(milliseconds=end - BASE),
        "n": len(members),
        "nv": len(values),
        "s": None if total is None else pytest.approx(total, rel=1e-9, abs=8.0),
        "a": None if total is None else pytest.approx(total / len(values), rel=1e-9, abs=8.0),
        "lo": min(values, default=None),
        "hi": max(values, default=None),
        "vs": [v for _, v, _ in in_time],
        "f": arrived[0] if arrived else None,
        "l": arrived[-1] if arrived else None,
        "d": len(set(values)),
        "big": pytest.approx(sum(big), rel=1e-9, abs=8.0) if big else None,
    }


def tumble(time: int) -> list[tuple[int, int]]:
    start = time // 4000 * 4000
    return [(start, start + 4000)]


def hop(time: int) -> list[tuple[int, int]]:
    last = time // 1000 * 1000
    return [(s, s + 5000) for s in range(last - 4000, last + 1, 1000)]


def sparse_hop(time: int) -> list[tuple[int, int]]:
    start = time // 5000 * 5000
    return [(start, start + 2000)] if time < start + 2000 else []


def long_hop(time: int) -> list[tuple[int, int]]:
    last = time // 250 * 250
    return [(s, s + 8000) for s in range(last - 7750, last + 1, 250)]


def cumulate(time: int) -> list[tuple[int, int]]:
    start = time // 6000 * 6000
    return [(start, end) for end in range(start + 1000, start + 6001, 1000) if end > time]


WINDOWS = {
    "TUMBLE(TABLE p, DESCRIPTOR(ts), INTERVAL '4' SECOND)": tumble,
    "HOP(TABLE p, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '5' SECOND)": hop,
    "HOP(TABLE p, DESCRIPTOR(ts), INTERVAL '0.250' SECOND(1, 3), INTERVAL '8' SECOND)": long_hop,
    "CUMULATE(TABLE p, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '6' SECOND)": cumulate,
}


@pytest.mark.parametrize("window", WINDOWS)
@settings(max_examples=25, deadline=None)
@given(given_rows=rows(), cut=st.integers(1, 20))
def test_law_1_windows_equal_the_reference_for_every_cut(
    window: str, given_rows: list[reference.Row], cut: int
) -> None:
    sql = f"{TABLES} SELECT {COLUMNS} FROM TABLE({window}) GROUP BY k, window_start, window_end"
    done, late, _ = reference.aligned(given_rows, DELAY, WINDOWS[window])
    whole, late_whole = drive(sql, {"p": frame(given_rows)}, 10_000)
    assert whole == [expected_row(w, fold_by_arrival=True) for w in done]
    assert sorted(t for part in late_whole for t in part.time.tolist()) == sorted(r[2] for r in late)
    pieces, late_pieces = drive(sql, {"p": frame(given_rows)}, cut, snapshots=True)
    assert pieces == whole
    assert [t for part in late_pieces for t in part.time.tolist()] == [
        t for part in late_whole for t in part.time.tolist()
    ]


@settings(max_examples=60, deadline=None)
@given(given_rows=rows(), cut=st.integers(1, 20))
def test_law_1_sessions_equal_the_reference_for_every_cut(given_rows: list[reference.Row], cut: int) -> None:
    window = "SESSION(TABLE p PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' SECOND)"
    sql = f"{TABLES} SELECT {COLUMNS} FROM TABLE({window}) GROUP BY k, window_start, window_end"
    done, late = reference.sessions(given_rows, DELAY, 1000)
    order = ("window_end", "k", "window_start")
    want = [expected_row(w, fold_by_arrival=False) for w in done]
    whole, late_whole = drive(sql, {"p": frame(given_rows)}, 10_000)
    by_window = [sorted(found, key=lambda r: tuple(str(r[c]) for c in order)) for found in (whole, want)]
    assert by_window[0] == by_window[1]
    assert sorted(t for part in late_whole for t in part.time.tolist()) == sorted(r[2] for r in late)
    pieces, _ = drive(sql, {"p": frame(given_rows)}, cut, snapshots=True)
    assert sorted(map(str, pieces)) == sorted(map(str, whole))


@pytest.mark.parametrize(("lower", "upper"), [(0, 0), (-1000, 500), (250, 3000), (-4000, -1000)])
@settings(max_examples=25, deadline=None)
@given(left=rows(), right=rows(), cut=st.integers(1, 20))
def test_law_1_interval_joins_equal_the_reference_for_every_cut(
    left: list[reference.Row], right: list[reference.Row], cut: int, lower: int, upper: int
) -> None:
    low, high = (f"q.ts + INTERVAL '{ms / 1000:.3f}' SECOND(1, 3)" for ms in (lower, upper))
    bound = f"p.ts BETWEEN {low} AND {high}"
    sql = f"{TABLES} SELECT p.k, p.v, p.ts, q.v AS w, q.ts AS ts2 FROM p JOIN q ON p.k = q.k AND {bound}"
    pairs, late = reference.interval_join(left, right, DELAY, lower, upper)
    inputs = {"p": frame(left), "q": frame(right)}
    whole, late_whole = drive(sql, inputs, 10_000)
    found = [(r["k"], r["v"], r["ts"], r["w"], r["ts2"]) for r in whole]
    want = [(a[0], a[1], at(a), b[1], at(b)) for a, b in pairs]
    assert sorted(map(str, found)) == sorted(map(str, want))
    assert sum(len(part.time) for part in late_whole) == late
    pieces, _ = drive(sql, inputs, cut, snapshots=True)
    assert pieces == whole


def at(row: reference.Row) -> datetime:
    return EPOCH + timedelta(milliseconds=row[2] - BASE)
