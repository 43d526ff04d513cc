"""`qanat.run`: the same SQL over tables in memory."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import qanat
from qanat.errors import ConfigError, DataError, SqlError

DOCUMENT = Path(__file__).parents[2] / "docs" / "python.md"
WINDOWS = """
CREATE TABLE readings (sensor STRING, ts TIMESTAMP(3), v DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND);
CREATE TABLE sums (sensor STRING, window_start TIMESTAMP(3), total DOUBLE);
INSERT INTO sums SELECT sensor, window_start, SUM(v)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '${SIZE}' SECOND)) GROUP BY sensor, window_start, window_end;
"""
START = dt.datetime(2026, 1, 1)
ROWS = [
    {"sensor": "a", "ts": START, "v": 1.0},
    {"sensor": "b", "ts": START + dt.timedelta(seconds=30), "v": 2.0},
    {"sensor": "a", "ts": START + dt.timedelta(seconds=2), "v": 4.0},  # late
]


def polars(rows: list[dict[str, object]]) -> object:
    return pl.DataFrame(rows)


def lazy(rows: list[dict[str, object]]) -> object:
    return pl.LazyFrame(rows)


def arrow(rows: list[dict[str, object]]) -> object:
    return pa.Table.from_pylist(rows)


def batch(rows: list[dict[str, object]]) -> object:
    return pa.RecordBatch.from_pylist(rows)


@pytest.mark.parametrize("made", [polars, lazy, arrow, batch])
def test_every_kind_of_table(made: Callable[[list[dict[str, object]]], object]) -> None:
    tables = qanat.run(WINDOWS, inputs={"readings": made(ROWS)}, params={"SIZE": "10"})
    assert set(tables) == {"sums", "late", "dead_letters"}
    assert tables["sums"].to_pylist() == [
        {"sensor": "a", "window_start": START, "total": 1.0},
        {"sensor": "b", "window_start": START + dt.timedelta(seconds=30), "total": 2.0},
    ]
    assert tables["late"].num_rows == 1
    assert tables["dead_letters"].num_rows == 0


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    tables = qanat.run(WINDOWS, {"readings": pandas.DataFrame(ROWS)}, {"SIZE": "10"})
    assert tables["sums"].num_rows == 2


@pytest.mark.parametrize("batch_rows", [1, 2, 1000])
def test_the_batch_size_changes_nothing(batch_rows: int) -> None:
    whole = qanat.run(WINDOWS, {"readings": arrow(ROWS)}, {"SIZE": "10"})
    assert qanat.run(WINDOWS, {"readings": arrow(ROWS)}, {"SIZE": "10"}, batch_rows)["sums"] == whole["sums"]


def test_columns_are_taken_from_rows_that_nobody_declared() -> None:
    rows = pa.table({"k": ["a", "b"], "v": pa.array([1, None], pa.int16()), "deep": [[1], []]})
    tables = qanat.run("SELECT k, v + 1 AS v, deep FROM t; SELECT k FROM t WHERE v IS NULL", {"t": rows})
    assert tables["result"].to_pylist() == [{"k": "a", "v": 2, "deep": [1]}, {"k": "b", "v": None, "deep": []}]
    assert tables["result_2"].to_pylist() == [{"k": "b"}]


def test_an_empty_input_gives_an_empty_table_with_its_columns() -> None:
    rows = pa.table({"k": pa.array([], pa.string())})
    assert qanat.run("SELECT k, 1 AS n FROM t", {"t": rows})["result"].schema.names == ["k", "n"]


def test_pipelines_feed_each_other() -> None:
    sql = "CREATE TABLE m (v BIGINT); INSERT INTO m SELECT v + 1 FROM t; SELECT v * 10 AS v FROM m"
    tables = qanat.run(sql, {"t": pa.table({"v": [1, 2]})})
    assert tables["m"]["v"].to_pylist() == [2, 3]
    assert tables["result"]["v"].to_pylist() == [20, 30]


def test_columns_are_cast_to_what_is_declared() -> None:
    rows = pa.table({"v": ["1", "2"], "extra": [0, 0]})
    tables = qanat.run("CREATE TABLE t (v INT, w STRING); SELECT v, w FROM t", {"t": rows})
    assert tables["result"].to_pylist() == [{"v": 1, "w": None}, {"v": 2, "w": None}]


@pytest.mark.parametrize(
    ("sql", "inputs", "error", "said"),
    [
        ("SELECT a FROM t", {}, SqlError, "t"),
        ("", {}, SqlError, "nothing to run"),
        ("CREATE TABLE t (a INT); SELECT a FROM t", {}, ConfigError, "nothing fills the table 't'"),
        ("SELECT a FROM t", {"t": pa.table({"a": [1]}), "u": pa.table({"a": [1]})}, ConfigError, "input 'u'"),
        ("SELECT a FROM t", {"t": [{"a": 1}]}, DataError, "is a list"),
        ("CREATE TABLE t (a INT); SELECT a FROM t", {"t": pa.table({"a": ["x"]})}, DataError, "column a .string."),
        ("CREATE TABLE t (a INT NOT NULL); SELECT a FROM t", {"t": pa.table({"b": [1]})}, DataError, "INT NOT NULL"),
    ],
)
def test_mistakes(sql: str, inputs: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        qanat.run(sql, inputs)


def test_importing_is_cheap() -> None:
    code = "import sys, qanat; print([m for m in ('pyarrow', 'polars', 'sqlglot', 'typer') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_documented_example_prints_what_it_says() -> None:
    text = DOCUMENT.read_text()
    code, output = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", text, re.DOTALL).groups()  # type: ignore[union-attr]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == output
