"""User functions: declared, found by CREATE FUNCTION, called in every place that Flink allows, and refused clearly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import qanat
from qanat.errors import ConfigError, FunctionError, SqlError
from qanat.log import open_log
from qanat.log.base import Append, Transaction
from qanat.model.functions import UserFunction
from qanat.model.streams import dead_letter_stream, late_stream
from qanat.sql import compile_files, compile_script
from qanat.sql.embedded.outputs import StreamOutput
from qanat.sql.embedded.runner import EngineOptions, Runner
from qanat.sql.embedded.sources import scan_inputs

_TABLE = "CREATE TABLE t (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts);\n"
_ROWS = pa.table(
    {
        "k": ["a b", "b", None, "c d e"],
        "v": [1, 2, None, 4],
        "ts": pa.array([0, 1000, 2000, 12_000], pa.timestamp("ms")),
    }
)


@qanat.udf("DOUBLE", returns="DOUBLE")
def fahrenheit(celsius: pa.Array) -> pa.Array:
    return pc.add(pc.multiply(celsius, 1.8), 32.0)


@qanat.udf("STRING", returns={"word": "STRING", "size": "INT"})
def words(texts: pa.Array) -> dict[str, list[Any]]:
    found = [(row, word) for row, text in enumerate(texts.to_pylist()) for word in (text or "").split()]
    return {"row": [row for row, _ in found], "word": [w for _, w in found], "size": [len(w) for _, w in found]}


class _Weighted:
    def __init__(self) -> None:
        self.total, self.weight = 0, 0

    def add(self, values: pa.Array, weights: pa.Array) -> None:
        self.total += pc.sum(pc.multiply(values, weights)).as_py() or 0
        self.weight += pc.sum(weights).as_py() or 0

    def retract(self, values: pa.Array, weights: pa.Array) -> None:
        self.total -= pc.sum(pc.multiply(values, weights)).as_py() or 0
        self.weight -= pc.sum(weights).as_py() or 0

    def result(self) -> float | None:
        return self.total / self.weight if self.weight else None


weighted = qanat.udf("INT", "INT", returns="DOUBLE", name="weighted")(_Weighted)
_FUNCTIONS = {"fahrenheit": fahrenheit, "words": words, "weighted": weighted}


def _run(query: str, functions: dict[str, UserFunction] | None = None, batch_rows: int | None = None) -> list[Any]:
    found = qanat.run(_TABLE + query, inputs={"t": _ROWS}, functions=functions or _FUNCTIONS, batch_rows=batch_rows)
    return [tuple(row.values()) for row in found["result"].to_pylist()]


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_a_scalar_function_is_called_on_whole_columns(batch_rows: int) -> None:
    assert _run("SELECT fahrenheit(v) FROM t WHERE fahrenheit(v) > 34", batch_rows=batch_rows) == [(35.6,), (39.2,)]
    assert _run("SELECT fahrenheit(10) FROM t", batch_rows=batch_rows) == [(50.0,)] * 4


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_a_table_function_gives_rows_per_row(batch_rows: int) -> None:
    inner = _run("SELECT v, w FROM t, LATERAL TABLE(words(k)) AS x (w, n)", batch_rows=batch_rows)
    assert inner == [(1, "a"), (1, "b"), (2, "b"), (4, "c"), (4, "d"), (4, "e")]
    left = _run("SELECT v, w, n FROM t LEFT JOIN LATERAL TABLE(words(k)) AS x (w, n) ON TRUE", batch_rows=batch_rows)
    assert left == [(1, "a", 1), (1, "b", 1), (2, "b", 1), (None, None, None), (4, "c", 1), (4, "d", 1), (4, "e", 1)]


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_an_aggregate_over_windows(batch_rows: int) -> None:
    query = """SELECT weighted(v, v), weighted(v, 1) FILTER (WHERE v > 1)
               FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end"""
    assert _run(query, batch_rows=batch_rows) == [(5 / 3, 2.0), (4.0, 4.0)]


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_an_aggregate_that_takes_rows_back(batch_rows: int) -> None:
    latest = (
        "(SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY v > 1 ORDER BY ts DESC) AS n FROM t) WHERE n = 1)"
    )
    changes = _run(f"SELECT weighted(v, 1) FROM {latest} WHERE v IS NOT NULL", batch_rows=batch_rows)
    # 1; 1 and 2; 1 and 4 instead of 2
    assert changes[-1] == ("+U", 2.5)
    assert ("+U", 1.5) in changes


def test_create_function_imports_from_the_folder_of_the_script(tmp_path: Path) -> None:
    module = """
import pyarrow.compute as pc
import qanat


@qanat.udf("INT", returns="INT")
def twice(values):
    return pc.multiply(values, 2)
"""
    (tmp_path / "arithmetic_for_test.py").write_text(module)
    script = (
        _TABLE + "CREATE FUNCTION doubled AS 'arithmetic_for_test.twice' LANGUAGE PYTHON;\nSELECT doubled(v) FROM t;"
    )
    program = compile_files([(str(tmp_path / "q.sql"), script)])
    assert program.pipelines[0].root.schema[0].type.kind.value == "INT"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE FUNCTION f AS 'no_such_module.f' LANGUAGE PYTHON", "cannot import no_such_module"),
        ("CREATE FUNCTION f AS 'json.dumps' LANGUAGE PYTHON", "dumps in json is no function for SQL"),
        ("CREATE FUNCTION f AS 'json.nothing' LANGUAGE PYTHON", "nothing in json is not there"),
        ("CREATE FUNCTION f AS 'alone' LANGUAGE PYTHON", "'alone' names no function"),
        ("CREATE FUNCTION f AS 'org.example.F' LANGUAGE JAVA", "functions in JAVA are not supported"),
    ],
)
def test_create_function_is_refused_with_its_place(statement: str, message: str) -> None:
    with pytest.raises(SqlError, match=message.replace("(", r"\(")) as caught:
        compile_files([("q.sql", _TABLE + statement + ";\nSELECT v FROM t")])
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT fahrenheit(k) FROM t", "fahrenheit takes (DOUBLE), found STRING"),
        ("SELECT fahrenheit(v, v) FROM t", "fahrenheit takes 1 arguments (DOUBLE), found 2"),
        ("SELECT words(k) FROM t", "words is a table function; it cannot stand here"),
        ("SELECT v FROM t, LATERAL TABLE(fahrenheit(v)) AS x (f)", "no table function is called fahrenheit"),
        ("SELECT weighted(DISTINCT v) FROM t", "DISTINCT in weighted"),
    ],
)
def test_calls_that_do_not_fit_are_refused(query: str, message: str) -> None:
    with pytest.raises(SqlError) as caught:
        _run(query)
    assert message in str(caught.value)


def test_what_a_function_does_wrong_names_it() -> None:
    def declared(body: Any, returns: Any = "INT") -> dict[str, UserFunction]:
        return {"f": qanat.udf("INT", returns=returns, name="f")(body)}

    wrong: list[tuple[Any, str]] = [
        (lambda values: values[:1], "f returned 1 values for 4 rows"),
        (lambda values: ["x"] * len(values), "f returned what is not INT"),
        (lambda values: 1 / 0, "f failed: ZeroDivisionError"),
    ]
    for body, message in wrong:
        with pytest.raises(FunctionError) as caught:
            _run("SELECT f(v) FROM t", declared(body))
        assert message in str(caught.value)
    table = declared(lambda values: {"row": [3, 0], "x": [1, 2]}, {"x": "INT"})
    with pytest.raises(FunctionError, match="not ascending"):
        _run("SELECT x FROM t, LATERAL TABLE(f(v)) AS y (x)", table)


def test_declarations_are_checked() -> None:
    with pytest.raises(ConfigError, match="'INTEGERS' is not a SQL type"):
        qanat.udf("INTEGERS", returns="INT")
    with pytest.raises(ConfigError, match="has no method result"):
        qanat.udf("INT", returns="INT")(type("Sum", (), {"add": lambda self, values: None}))


@pytest.mark.parametrize("deterministic", [True, False])
def test_only_a_deterministic_function_is_asked_again_after_a_crash(tmp_path: Path, deterministic: bool) -> None:
    asked: list[str] = []

    @qanat.udf("STRING", returns="STRING", deterministic=deterministic)
    def drawn(keys: pa.Array) -> list[str]:
        asked.extend(keys.to_pylist())
        return [f"{key}{len(asked)}" for key in keys.to_pylist()]

    sql = """CREATE TABLE t (k STRING); CREATE TABLE out_ (k STRING, n BIGINT, PRIMARY KEY (k) NOT ENFORCED);
      INSERT INTO out_ SELECT drawn(k), COUNT(*) FROM t GROUP BY drawn(k)"""
    program = compile_script(sql, functions={"drawn": drawn})
    log = open_log(f"sqlite:///{tmp_path}/log.db")
    for stream in (late_stream(), dead_letter_stream(), *(table.stream for table in program.tables.values())):
        assert stream is not None
        log.create(stream)
    for key in "abcdef":
        rows = pa.RecordBatch.from_pydict({"k": [key]})
        log.submit(Transaction([Append("t", 0, rows, 0)])).result()
    (pipeline,) = program.pipelines
    assert pipeline.sink is not None
    assert pipeline.sink.stream is not None
    for _ in range(3):  # each life ends without a snapshot of its own accord
        options = EngineOptions(batch_rows=1, snapshot_interval_ms=10**9)
        inputs = lambda flow: [one for n, scan in enumerate(flow.scans) for one in scan_inputs(log, n, scan, 1, bool)]  # noqa: E731
        runner = Runner(pipeline, log, inputs, StreamOutput(pipeline.sink.stream), options)
        runner.recover()
        runner.step()
        runner.step()
        runner.close()
    log.close()
    assert (len(asked) == len(set(asked))) is not deterministic
