"""The golden rows are what Flink gives: every case, on a real Flink. In CI a missing Flink is a failure."""

from __future__ import annotations

import pytest
from bench.flink import FlinkError

from tests.conformance.sql.cases import Result, all_cases, read_rows
from tests.conformance.sql.compare import difference
from tests.conformance.sql.flink import Flink

CASES = [case for case in all_cases() if case.on_flink and case.fails is None]


@pytest.mark.timeout(600)
@pytest.mark.xdist_group("flink")
def test_flink_gives_the_golden_rows(flink: Flink) -> None:
    found = zip(CASES, flink.run_all([case.sql for case in CASES]), strict=True)
    wrong = {case.name: _wrong(read_rows(case.golden), result, case.key, case.final_only) for case, result in found}
    assert {name: text for name, text in wrong.items() if text} == {}


def _wrong(want: Result, got: Result | FlinkError, key: tuple[str, ...], final_only: bool) -> str | None:
    return str(got) if isinstance(got, FlinkError) else difference(want, got, key, final_only=final_only)
