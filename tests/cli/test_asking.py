"""A running project answers SQL over HTTP as `qanat query` does: lake, tables outside and limits among it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
from tests.cli.conftest import Run, Server

SQL = """CREATE TABLE readings (sensor STRING, v DOUBLE) WITH ('archive' = 'true');"""
CONFIG = """
lake: {interval: 50 ms}
query: {max_rows: 50}
tables: {sites: {url: sites.csv}}
"""


def test_lake_and_tables_over_http(qanat: Run, up: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "farm.sql").write_text(SQL)
    (tmp_path / "qanat.yaml").write_text(CONFIG)
    (tmp_path / "sites.csv").write_text("sensor,site\ns0,north\ns1,south\n")
    server = up(tmp_path)
    rows = [{"sensor": f"s{n % 2}", "v": float(n)} for n in range(100)]
    httpx.post(f"{server.url}/streams/readings", json=rows)
    sql = "SELECT site, sum(v) AS total FROM readings JOIN sites USING (sensor) GROUP BY site ORDER BY site"
    expected = '{"site":"north","total":2450.0}\n{"site":"south","total":2500.0}\n'
    while not list((tmp_path / ".qanat" / "lake").rglob("*.parquet")):
        assert qanat("query", sql).stdout == expected
    assert qanat("query", sql).stdout == expected
    answer = httpx.post(f"{server.url}/v1/query", json={"sql": sql}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [{"site": "north", "total": 2450.0}, {"site": "south", "total": 2500.0}]
    much = httpx.post(f"{server.url}/v1/query", json={"sql": "FROM readings"}, timeout=30)
    assert "more than 50 rows" in much.text
