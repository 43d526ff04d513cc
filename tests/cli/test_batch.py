"""`qanat run --batch`: what a pipeline wrote, computed again from lake and log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
from tests.cli.conftest import Run, Server

from qanat.cli.project import log_url
from qanat.lake import Archiver, Tables
from qanat.log import open_log
from qanat.model.lake import Lake

SQL = """
CREATE TABLE readings (sensor STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH ('archive' = 'true', 'retention' = '1 s');
CREATE TABLE sums (sensor STRING, window_start TIMESTAMP(3), s DOUBLE);
CREATE TABLE copies (sensor STRING, v DOUBLE);
INSERT INTO sums SELECT sensor, window_start, SUM(v)
  FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY sensor, window_start, window_end;
INSERT INTO copies SELECT sensor, v FROM readings WHERE v > 50;
"""


def test_the_rows_that_were_written(qanat: Run, up: Callable[..., Server], tmp_path: Path) -> None:
    farm = tmp_path / "farm"
    farm.mkdir()
    (farm / "farm.sql").write_text(SQL)
    (farm / "qanat.yaml").write_text("engine: {snapshot_interval: 1 ms}\n")  # only what is in snapshots may be deleted
    server = up(farm)
    for start in range(0, 60, 20):
        rows = [
            {"sensor": f"s{n % 2}", "v": float(n), "ts": f"2026-01-01 00:00:{n:02d}"} for n in range(start, start + 20)
        ]
        assert httpx.post(f"{server.url}/streams/readings", json=rows).status_code == 200
    written = ""
    for _ in range(100):
        written = qanat("query", "FROM sums", "--dir", farm).stdout
        if written.count("\n") == 10:
            break
    assert written.count("\n") == 10
    server.stop()
    log = open_log(log_url(farm / ".qanat"))
    archiver = Archiver(log, Tables(farm / ".qanat" / "lake"), Lake())
    archiver.prepare()
    archiver.archive("readings")
    log.maintain(10**14)  # type: ignore[attr-defined]
    kept = log.status()["readings"].rows
    log.close()
    assert kept < 60
    assert qanat("run", "--batch", farm, "--pipeline", "sums").stdout == written
    both = [json.loads(line) for line in qanat("run", "--batch", farm).stdout.splitlines()]
    assert [one["row"]["v"] for one in both if one["pipeline"] == "copies"] == [float(n) for n in range(51, 60)]
    assert sum(one["pipeline"] == "sums" for one in both) == 10
    assert qanat("run", "--batch", farm, "--pipeline", "nothing").returncode == 2


def test_options_that_belong_together(qanat: Run, tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text(SQL)
    assert "belong to --batch" in qanat("run", tmp_path / "a.sql", "--allow-loss").stderr
    assert "there is no log" in qanat("run", "--batch", tmp_path, cwd=tmp_path).stderr
