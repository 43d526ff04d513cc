"""`--update` writes what was found, and changes nothing else of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from qanat.trial.suite import Wanted
from tests.trial.projects import READINGS, project, run, titles

BEFORE = """\
# about this file
date: 2026-01-01   # of all times

cases:
- case: a table   # named so
  given: &rows
    readings: |
      | k | ts | v |
      | a | 10:00:01 | 1 |
      | b | 10:00:02 | 2 |
      | a | 10:00:15 | 8 |
  expect:
    totals: |   # the totals
      # first a
      | k | n | s |
      |---|---|---|
      | a | 9 | 1.0 |

      # then b
      | b | 1 | 2.0 |
      # nothing more
    watermark: {totals: none}   # in the end

# between
- case: the other forms
  given: *rows
  expect:
    totals:
      # a comes first
      - {k: a, n: 1}   # so it stays
      # b has another number
      - {k: b, n: 7}

      - k: a
        n: 3
    late: 4  # too many
    dead_letters:   # what is here?
    readings: {unordered: true, rows: []}
  # the end
"""
AFTER = """\
# about this file
date: 2026-01-01   # of all times

cases:
- case: a table   # named so
  given: &rows
    readings: |
      | k | ts | v |
      | a | 10:00:01 | 1 |
      | b | 10:00:02 | 2 |
      | a | 10:00:15 | 8 |
  expect:
    totals: |   # the totals
      # first a
      | k | n |   s |
      |---|---|-----|
      | a | 1 | 1.0 |

      # then b
      | b | 1 | 2.0 |
      | a | 1 | 8.0 |
      # nothing more
    watermark: {totals: end}   # in the end

# between
- case: the other forms
  given: *rows
  expect:
    totals:
      # a comes first
      - {k: a, n: 1}   # so it stays
      # b has another number
      - {k: b, n: 1}
      - {k: a, n: 1}
    late: 0  # too many
    dead_letters: []   # what is here?
    readings: {unordered: true, rows: []}
  # the end
"""


def test_only_expectations_change(tmp_path: Path) -> None:
    file = project(tmp_path, BEFORE.replace("rows: []}", "rows: 3}"))
    report = run(tmp_path, Wanted(update=True))
    assert (report.failed, report.updated) == (0, ("tests/cases.yaml",))
    assert file.read_text() == AFTER.replace("rows: []}", "rows: 3}")
    again = run(tmp_path)
    assert titles(again) == []


def test_what_holds_is_not_touched(tmp_path: Path) -> None:
    file = project(tmp_path, AFTER.replace("rows: []}", "rows: 3}").replace("| k | n |   s |", "|k|n|s|"))
    before = file.stat().st_mtime_ns
    assert run(tmp_path, Wanted(update=True)).updated == ()
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "written", ["totals: []", "totals: [{k: x}]", "totals:", "totals: {rows: }", "totals:\n    - k: x"]
)
def test_every_form_is_filled_in(tmp_path: Path, written: str) -> None:
    file = project(
        tmp_path,
        "- case: a\n  given:\n    readings: [{k: a, ts: 2026-01-01 10:00:00, v: 1.5}]\n  expect:\n    "
        + written
        + "\n",
    )
    run(tmp_path, Wanted(update=True))
    assert "a" in file.read_text().split("expect:")[1], file.read_text()
    assert titles(run(tmp_path)) == [], file.read_text()


def test_line_ends_of_windows_stay(tmp_path: Path) -> None:
    file = project(tmp_path, "")
    text = BEFORE.replace("rows: []}", "rows: 3}").replace("\n", "\r\n").encode()
    file.write_bytes(text)
    run(tmp_path, Wanted(update=True))
    assert file.read_bytes() == AFTER.replace("rows: []}", "rows: 3}").replace("\n", "\r\n").encode()


def test_rows_that_go_leave_their_comments(tmp_path: Path) -> None:
    text = """\
- case: a
  given: {readings: []}
  expect:
    totals: |
      | k | n |
      # the only one
      | a | 1 |
"""
    file = project(tmp_path, text)
    run(tmp_path, Wanted(update=True))
    assert file.read_text() == text.replace("      | a | 1 |\n", "")
    assert titles(run(tmp_path)) == []


def test_a_changelog_is_written_with_its_kinds(tmp_path: Path) -> None:
    sql = """CREATE TABLE c (k STRING, n BIGINT, PRIMARY KEY (k) NOT ENFORCED);
    INSERT INTO c SELECT k, COUNT(*) FROM readings GROUP BY k;"""
    file = project(
        tmp_path,
        """
        - case: a
          given: {readings: [{k: a, ts: 2026-01-01 10:00:00}, {k: a, ts: 2026-01-01 10:00:00}]}
          expect:
            c:
              changelog:
        """,
        READINGS + sql,
    )
    run(tmp_path, Wanted(update=True))
    assert file.read_text().endswith(
        "changelog: |\n        | op | k | n |\n        | +I | a | 1 |\n        | -U | a | 1 |\n        | +U | a | 2 |\n"
    )
    assert titles(run(tmp_path)) == []
