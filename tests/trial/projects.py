"""Projects that tests make: SQL and case files in a folder, and their results."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from qanat.cli.test import load
from qanat.trial.suite import Report, Wanted, run_suite

READINGS = """
CREATE TABLE readings (k STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND);
CREATE TABLE totals (k STRING, w TIMESTAMP(3), n BIGINT, s DOUBLE);
INSERT INTO totals SELECT k, window_start, COUNT(*), SUM(v)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;
"""


def project(folder: Path, cases: str, sql: str = READINGS) -> Path:
    """A project with one case file; its text is dedented."""
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    (folder / "pipelines.sql").write_text(sql)
    file = folder / "tests" / "cases.yaml"
    file.write_text(dedent(cases).lstrip("\n"))
    return file


def run(folder: Path, wanted: Wanted | None = None, **params: str) -> Report:
    """Run its cases."""
    return run_suite(load(folder, params), wanted or Wanted())


def titles(report: Report) -> list[str]:
    """What failed, in order."""
    return [failure.title for result in report.results for failure in result.failures]
