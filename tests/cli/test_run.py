"""`qanat run`: rows in files in, rows in files out; the summary; state that is kept."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import COMMAND, Run

COUNTS = """
CREATE TABLE readings (sensor STRING, t BIGINT, v DOUBLE, ts AS TO_TIMESTAMP_LTZ(t, 0),
  WATERMARK FOR ts AS ts - INTERVAL '${DELAY}' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'in.json', 'format' = 'json');
CREATE TABLE counts (sensor STRING, window_start TIMESTAMP(3), n BIGINT, total DOUBLE)
  WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
INSERT INTO counts SELECT sensor, window_start, COUNT(*), SUM(v)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY sensor, window_start, window_end;
"""
SELECT = """
CREATE TABLE readings (sensor STRING, v DOUBLE)
  WITH ('connector' = 'filesystem', 'path' = 'in.json', 'format' = 'json');
SELECT sensor, v * 2 AS twice FROM readings WHERE v >= 8;
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    rows = [{"sensor": f"größe-{i % 2}", "t": 1_700_000_000 + i, "v": i % 10} for i in range(100)]
    (tmp_path / "in.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "counts.sql").write_text(COUNTS)
    (tmp_path / "select.sql").write_text(SELECT)
    return tmp_path


def written(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted(folder.glob("out/part-*")) for line in path.read_text().splitlines()]


def test_files_in_files_out_and_a_summary(qanat: Run, folder: Path) -> None:
    done = qanat("run", "counts.sql", "--param", "DELAY=5", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    assert set(summary) == {"pipelines", "seconds", "rows_per_second"}
    pipeline = summary["pipelines"][0]
    assert (pipeline["name"], pipeline["rows_in"], pipeline["rows_out"]) == ("counts", 100, 20)
    assert (pipeline["late"], pipeline["dead_letters"], pipeline["watermark"]) == (0, 0, "end")
    assert pipeline["first_row_at"] <= pipeline["last_commit_at"]
    rows = written(folder)
    assert len(rows) == 20
    assert sum(int(str(row["n"])) for row in rows) == 100
    assert {row["sensor"] for row in rows} == {"größe-0", "größe-1"}


@pytest.mark.parametrize("batch_rows", [1, 7])
def test_the_batch_size_changes_nothing(qanat: Run, folder: Path, batch_rows: int) -> None:
    qanat("run", "counts.sql", "--param", "DELAY=5")
    whole = written(folder)
    for path in folder.glob("out/*"):
        path.unlink()
    assert qanat("run", "counts.sql", "--param", "DELAY=5", "--batch-rows", batch_rows).returncode == 0
    assert written(folder) == whole


def test_with_state_a_second_run_has_nothing_left_to_do(qanat: Run, folder: Path) -> None:
    args = ("run", "counts.sql", "--param", "DELAY=5", "--state", "state", "--json")
    assert json.loads(qanat(*args).stdout)["pipelines"][0]["rows_out"] == 20
    done = qanat(*args)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pipelines"][0]["rows_out"] == 20
    assert len(written(folder)) == 20


def test_without_state_nothing_is_left_but_the_result(
    qanat: Run, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    assert qanat("run", "counts.sql", "--param", "DELAY=5", TMPDIR=str(temporary)).returncode == 0
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in folder.iterdir()) == ["counts.sql", "in.json", "out", "select.sql"]


def test_a_bare_select_prints_json_lines_into_a_pipe(qanat: Run) -> None:
    done = qanat("run", "select.sql")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 20
    assert rows[0] == {"sensor": "größe-0", "twice": 16.0}
    assert "result: 100 rows in, 20 out" in done.stderr


def test_json_ends_with_the_summary(qanat: Run) -> None:
    *rows, summary = map(json.loads, qanat("run", "select.sql", "--json").stdout.splitlines())
    assert len(rows) == 20
    assert summary["pipelines"][0]["name"] == "result"


def test_rows_that_do_not_decode_are_counted_and_the_rest_goes_on(qanat: Run, folder: Path) -> None:
    with (folder / "in.json").open("a") as file:
        file.write('{"sensor": 1, "t": \nnonsense\n{"sensor": "z", "t": 1700000100, "v": 1}\n')
    done = qanat("run", "counts.sql", "--param", "DELAY=5", "--json")
    pipeline = json.loads(done.stdout)["pipelines"][0]
    assert (pipeline["rows_in"], pipeline["dead_letters"]) == (101, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_live_run_ends_with_a_signal_and_a_summary(folder: Path, number: signal.Signals) -> None:
    (folder / "live.sql").write_text(
        "CREATE TABLE t (a INT); CREATE TABLE o (a INT); INSERT INTO o SELECT a FROM t;" + SELECT
    )
    command = [*COMMAND, "run", "live.sql", "--live", "--json", "--state", "state"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["sensor"] == "größe-0"
        process.send_signal(number)
        *_, summary = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert [pipeline["name"] for pipeline in json.loads(summary)["pipelines"]] == ["o", "result"]


def test_explain_says_what_would_run(qanat: Run) -> None:
    done = qanat("explain", "counts.sql", "--param", "DELAY=5")
    assert "PIPELINE counts" in done.stdout
    assert "TUMBLE" in done.stdout
    plan = json.loads(qanat("explain", "counts.sql", "--param", "DELAY=5", "--json").stdout)
    assert isinstance(plan, dict)
