"""Single operators on inputs small enough to be worked out by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from tests.sql.embedded.drive import drive

START = datetime(2026, 1, 1)
TABLES = """
CREATE TABLE p (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE q (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
"""
TUMBLE = "TABLE(TUMBLE(TABLE {}, DESCRIPTOR(ts), INTERVAL '10' SECOND))"


def table(*rows: tuple[str | None, float | None, float]) -> pl.DataFrame:
    """(key, value, seconds after START) as a table."""
    columns = [[row[i] for row in rows] for i in range(3)]
    times = [START + timedelta(seconds=s) for s in columns[2]]
    schema = {"k": pl.String, "v": pl.Float64, "ts": pl.Datetime("ms")}
    return pl.DataFrame({"k": columns[0], "v": columns[1], "ts": times}, schema=schema)


def second(moment: datetime) -> float:
    return (moment - START).total_seconds()


def every_cut(sql: str, **inputs: pl.DataFrame) -> tuple[list[dict[str, object]], list[float]]:
    """Rows and the event times of late rows: the same for batches of 1, 2, 3 and all."""
    found = []
    for cut in (1, 2, 3, 1000):
        rows, late = drive(TABLES + sql, inputs, cut, snapshots=cut == 2)
        found.append((rows, [t for part in late for t in part.time.tolist()]))
    assert all(each == found[0] for each in found)
    return found[0]


def test_the_watermark_of_a_union_is_the_slowest_of_its_inputs() -> None:
    sql = f"""CREATE VIEW u AS SELECT k, ts FROM p UNION ALL SELECT k, ts FROM q;
    SELECT k, window_start, COUNT(*) AS n FROM {TUMBLE.format("u")} GROUP BY k, window_start, window_end"""
    ahead = table(("a", 1, 1), ("a", 1, 30))
    behind = table(("a", 1, 2), ("a", 1, 12), ("a", 1, 5))  # 5 s is late for q's own clock, which is at 10 s
    rows, late = every_cut(sql, p=ahead, q=behind)
    assert [(second(r["window_start"]), r["n"]) for r in rows] == [(0, 2), (10, 1), (30, 1)]
    assert len(late) == 1


def test_a_window_join_pairs_rows_of_one_window_when_it_closes() -> None:
    sides = [
        f"(SELECT k, v, window_start, window_end FROM {TUMBLE.format(name)}) AS {alias}"
        for name, alias in (("p", "l"), ("q", "r"))
    ]
    sql = f"""SELECT l.k, l.v, r.v AS w, l.window_start FROM {sides[0]} JOIN {sides[1]}
      ON l.k = r.k AND l.window_start = r.window_start AND l.window_end = r.window_end"""
    left = table(("a", 1, 1), ("a", 2, 9), ("b", 3, 3), ("a", 4, 11), (None, 9, 12))
    right = table(("a", 10, 5), ("b", 20, 11), ("a", 30, 19), (None, 9, 12))
    rows, late = every_cut(sql, p=left, q=right)
    assert [(r["k"], r["v"], r["w"], second(r["window_start"])) for r in rows] == [
        ("a", 1, 10, 0),
        ("a", 2, 10, 0),
        ("a", 4, 30, 10),
    ]
    assert late == []


@pytest.mark.parametrize(
    ("columns", "outer"),
    [
        ("window_start, window_end", "inner_"),
        ("window_time AS at_", "TABLE(TUMBLE(TABLE inner_, DESCRIPTOR(at_), INTERVAL '10' SECOND))"),
    ],
)
def test_windows_over_windows(columns: str, outer: str) -> None:
    sql = f"""CREATE VIEW inner_ AS SELECT k, {columns}, COUNT(*) AS n
      FROM {TUMBLE.format("p")} GROUP BY k, window_start, window_end, window_time;
    SELECT window_start AS s, SUM(n) AS n FROM {outer} GROUP BY window_start, window_end"""
    rows, _ = every_cut(sql, p=table(("a", 1, 1), ("b", 1, 2), ("a", 1, 3), ("a", 1, 14), ("b", 1, 31)))
    assert [(second(r["s"]), r["n"]) for r in rows] == [(0, 3), (10, 1), (30, 1)]


def test_a_window_function_without_an_aggregate_keeps_late_rows() -> None:
    sql = """SELECT v, window_start, window_end, window_time
      FROM TABLE(HOP(TABLE p, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))"""
    rows, late = every_cut(sql, p=table(("a", 1, 21), ("a", 2, 3)))
    spans = [(r["v"], second(r["window_start"]), second(r["window_end"])) for r in rows]
    assert spans == [(1, 15, 25), (1, 20, 30), (2, -5, 5), (2, 0, 10)]
    assert second(rows[0]["window_time"]) == 24.999
    assert late == []


def test_windows_with_an_offset() -> None:
    sql = """SELECT window_start, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE p, DESCRIPTOR(ts), INTERVAL '10' SECOND,
      INTERVAL '3' SECOND)) GROUP BY window_start, window_end"""
    rows, _ = every_cut(sql, p=table(("a", 1, 2), ("a", 1, 3), ("a", 1, 12.999), ("a", 1, 13)))
    assert [(second(r["window_start"]), r["n"]) for r in rows] == [(-7, 1), (3, 2), (13, 1)]


def test_sessions_merge_through_a_row_that_comes_late_enough() -> None:
    sql = """SELECT k, window_start, window_end, COUNT(*) AS n, ARRAY_AGG(v) AS vs
      FROM TABLE(SESSION(TABLE p PARTITION BY k, DESCRIPTOR(ts), INTERVAL '3' SECOND))
      GROUP BY k, window_start, window_end"""
    rows, late = every_cut(sql, p=table(("a", 1, 0), ("a", 2, 4), ("a", 3, 2), ("a", 4, 30), ("a", 5, 1)))
    assert [(second(r["window_start"]), second(r["window_end"]), r["vs"]) for r in rows] == [
        (0, 7, [1, 3, 2]),
        (30, 33, [4]),
    ]
    assert len(late) == 1


def test_values_of_every_aggregate() -> None:
    sql = f"""SELECT COUNT(*) AS n, COUNT(v) AS nv, COUNT(DISTINCT v) AS d, SUM(v) AS s, AVG(v) AS a,
      MIN(k) AS lo, MAX(v) AS hi, FIRST_VALUE(v) AS f, LAST_VALUE(v) AS l, ARRAY_AGG(v) AS vs,
      LISTAGG(k) AS ks, SUM(v) FILTER (WHERE v > 1) AS big,
      STDDEV_POP(v) AS sd, VAR_SAMP(v) AS var, AVG(CAST(v AS INT)) AS ai, SUM(CAST(v AS DECIMAL(6, 2))) AS sdec
      FROM {TUMBLE.format("p")} GROUP BY window_start, window_end"""
    (row,), _ = every_cut(sql, p=table(("b", 2.0, 5), ("a", None, 3), ("c", 4.0, 1), ("b", 2.0, 2)))
    assert row.pop("sd") == pytest.approx((8 / 9) ** 0.5)
    assert row.pop("var") == pytest.approx(4 / 3)
    assert float(row.pop("sdec")) == 8.0
    assert row == {
        "n": 4,
        "nv": 3,
        "d": 2,
        "s": 8.0,
        "a": 8 / 3,
        "lo": "a",
        "hi": 4.0,
        "f": 2.0,
        "l": 2.0,
        "vs": [4.0, 2.0, None, 2.0],
        "ks": "b,a,c,b",
        "big": 8.0,
        "ai": 2,
    }


def test_windows_without_rows_of_a_filter_are_null_or_zero() -> None:
    sql = f"""SELECT COUNT(*) FILTER (WHERE v > 9) AS n, SUM(v) FILTER (WHERE v > 9) AS s,
      ARRAY_AGG(v) FILTER (WHERE v > 9) AS vs FROM {TUMBLE.format("p")} GROUP BY window_start, window_end"""
    (row,), _ = every_cut(sql, p=table(("a", 1, 1)))
    assert row == {"n": 0, "s": None, "vs": None}


def test_many_keys_come_and_go_without_leaving_state() -> None:
    rows = [(f"key-{i}", 1.0, i / 100) for i in range(12_000)]
    sql = f"SELECT k, COUNT(*) AS n FROM {TUMBLE.format('p')} GROUP BY k, window_start, window_end"
    found, _ = drive(TABLES + sql, {"p": table(*rows)}, 997, snapshots=True)
    assert sorted(r["k"] for r in found) == sorted(k for k, _, _ in rows)
    assert {r["n"] for r in found} == {1}


def test_a_time_in_the_year_9999_and_a_missing_one() -> None:
    sql = f"SELECT COUNT(*) AS n FROM {TUMBLE.format('p')} GROUP BY window_start, window_end"
    far = pl.DataFrame(
        {"k": ["a", "a", "a"], "v": [1.0] * 3, "ts": [START, datetime(9999, 12, 31), None]},
        schema={"k": pl.String, "v": pl.Float64, "ts": pl.Datetime("ms")},
    )
    rows, late = every_cut(sql, p=far)
    assert [r["n"] for r in rows] == [1, 1]
    assert len(late) == 1


def test_law_11_the_average_of_whole_numbers_wraps_and_is_cut_towards_zero() -> None:
    sql = """
    CREATE TABLE t (k STRING, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts);
    SELECT k, AVG(v) AS a, AVG(DISTINCT v) AS d
    FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY k, window_start, window_end"""
    values = {"large": [2**63 - 1, 1], "below": [-7, -4, 0, -1], "mixed": [-5, 2]}
    rows = [(key, value) for key, found in values.items() for value in found]
    times = pl.Series([datetime(2026, 1, 1)] * len(rows)).dt.cast_time_unit("ms")
    frame = pl.DataFrame({"k": [key for key, _ in rows], "v": [value for _, value in rows], "ts": times})
    # as Flink 2.3 answers: the sum of `large` wraps to -2^63
    wanted = {"large": -(2**62), "below": -3, "mixed": -1}
    for cut in (1, 100):
        found, _ = drive(sql, {"t": frame}, cut)
        assert {row["k"]: row["a"] for row in found} == wanted
        assert {row["k"]: row["d"] for row in found} == wanted
