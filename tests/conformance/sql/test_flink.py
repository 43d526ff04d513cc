"""A real Flink gives the golden rows of every case, and of random scripts what the one-process runtime gives.

One test, since one cluster runs all scripts in one go (also where tests are spread over processes). In CI a missing
Flink is a failure. See test_properties.py for the seeds.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.flink import FlinkError

from tests.conformance.sql.cases import Result, all_cases, read_rows
from tests.conformance.sql.checks import ALL
from tests.conformance.sql.compare import difference
from tests.conformance.sql.embedded import compiled, run
from tests.conformance.sql.flink import Flink
from tests.conformance.sql.generate import Script, scripts
from tests.conformance.sql.test_properties import COUNT, SEED


@pytest.mark.timeout(900)
def test_flink_gives_the_golden_rows_and_those_of_random_scripts(flink: Flink, tmp_path: Path) -> None:
    cases = [case for case in all_cases() if case.on_flink and case.fails is None]
    random = scripts(SEED, COUNT, tmp_path)
    found = flink.run_all([one.sql for one in (*cases, *random)])
    wrong = {}
    for case, result in zip(cases, found, strict=False):
        wrong[case.name] = _wrong(result, read_rows(case.golden), case.key, case.final_only)
    for script, result in zip(random, found[len(cases) :], strict=True):
        wrong[script.name] = _wrong_script(script, result)
    assert {name: text for name, text in wrong.items() if text} == {}


def _wrong(flink: Result | FlinkError, other: Result, key: tuple[str, ...], final_only: bool) -> str | None:
    return f"Flink: {flink}" if isinstance(flink, FlinkError) else difference(flink, other, key, final_only=final_only)


def _wrong_script(script: Script, flink: Result | FlinkError) -> str | None:
    text = _wrong(flink, run(compiled(script.sql), ALL), script.key, script.final_only)
    return f"{text} (want: Flink)\n{script.sql}" if text else None
