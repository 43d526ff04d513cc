"""Plans of queries, and errors of wrong and refused ones, against two files of goldens.

`UPDATE_GOLDENS=1 pytest tests/sql/test_bind.py` writes them anew; read the diff.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qanat.errors import SqlError
from qanat.model.streams import ArrivalColumn
from qanat.sql import compile_files, compile_script
from qanat.sql.plan import IntervalJoin, Session, WindowAggregate
from qanat.sql.tree import walk
from tests.sql.plans import NILM, TABLES, compile_query, root_of, show

_HERE = Path(__file__).parent
Case = tuple[str, str, str]


def read_cases(name: str) -> list[Case]:
    """(name, SQL, expected) of a file of `-- name`, SQL, `=>`, expected, blank line."""
    cases: list[Case] = []
    for block in (_HERE / name).read_text().split("\n-- "):
        title, rest = block.removeprefix("-- ").split("\n", 1)
        sql, expected = rest.split("\n=>\n")
        cases.append((title, sql, expected.strip("\n")))
    return cases


def check(name: str, found: Callable[[str], str]) -> None:
    cases = read_cases(name)
    if os.environ.get("UPDATE_GOLDENS"):
        (_HERE / name).write_text("\n".join(f"-- {title}\n{sql}\n=>\n{found(sql)}\n" for title, sql, _ in cases))
    wrong = [f"{title}:\n{found(sql)}\n  instead of\n{wanted}" for title, sql, wanted in cases if found(sql) != wanted]
    assert not wrong, "\n\n".join(wrong)


def test_plans() -> None:
    check("plans.txt", lambda sql: show(root_of(sql)))


def test_refused() -> None:
    tables = compile_script(TABLES).tables

    def error(sql: str) -> str:
        try:
            compile_script(sql, tables=tables, source="q.sql")
        except SqlError as caught:
            return f"{type(caught).__name__}: {caught}"
        return "no error"

    check("refused.txt", error)


def test_nilm() -> None:
    program = compile_script(NILM)
    assert [one.name for one in program.pipelines] == ["predictions", "dataset2train"]
    assert program.views == ("fused",)
    power = program.tables["power"].stream
    assert power is not None
    assert power.event_time == ArrivalColumn("timestamp", 1)
    assert [one.name for one in power.columns] == ["client_id", "username", "timestamp", "consumption"]
    nodes = list(walk(program.pipelines[1].root))
    (session,) = [one for one in nodes if isinstance(one, WindowAggregate)]
    (join,) = [one for one in nodes if isinstance(one, IntervalJoin)]
    assert session.window == Session(5000, ("client_id",))
    assert (join.lower, join.upper) == (0, 0)
    assert [str(one.type) for one in program.pipelines[1].root.schema] == [
        "STRING", "TIMESTAMP(3) NOT NULL", "TIMESTAMP(3) NOT NULL", "BIGINT NOT NULL", "ARRAY<DOUBLE>",
        "ARRAY<ARRAY<BOOLEAN>>",
    ]  # fmt: skip


def test_result_types_of_aggregates() -> None:
    root = compile_script(
        """CREATE TABLE m (i INT, b BIGINT, d DOUBLE, e DECIMAL(10, 2), s STRING, ts TIMESTAMP_LTZ(3),
               WATERMARK FOR ts AS ts);
        SELECT COUNT(*), SUM(i), SUM(b), SUM(e), AVG(i), AVG(d), AVG(e), MIN(s), MAX(ts), ARRAY_AGG(i), LISTAGG(s),
               FIRST_VALUE(d), STDDEV_SAMP(d), VAR_POP(i)
        FROM TABLE(TUMBLE(TABLE m, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end"""
    ).pipelines[0].root  # fmt: skip
    assert [str(one.type) for one in root.schema] == [
        "BIGINT NOT NULL", "INT", "BIGINT", "DECIMAL(38, 2)", "INT", "DOUBLE", "DECIMAL(38, 6)", "STRING",
        "TIMESTAMP_LTZ(3)", "ARRAY<INT>", "STRING", "DOUBLE", "DOUBLE", "INT",
    ]  # fmt: skip
    assert not any(one.time_attribute for one in root.schema)


def test_pipelines_are_named_by_their_sinks() -> None:
    sql = "INSERT INTO n SELECT k, w, 1 FROM u; INSERT INTO n SELECT k, w, 2 FROM u; SELECT k FROM u; SELECT w FROM u"
    assert [one.name for one in compile_query(sql).pipelines] == ["n", "n_2", "result", "result_2"]


def test_files_may_use_each_other_in_any_order() -> None:
    program = compile_files([
        ("b.sql", "CREATE TABLE t (a INT); CREATE VIEW v AS SELECT a FROM t;"),
        ("a.sql", "INSERT INTO o SELECT a FROM v"),
        ("c.sql", "CREATE TABLE o (a INT) WITH ('connector' = 'print')"),
    ])  # fmt: skip
    assert [one.name for one in program.pipelines] == ["o"]


def test_errors_of_a_view_point_into_its_own_file() -> None:
    with pytest.raises(SqlError) as caught:
        compile_files(
            [("v.sql", "CREATE TABLE t (a INT);\nCREATE VIEW v AS SELECT b FROM t"), ("q.sql", "SELECT a FROM v")]
        )
    assert (caught.value.source, caught.value.line, caught.value.column) == ("v.sql", 2, 25)


def test_a_filter_above_session_does_not_move_below_it() -> None:
    sql = """SELECT k, COUNT(*) FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND))
             WHERE v > 1 GROUP BY k, window_start, window_end"""
    with pytest.raises(SqlError, match="between SESSION and its GROUP BY"):
        root_of(sql)
