"""What happens in a case: order, late rows, dead letters, crashes, idle partitions, changelogs, cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qanat.sql.embedded.flow import Batch
from qanat.sql.embedded.runner import Runner
from qanat.sql.embedded.simple import ProjectOperator
from qanat.trial.suite import Wanted
from qanat.trial.worker import Worker
from tests.trial.projects import READINGS, project, run, titles

ROWS = """
          | k | ts       | v |
          | a | 10:00:01 | 1 |
          | b | 10:00:02 | 2 |
          | a | 10:00:03 | 4 |
          | a | 10:00:15 | 8 |
          | a | 10:00:31 | 9 |
"""
TOTALS = """
      | k | w        | n | s   |
      | a | 10:00:00 | 2 | 5.0 |
      | b | 10:00:00 | 1 | 2.0 |
      | a | 10:00:10 | 1 | 8.0 |
      | a | 10:00:30 | 1 | 9.0 |
"""
STREAMS = """
CREATE TABLE l (k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('partitions' = '2', 'scan.watermark.idle-timeout' = '1 ms');
CREATE TABLE r (k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts);
CREATE TABLE seen (k STRING);
CREATE TABLE counts (k STRING, n BIGINT, PRIMARY KEY (k) NOT ENFORCED);
CREATE TABLE log_file (k STRING, n BIGINT)
  WITH ('connector' = 'filesystem', 'path' = '/nowhere/at/all', 'format' = 'debezium-json');
"""
UNION = "INSERT INTO seen SELECT k FROM l UNION ALL SELECT k FROM r;"
PER_WINDOW = """
CREATE TABLE windows (k STRING, w TIMESTAMP(3), n BIGINT);
INSERT INTO windows SELECT k, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE l, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
"""


def test_rows_in_and_rows_out(tmp_path: Path) -> None:
    project(tmp_path, f"- case: a\n  date: 2026-01-01\n  given:\n    readings: |{ROWS}  expect:\n    totals: |{TOTALS}")
    report = run(tmp_path)
    assert titles(report) == []
    (result,) = report.results
    assert result.touched.rows == {"totals": (5, 4)}


def test_a_diff_names_what_differs(tmp_path: Path) -> None:
    wrong = TOTALS.replace("| b | 10:00:00 | 1 |", "| b | 10:00:00 | 7 |").replace(
        "| 9.0 |", "| 9.0 |\n      | z | 10:00 | 1 | 1 |"
    )
    project(tmp_path, f"- case: a\n  date: 2026-01-01\n  given:\n    readings: |{ROWS}  expect:\n    totals: |{wrong}")
    report = run(tmp_path)
    assert titles(report) == ["totals: 5 rows: 1 different, 1 missing"]
    assert report.results[0].text().splitlines()[2:] == [
        "      | k | w        | n |   s |",
        "      | a | 10:00:00 | 2 | 5.0 |",
        "    - | b | 10:00:00 | 7 | 2.0 |",
        "    + | b | 10:00:00 | 1 | 2.0 |",
        "                       ^",
        "      | a | 10:00:10 | 1 | 8.0 |",
        "      | a | 10:00:30 | 1 | 9.0 |",
        "    - | z | 10:00:00 | 1 | 1.0 |",
    ]
    assert "\x1b[31m" in report.results[0].text(colour=True)


def test_order_counts_unless_it_does_not(tmp_path: Path) -> None:
    swapped = "[{k: b}, {k: a}, {k: a}, {k: a}]"
    case = "- case: {0}\n  date: 2026-01-01\n  given:\n    readings: |" + ROWS + "  expect: {{totals: {1}}}\n"
    loose = "{rows: " + swapped + ", unordered: true}"
    project(tmp_path, case.format("strict", swapped) + case.format("loose", loose))
    assert titles(run(tmp_path)) == [
        "totals: the rows are right, their order is not (`unordered: true` where it does not matter)"
    ]


def test_floats_have_a_tolerance(tmp_path: Path) -> None:
    rows = "{readings: [{k: a, v: 0.1, ts: 2026-01-01 10:00:00}, {k: a, v: 0.2, ts: 2026-01-01 10:00:00}]}"
    near = f"- {{case: near, given: {rows}, expect: {{totals: [{{s: 0.3}}]}}}}\n"
    exact = near.replace("near,", "exact, tolerance: 0,")
    rough = near.replace("near,", "rough, tolerance: 0.1,").replace("s: 0.3", "s: 0.35")
    project(tmp_path, near + exact + rough)
    assert [result.passed for result in run(tmp_path).results] == [True, False, True]


def test_late_rows_and_watermarks(tmp_path: Path) -> None:
    project(
        tmp_path,
        """
        - case: late
          date: 2026-01-01
          given:
            readings: |
              | k | ts       | v  |
              | a | 10:00:01 | 1  |
              | b | 10:00:12 | 1  |
              | c | 10:00:09 | 77 |
          ends: false
          expect:
            totals: 1
            late: |
              | pipeline | k | v  | event_time | watermark |
              | totals   | c | 77 | 10:00:09   | 10:00:10  |
            watermark: {totals: 10:00:10}
        - case: none, then the end
          steps:
            - expect: {watermark: {totals: none}}
          expect: {watermark: {totals: end}}
        - case: not said
          given:
            readings: [{k: a, ts: 2026-01-01 10:01:00}, {k: a, ts: 2026-01-01 10:00:00}]
          expect: {totals: 1}
        """,
    )
    report = run(tmp_path)
    assert titles(report) == []
    assert report.results[2].notes == ("1 late row, of which the case says nothing (late:)",)


def test_payloads_go_through_the_gateway(tmp_path: Path) -> None:
    project(
        tmp_path,
        """
        - case: dead
          payloads:
            readings:
              - {k: a, v: 1, ts: "2026-01-01 10:00:00"}
              - {k: a, v: warm, ts: "2026-01-01 10:00:00"}
              - '{"k"'
              - !!binary /w==
              - {k: ahead, ts: "2026-01-01 10:20:00"}
              - {k: b, v: 1}
          arrived: 2026-01-01 10:00:05
          expect:
            dead_letters: |
              | arrived             | stream   | data                                               | source |
              | 2026-01-01 10:00:05 | readings | {"k":"a","v":"warm","ts":"2026-01-01 10:00:00"} | test |
              | 2026-01-01 10:00:05 | readings | {"k"                                               | test   |
              | 2026-01-01 10:00:05 | readings | base64:/w==                                        | test   |
              | 2026-01-01 10:00:05 | readings | {"k":"ahead","ts":"2026-01-01 10:20:00"}         | test   |
            readings: |
              | k | ts                  |
              | a | 2026-01-01 10:00:00 |
              | b | 2026-01-01 10:00:05 |
        """,
    )
    assert titles(run(tmp_path)) == []


def test_rows_that_run_ahead_of_their_arrival_are_dead(tmp_path: Path) -> None:
    project(
        tmp_path,
        """
        - case: ahead
          date: 2026-01-01
          given:
            readings: |
              | @arrived | k | ts       |
              | 10:00:00 | a | 10:04:00 |
              | 10:00:00 | b | 10:06:00 |
              |          | c | 10:20:00 |
          expect:
            readings: [{k: a}, {k: c}]
            dead_letters: 1
        """,
    )
    assert titles(run(tmp_path)) == []


CRASHES = f"""- case: crashes
  date: 2026-01-01
  steps:
    - given:
        readings: |{ROWS}    - crash
    - crash
    - given:
        readings: |
          | k | ts       | v |
          | b | 10:00:32 | 1 |
          | c | 10:00:33 | 1 |
          | c | 10:00:33 | 1 |
    - crash
    - restart
    - crash
  expect:
    totals: |{TOTALS}      | b | 10:00:30 | 1 | 1.0 |
      | c | 10:00:30 | 2 | 2.0 |
"""


def test_crashes_and_restarts_change_nothing(tmp_path: Path) -> None:
    project(tmp_path, CRASHES)
    assert titles(run(tmp_path)) == []


def test_a_recovery_that_forgets_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, CRASHES)
    monkeypatch.setattr(Runner, "recover", lambda self: None)
    assert titles(run(tmp_path)) != []


def test_a_crash_loses_work_that_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[tuple[int, int]] = []
    after: list[int] = []
    lose = Worker.lose_power

    def watched(self: Worker) -> None:
        lag = self._lag()
        runner = self._runner
        assert runner is not None
        lose(self)
        before.append((lag, runner.lag()))
        after.append(self._lag())

    monkeypatch.setattr(Worker, "lose_power", watched)
    steps = f"    - given:\n        readings: |{ROWS}    - crash\n"
    project(tmp_path, f"- case: a\n  date: 2026-01-01\n  steps:\n{steps}  expect: {{totals: 4}}\n")
    assert titles(run(tmp_path)) == []
    # rows that waited, rows that waited after the work that was lost, rows that waited after the recovery
    assert (before, after) == ([(5, 0), (2, 1)], [5, 2])


def test_idle_partitions(tmp_path: Path) -> None:
    project(
        tmp_path,
        """
        - case: idle
          date: 2026-01-01
          steps:
            - given:
                l: |
                  | @partition | k | ts       |
                  | 0          | a | 10:00:00 |
                  | 0          | a | 10:00:11 |
            - expect: {windows: 0, watermark: {windows: none}}
            - idle: l/1
            - expect: {windows: 1, watermark: {windows: 10:00:11}}
            - crash
            - given: {l: [{"@partition": 1, k: b, ts: "10:00:15"}, {"@partition": 0, k: c, ts: "10:00:25"}]}
            - expect: {windows: 1, watermark: {windows: 10:00:15}}
            - idle: l/1
            - expect: {windows: 3, watermark: {windows: 10:00:25}}
          ends: false
        """,
        STREAMS + PER_WINDOW,
    )
    assert titles(run(tmp_path)) == []


def test_streams_of_one_step_are_interleaved_by_event_time(tmp_path: Path) -> None:
    given = "given: {l: [{k: l0, ts: '10:00'}, {k: l2, ts: '10:02'}], r: [{k: r1, ts: '10:01'}, {k: r3, ts: '10:03'}]}"
    order = "expect: {seen: [{k: l0}, {k: r1}, {k: l2}, {k: r3}]}"
    project(tmp_path, f"- case: a\n  date: 2026-01-01\n  {given}\n  {order}\n", STREAMS + UNION)
    report = run(tmp_path)
    assert titles(report) == []
    assert report.coverage is not None
    assert report.coverage.unused_tables == ("counts", "log_file")


def test_changelogs_and_final_rows(tmp_path: Path) -> None:
    sql = "".join(f"INSERT INTO {name} SELECT k, COUNT(*) FROM r GROUP BY k;" for name in ("counts", "log_file"))
    project(
        tmp_path,
        """
        - case: a
          date: 2026-01-01
          given: {r: [{k: a, ts: "10:00"}, {k: b, ts: "10:01"}, {k: a, ts: "10:02"}]}
          expect:
            counts: |
              | k | n |
              | b | 1 |
              | a | 2 |
            log_file: |
              | op | k | n |
              | +I | a | 1 |
              | +I | b | 1 |
              | -U | a | 1 |
              | +U | a | 2 |
        - case: b
          date: 2026-01-01
          given: {r: [{k: a, ts: "10:00"}, {k: a, ts: "10:01"}]}
          expect:
            counts: {changelog: [{op: +I, n: 1}, {op: -U, n: 1}, {op: +U, n: 2}]}
            log_file: [{k: a, n: 2}]
        """,
        STREAMS + sql,
    )
    assert titles(run(tmp_path)) == []


def test_files_are_neither_read_nor_written(tmp_path: Path) -> None:
    files = READINGS.replace(
        "SECOND);", f"SECOND) WITH ('connector' = 'filesystem', 'path' = '{tmp_path}/in', 'format' = 'json');", 1
    )
    files = files.replace(
        "s DOUBLE);", f"s DOUBLE) WITH ('connector' = 'filesystem', 'path' = '{tmp_path}/out', 'format' = 'json');"
    )
    project(tmp_path, CRASHES, files)
    assert titles(run(tmp_path)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipelines.sql", "tests"]


def test_pipelines_in_a_row_and_bare_selects(tmp_path: Path) -> None:
    sql = (
        "CREATE TABLE big (k STRING, s DOUBLE); SELECT k FROM big; INSERT INTO big SELECT k, s FROM totals WHERE s > 4;"
    )
    project(
        tmp_path,
        f"- case: a\n  date: 2026-01-01\n  given:\n    readings: |{ROWS}  expect: {{big: 3, result: 3}}\n",
        sql + READINGS,
    )
    assert titles(run(tmp_path)) == []


def test_law_1_a_cut_that_shows_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = ProjectOperator.process

    def cut_dependent(self: ProjectOperator, batches: tuple[Batch, ...]) -> Batch:
        made = process(self, batches)
        return made.select(np.arange(made.frame.height) < 2)

    monkeypatch.setattr(ProjectOperator, "process", cut_dependent)
    given = "given: {l: [{k: a, ts: '10:00'}, {k: b, ts: '10:01'}, {k: c, ts: '10:02'}]}"
    project(
        tmp_path,
        f"- case: a\n  date: 2026-01-01\n  {given}\n  expect: {{seen: 2}}\n",
        STREAMS + "INSERT INTO seen SELECT CONCAT(k, '!') FROM l;",
    )
    report = run(tmp_path)
    assert titles(report) == [
        "law 1: seen depends on how the input is cut: - all rows at once, + micro-batches of 1 row"
    ]
    assert report.results[0].text().splitlines()[-1].strip() == "+ | c! |"
    assert titles(run(tmp_path, Wanted(cuts=(None,)))) == []


def test_a_pipeline_that_fails_fails_the_case_and_not_the_others(tmp_path: Path) -> None:
    sql = "CREATE TABLE numbers (n INT); INSERT INTO numbers SELECT CAST(k AS INT) FROM readings;"
    project(
        tmp_path,
        f"- case: a\n  date: 2026-01-01\n  given:\n    readings: |{ROWS}  expect:\n    totals: |{TOTALS}",
        READINGS + sql,
    )
    found = titles(run(tmp_path))
    assert len(found) == 1
    assert found[0].startswith("pipeline numbers failed")


def test_parameters(tmp_path: Path) -> None:
    sql = READINGS.replace("'10' SECOND", "'${SIZE}' SECOND")
    case = f"- case: a\n  given:\n    readings: |{ROWS}  expect: {{totals: 4}}\n"
    project(tmp_path, f"date: 2026-01-01\nparameters: {{SIZE: 10}}\ncases:\n{case}", sql)
    assert titles(run(tmp_path)) == []
    assert titles(run(tmp_path, SIZE="60")) == ["totals: expected 4 rows, found 2"]
