"""Every case in the one-process runtime: the golden rows of Flink 2.3, with all rows at once, in batches of 7 and of 1,
with a crash after every few rows, and over a log whose engine is dropped and started again.

`pending.txt` names cases that do not pass yet, `differences.txt` those that are not meant to (a law of the semantics
says so, or a fault of Flink is not copied): both are strict, a case that passes must leave the file. How results are
compared: compare.py. How golden rows are made: produce.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.sql.cases import Case, all_cases, differences, pending
from tests.conformance.sql.checks import check

CASES = all_cases()


def marked(case: Case) -> object:
    """A case as a parameter, expected to fail where a file says so."""
    reason = pending().get(case.name) or differences().get(case.name)
    return pytest.param(case, id=case.name, marks=[pytest.mark.xfail(reason=reason)] if reason else [])


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_embedded_equals_flink(case: Case, tmp_path: Path) -> None:
    wrong = check(case, tmp_path)
    assert wrong is None, f"{case.name} ({case.shows})\n{wrong}"


def test_every_case_has_golden_rows_and_says_what_it_shows() -> None:
    assert [case.name for case in CASES if case.fails is None and not case.golden.exists()] == []
    assert [case.name for case in CASES if len(case.shows) < 10] == []
    golden = {path.with_suffix(".sql") for path in Path(__file__).parent.glob("*/*.rows")}
    assert golden - {case.path for case in CASES} == set()


def test_files_of_exceptions_name_cases() -> None:
    names = {case.name for case in CASES}
    assert set(pending()) | set(differences()) <= names
    assert not set(pending()) & set(differences())


def test_there_are_enough() -> None:
    assert len(CASES) >= 150
