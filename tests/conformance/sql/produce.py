"""Writes the golden rows of cases from a real Flink: `python -m tests.conformance.sql.produce [topic ...] [case ...]`.

Cases are named topic/case. Without names: of those that have no golden rows yet; `all`: of every case. What Flink
refuses is told, and gets no file. Golden rows are looked at before they are committed; test_flink.py then holds Flink
to them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.flink import FlinkError

from tests.conformance.sql.cases import Case, all_cases, write_rows
from tests.conformance.sql.flink import cluster


def main(names: list[str]) -> int:
    """Produce; the number of cases that failed."""
    cases = [case for case in all_cases() if case.on_flink and case.fails is None and _wanted(case, names)]
    failed = 0
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as flink:
        for case, result in zip(cases, flink.run_all([case.sql for case in cases]), strict=True):
            if isinstance(result, FlinkError):
                failed += 1
                sys.stdout.write(f"{case.name}: FAILED {result}\n")
            else:
                write_rows(case.golden, result)
                sys.stdout.write(f"{case.name}: {len(result.changes)} changes\n")
    return failed


def _wanted(case: Case, names: list[str]) -> bool:
    if not names:
        return not case.golden.exists()
    return "all" in names or case.name in names or case.name.split("/")[0] in names


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
