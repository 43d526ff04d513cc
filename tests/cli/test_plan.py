"""`qanat plan`, `apply`, `replay`: exit codes, questions, and a project that is changed while it is not looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import Run, Server

Up = Callable[..., Server]
STREAMS = """
CREATE TABLE readings (k STRING, v DOUBLE, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE totals (k STRING, starts TIMESTAMP(3), s DOUBLE);
"""
PIPELINE = """
INSERT INTO totals SELECT k, window_start, SUM(v) FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY k, window_start, window_end;
"""  # noqa: E501


def row(second: int, value: float = 1.0) -> dict[str, Any]:
    return {"k": "a", "v": value, "ts": f"2026-01-01T10:00:{second:02d}Z"}


def sums(qanat: Run, farm: Path) -> list[float]:
    done = qanat("query", "SELECT s FROM totals ORDER BY starts", "--json", cwd=farm)
    return [json.loads(line)["s"] for line in done.stdout.splitlines()]


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    folder = tmp_path / "farm"
    folder.mkdir()
    (folder / "streams.sql").write_text(STREAMS)
    (folder / "totals.sql").write_text(PIPELINE)
    return folder


def run_with(up: Up, farm: Path, *rows: dict[str, Any], windows: int) -> None:
    """Start, send, wait until so many windows are there, stop."""
    server = up(farm)
    httpx.post(f"{server.url}/streams/readings", json=list(rows))
    while True:
        metrics = httpx.get(f"{server.url}/metrics").text
        if f'qanat_log_rows_total{{stream="readings"}} {len(rows)}.0' in metrics and windows <= _out(metrics):
            break
    assert server.stop()[0] == 0


def _out(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith("qanat_pipeline_rows_out_total")]
    return float(lines[0].split()[-1]) if lines else 0.0


def test_a_change_from_plan_to_apply_to_replay(qanat: Run, up: Up, farm: Path) -> None:
    assert "pipeline totals is new" in qanat("plan", cwd=farm).stdout
    assert qanat("plan", "--detailed-exitcode", cwd=farm).returncode == 2
    assert "nothing has run yet" in qanat("apply", "--yes", cwd=farm).stderr
    run_with(up, farm, row(1), row(5), row(11), row(14), windows=1)
    same = qanat("plan", "--detailed-exitcode", cwd=farm)
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "no changes")

    (farm / "totals.sql").write_text(PIPELINE.replace("SUM(v)", "SUM(v * 2)"))
    said = json.loads(qanat("plan", "--json", cwd=farm).stdout)
    (changed,) = said["pipelines"]
    assert (changed["name"], changed["action"], said["changes"]) == ("totals", "rebuilt", 1)
    assert changed["history"]["rows"] == 4
    assert changed["history"]["measured"] is False
    refused = qanat("up", "--mqtt-port", "0", "--http-port", "0", cwd=farm)
    assert refused.returncode == 8
    assert "qanat apply" in refused.stderr
    asked = qanat("apply", cwd=farm)
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    dry = qanat("apply", "--dry-run", cwd=farm)
    assert (dry.returncode, "state is rebuilt from the log" in dry.stdout) == (0, True)
    assert qanat("plan", "--detailed-exitcode", cwd=farm).returncode == 2
    done = qanat("apply", "--yes", cwd=farm)
    assert (done.returncode, done.stderr) == (0, "applied\n")
    assert qanat("plan", "--detailed-exitcode", cwd=farm).returncode == 0

    run_with(up, farm, row(18), row(25), windows=1)
    assert sums(qanat, farm) == [2.0, 6.0]
    plan = qanat("replay", "totals", "--from", "beginning", "--dry-run", cwd=farm)
    assert "stream totals gets version 2" in plan.stdout
    assert sums(qanat, farm) == [2.0, 6.0]
    replayed = json.loads(qanat("replay", "totals", "--from", "beginning", "--yes", "--json", cwd=farm).stdout)
    assert (replayed["rows"], replayed["applied"], replayed["version"]) == (2, True, 2)
    assert sums(qanat, farm) == [4.0, 6.0]


def test_apply_needs_the_log_for_itself_and_plan_does_not(qanat: Run, up: Up, farm: Path) -> None:
    server = up(farm)
    (farm / "totals.sql").write_text("")
    assert "pipeline totals is removed" in qanat("plan", cwd=farm).stdout
    for command in (["apply", "--yes"], ["replay", "totals", "--from", "beginning", "--yes"]):
        done = qanat(*command, cwd=farm)
        assert done.returncode == 5, done.stderr
        assert f"process {server.process.pid} writes the log" in done.stderr
    assert server.stop()[0] == 0
    assert qanat("apply", "--yes", cwd=farm).returncode == 0
    assert "no changes" in qanat("plan", cwd=farm).stdout


def test_a_script_with_its_state(qanat: Run, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text("".join(json.dumps(row(i)) + "\n" for i in range(30)))
    source = STREAMS.replace(
        "'2' SECOND)", "'2' SECOND) WITH ('connector' = 'filesystem', 'path' = 'in.json', 'format' = 'json')"
    )
    (tmp_path / "job.sql").write_text(source + PIPELINE)
    assert qanat("run", "job.sql", "--state", "kept").returncode == 0
    assert "no changes" in qanat("plan", "job.sql", "--data", "kept").stdout
    (tmp_path / "job.sql").write_text(source + PIPELINE.replace("SUM(v)", "SUM(v * 3)"))
    refused = qanat("run", "job.sql", "--state", "kept")
    assert (refused.returncode, "--data" in refused.stderr) == (8, True)
    assert qanat("apply", "job.sql", "--data", "kept", "--yes").returncode == 0
    done = qanat("replay", "totals", "--from", "beginning", "--dir", "job.sql", "--data", "kept", "--yes")
    assert done.returncode == 0, done.stderr
    query = qanat("query", "SELECT s FROM totals", "--data", "kept", "--json").stdout
    assert [json.loads(line)["s"] for line in query.splitlines()] == [30.0] * 3
    assert qanat("run", "job.sql", "--state", "kept").returncode == 0
    assert qanat("plan", "job.sql").returncode == 2


def test_a_state_limit_of_the_project_shows_in_status(qanat: Run, up: Up, farm: Path) -> None:
    (farm / "qanat.yaml").write_text("state_limit: 1 GB\npipelines:\n  totals:\n    state_limit: 10 b\n")
    server = up(farm)
    httpx.post(f"{server.url}/streams/readings", json=[row(1), row(5)])
    while httpx.get(f"{server.url}/healthz").status_code == 200:
        pass
    said = httpx.get(f"{server.url}/healthz").text
    assert "10 bytes is its limit" in said
    assert httpx.post(f"{server.url}/streams/readings", json=[row(6)]).json()["accepted"] == 1
    (found,) = json.loads(qanat("status", "--json", cwd=farm).stdout)["pipelines"]
    assert "10 bytes is its limit" in found["error"]
    assert "FAILED" in qanat("status", cwd=farm).stdout
    assert server.stop()[0] == 0
    (farm / "qanat.yaml").write_text("")
    run_with(up, farm, row(15), windows=1)
    assert sums(qanat, farm) == [3.0]
    (found,) = json.loads(qanat("status", "--json", cwd=farm).stdout)["pipelines"]
    assert found["error"] is None
