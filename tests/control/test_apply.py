"""Changing a pipeline that has run: what is kept, rebuilt, lost; and rows that come out afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.control.conftest import TABLES, TOTALS, Project, readings

from qanat.errors import ChangedPipelineError, LogError
from qanat.log.base import Transaction
from qanat.sql import compile_script
from qanat.sql.embedded.stored_plans import stored_plan

BASE = TABLES + TOTALS


def windows(low: int, high: int, of=lambda i: True, value=float) -> list[tuple[str, int, int, float]]:
    """What TOTALS gives for one row a second: windows that begin in [low, high)."""
    found = []
    for start in range(low, high, 10):
        for key in "ab":
            mine = [i for i in range(start, start + 10) if "ab"[i % 2] == key and of(i)]
            if mine:
                found.append((key, start, len(mine), float(sum(map(value, mine)))))
    return found


def test_another_way_to_write_it_is_no_change(project: Project) -> None:
    project.feed(readings(0, 33))
    project.run(BASE)
    other = (
        TABLES
        + """-- every ten seconds
    INSERT INTO totals
    SELECT  r.k AS who, r.window_start, COUNT(*) AS how_many, SUM(r.v)
    FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECONDS)) AS r
    GROUP BY r.k, r.window_start, r.window_end;"""
    )
    assert project.stages(other)["totals"].action == "unchanged"
    project.feed(readings(33, 63))
    project.run(other)
    assert project.rows() == windows(0, 60)


def test_the_engine_refuses_another_plan_and_says_what_to_do(project: Project) -> None:
    project.feed(readings(0, 33))
    project.run(BASE)
    before = project.log.status(), project.log.positions("totals")
    with pytest.raises(ChangedPipelineError, match="qanat apply"):
        project.run(BASE.replace("SUM(v)", "MAX(v)"))
    assert (project.log.status(), project.log.positions("totals")) == before
    project.run(BASE)


def test_a_change_above_the_state_keeps_it(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE, snapshot_interval_ms=0)
    changed = BASE.replace(
        "SELECT k, window_start, COUNT(*), SUM(v)", "SELECT UPPER(k), window_start, COUNT(*), SUM(v) + 1"
    )
    stage = project.stages(changed)["totals"]
    assert (stage.action, stage.history) == ("kept", None)
    project.apply(changed)
    assert project.stages(changed)["totals"].action == "unchanged"
    project.feed(readings(36, 53))
    project.run(changed)
    later = [(key.upper(), start, n, total + 1) for key, start, n, total in windows(30, 50)]
    assert project.rows() == windows(0, 30) + later


def test_a_renamed_key_above_and_inside_keeps_the_state(project: Project) -> None:
    def sql(key: str, value: str, total: str) -> str:
        return f"""{TABLES} CREATE VIEW renamed AS SELECT UPPER(k) AS {key}, v AS {value}, ts AS t FROM readings;
          INSERT INTO totals SELECT {key}, window_start, COUNT(*), {total}
          FROM TABLE(TUMBLE(TABLE renamed, DESCRIPTOR(t), INTERVAL '10' SECOND))
          GROUP BY {key}, window_start, window_end;"""

    base, changed = sql("kk", "vv", "SUM(vv)"), sql("who", "x", "SUM(x) - 1")
    names = [stored_plan(compile_script(one).pipelines[0]).parts for one in (base, changed)]
    assert [part.names for part in names[0]] != [part.names for part in names[1]]
    project.feed(readings(0, 36))
    project.run(base, snapshot_interval_ms=0)
    assert project.stages(changed)["totals"].action == "kept"
    project.apply(changed)
    project.feed(readings(36, 53))
    project.run(changed)
    first = [(key.upper(), start, n, total) for key, start, n, total in windows(0, 30)]
    later = [(key.upper(), start, n, total - 1) for key, start, n, total in windows(30, 50)]
    assert project.rows() == first + later


def test_a_changed_aggregate_is_rebuilt_and_nothing_is_emitted_twice(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE)
    changed = BASE.replace("SUM(v)", "SUM(v * 2)")
    stage = project.stages(changed)["totals"]
    assert stage.action == "rebuilt"
    assert stage.history is not None
    # 33 s less a window of 10 s: the append that holds second 21 begins at 20
    assert stage.history.rows == 36 - 20
    project.apply(changed)
    assert project.rows() == windows(0, 30)
    project.feed(readings(36, 53))
    project.run(changed)
    assert project.rows() == windows(0, 30) + windows(30, 50, value=lambda i: 2 * i)


def test_a_changed_filter_below_is_rebuilt(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE)
    changed = BASE.replace("GROUP BY", "WHERE v <> 31 AND v <> 45 GROUP BY")
    assert project.stages(changed)["totals"].action == "rebuilt"
    project.apply(changed)
    project.feed(readings(36, 53))
    project.run(changed)
    assert project.rows() == windows(0, 30) + windows(30, 50, of=lambda i: i not in (31, 45))


def test_another_window_goes_on_where_the_old_one_stopped(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE)
    changed = BASE.replace("INTERVAL '10' SECOND))", "INTERVAL '20' SECOND))")
    project.apply(changed)
    project.feed(readings(36, 63))
    project.run(changed)
    at_20 = [(k, start, n, s) for k, start, n, s in project.rows() if (start, n) not in [(0, 5), (10, 5), (20, 5)]]
    assert at_20 == [("a", 20, 10, 290.0), ("b", 20, 10, 300.0), ("a", 40, 10, 490.0), ("b", 40, 10, 500.0)]


def expire(project: Project, rows: int) -> None:
    """Let retention delete the first rows of readings."""
    known = project.log.status()["readings"].stream
    project.log.create(replace(known, retention_ms=1))
    project.log.maintain(1000 + rows * 1000 + 1)  # type: ignore[attr-defined]
    project.log.create(known)


def test_history_that_is_gone_is_said_before_anything_is_done(project: Project) -> None:
    sql = BASE.replace("'10' SECOND))", "'40' SECOND))")
    project.feed(readings(0, 36))
    project.run(sql, snapshot_interval_ms=0)
    expire(project, 15)
    assert project.log.status()["readings"].starts[0] > 0
    changed = sql.replace("SUM(v)", "MAX(v)")
    stage = project.stages(changed)["totals"]
    assert stage.action == "lost"
    assert "retention has deleted rows of readings" in stage.reason
    before = project.log.state("commit/totals"), project.log.state("plans")
    with pytest.raises(ChangedPipelineError, match="--allow-loss"):
        project.apply(changed)
    assert (project.log.state("commit/totals"), project.log.state("plans")) == before
    project.apply(changed, allow_loss=True)
    project.feed(readings(36, 45))
    project.run(changed)
    start = project.log.status()["readings"].starts[0]
    assert [n for _, _, n, _ in project.rows()] == [len([i for i in range(start, 40) if i % 2 == p]) for p in (0, 1)]


def test_short_windows_are_rebuilt_although_old_rows_are_gone(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE, snapshot_interval_ms=0)
    expire(project, 8)
    changed = BASE.replace("SUM(v)", "SUM(v * 2)")
    assert project.stages(changed)["totals"].action == "rebuilt"


def test_a_removed_pipeline_no_longer_holds_back_retention(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE, snapshot_interval_ms=0)
    project.feed(readings(36, 60))
    assert project.stages(TABLES)["totals"].action == "removed"
    project.apply(TABLES)
    assert project.log.consumers() == []  # type: ignore[attr-defined]
    assert [project.log.state(f"{what}/totals") for what in ("commit", "snapshot")] == [None, None]
    expire(project, 100)
    assert project.log.status()["readings"].rows == 0
    assert project.plan(TABLES) == project.plan(TABLES)
    assert "totals" not in {s.name for s in project.plan(TABLES) if s.action == "removed"}


def test_a_log_from_before_plans_is_taken_over_as_it_is(project: Project) -> None:
    project.feed(readings(0, 36))
    project.run(BASE)
    project.log.submit(Transaction(state={"plans": None})).result()
    assert project.stages(BASE)["totals"].action == "unchanged"
    assert project.stages(TABLES)["totals"].action == "removed"
    project.feed(readings(36, 53))
    project.run(BASE)
    assert project.rows() == windows(0, 50)
    assert project.log.state("plans") is not None


def test_streams_say_what_changes(project: Project) -> None:
    project.feed(readings(0, 5))
    project.run(BASE)
    wider = BASE.replace("v DOUBLE, ts", "v DOUBLE, ts").replace(
        "SECOND);\nCREATE TABLE totals", "SECOND) WITH ('retention' = '7 d');\nCREATE TABLE totals"
    )
    wider = wider.replace("(k STRING, v DOUBLE", "(k STRING, v DOUBLE, place STRING")
    stages = project.stages(wider)
    assert (stages["readings"].action, stages["totals"].action) == ("changed", "unchanged")
    with pytest.raises(LogError, match="cannot become"):
        project.apply(BASE.replace("(k STRING, v DOUBLE", "(k STRING, v BIGINT"))
    declared = {t.stream.name for t in compile_script(BASE).tables.values() if t.stream}
    assert declared == {"readings", "totals"}


def test_a_changed_group_by_is_rebuilt_from_everything(project: Project) -> None:
    tables = TABLES + "CREATE TABLE more (k STRING, n BIGINT, PRIMARY KEY (k) NOT ENFORCED);\n"
    sql = tables + "INSERT INTO more SELECT k, COUNT(*) FROM readings GROUP BY k;"
    project.feed(readings(0, 20))
    project.run(sql)
    changed = tables + "INSERT INTO more SELECT k, COUNT(*) FROM readings WHERE v >= 10 GROUP BY k;"
    stage = project.stages(changed)["more"]
    assert stage.action == "rebuilt"
    assert stage.history is not None
    assert stage.history.rows == 20
    project.apply(changed)
    project.feed(readings(20, 22))
    project.run(changed)
    assert project.rows("more", ("k", "n"))[-2:] == [("a", 6), ("b", 6)]


def test_a_partition_that_was_left_out_opens_no_window_again(project: Project) -> None:
    idle = "SECOND) WITH ('partitions' = '2', 'scan.watermark.idle-timeout' = '20 ms');\nCREATE TABLE totals"
    sql = BASE.replace("SECOND);\nCREATE TABLE totals", idle)
    project.feed(readings(0, 36), compile_script(sql).tables["readings"].stream)
    project.run(sql, until=lambda: len(project.rows()) == 6)  # the other partition never has a row
    changed = sql.replace("SUM(v)", "SUM(v * 2)")
    assert project.stages(changed)["totals"].action == "rebuilt"
    project.apply(changed)
    project.feed(readings(36, 53), compile_script(sql).tables["readings"].stream)
    project.run(changed, until=lambda: len(project.rows()) >= 10)
    assert project.rows() == windows(0, 30) + windows(30, 50, value=lambda i: 2 * i)
