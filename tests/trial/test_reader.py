"""Case files: what they may say, and that every mistake has its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from qanat.errors import ConfigError
from qanat.trial.cases import Crash, Given, Idle, Payloads, Restart
from qanat.trial.reader import read_cases
from tests.trial.projects import project, run

TABLE = "    readings: |\n      | k | ts |\n      | a | 2026-01-01 10:00:00 |\n"
EXPECT = "  expect: {totals: 1}\n"


def test_steps_in_order() -> None:
    text = """
- case: all of them
  given: {readings: [{k: a}]}
  payloads: {readings: ['{}', {k: 1.50}, !!binary /w==]}
  steps:
    - crash
    - restart: true
    - idle: [readings/1, readings]
    - {given: {readings: [{k: on}]}, partition: 1, arrived: "10:00"}
  expect: {totals: 0}
"""
    (case,) = read_cases(text, "x.yaml").cases
    first, sent, crash, restart, idle, all_idle, last = case.steps
    assert isinstance(first, Given)
    assert isinstance(sent, Payloads)
    assert [payload for _, payload in sent.payloads] == [b"{}", b'{"k":1.50}', b"\xff"]
    assert (crash, restart) == (Crash(6), Restart(7))
    assert (idle, all_idle) == (Idle(8, "readings", 1), Idle(8, "readings", None))
    assert isinstance(last, Given)
    assert (last.partition, last.arrived, last.streams[0][1].rows[0].cells) == (1, "10:00", {"k": "on"})


def test_settings_of_a_file_hold_for_its_cases() -> None:
    text = "date: 2026-01-01\nparameters: {N: 5}\ntolerance: 1e-3\ncases:\n  - {case: a, expect: {x: 1}}\n"
    text += "  - {case: b, expect: {x: 1}, date: 2026-01-02, tolerance: 0}\n"
    file = read_cases(text, "x.yaml")
    assert file.parameters == {"N": "5"}
    assert [(case.date, case.tolerance) for case in file.cases] == [("2026-01-01", 1e-3), ("2026-01-02", 0)]


def test_an_empty_file_has_no_cases() -> None:
    assert read_cases("# later\n", "x.yaml").cases == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- case: [", "x.yaml:1: this is not YAML"),
        ("just text", "x.yaml:1: expected a list of cases, found 'just text'"),
        ("date: 2026-01-01", "x.yaml:1: expected a list of cases, each beginning with"),
        ("- given: {}", "x.yaml:1: a case begins with its name"),
        ("- case: a", "x.yaml:1: the case 'a' expects nothing"),
        (f"- case: a\n{EXPECT}- case: a\n{EXPECT}", "x.yaml:3: a case of this name stands in line 1"),
        (f"- case: a\n  gven: {{}}\n{EXPECT}", "x.yaml:2: a case has no key 'gven'; did you mean given?"),
        (f"- case: a\n  ends: maybe\n{EXPECT}", "x.yaml:2: ends is true or false, found 'maybe'"),
        (f"- case: a\n  ends: true\n  ends: true\n{EXPECT}", "x.yaml:3: 'ends' stands here for the second time"),
        (f"- case: a\n  date: today\n{EXPECT}", "x.yaml:2: expected a date such as 2026-01-31, found 'today'"),
        (f"- case: a\n  tolerance: low\n{EXPECT}", "x.yaml:2: tolerance is a number such as 1e-6"),
        (f"- case: a\n  arrived: 2026-01-01\n{EXPECT}", "x.yaml:1: arrived and partition belong to given and payloads"),
        (f"- case: a\n  steps: [explode]\n{EXPECT}", "x.yaml:2: a step is one of given, payloads, expect, crash"),
        (f"- case: a\n  steps: [idle]\n{EXPECT}", "x.yaml:2: a step is one of"),
        (f"- case: a\n  steps: [{{idle: x/y}}]\n{EXPECT}", "x.yaml:2: expected a stream or stream/partition"),
        (f"- case: a\n  given: {{readings: '| a |'}}\n{EXPECT}", "x.yaml:2: a table begins on a line of its own"),
        (f"- case: a\n  given: {{readings: 5}}\n{EXPECT}", "x.yaml:2: expected rows of readings: a table"),
        ("- case: a\n  expect:\n    totals: {rows: [], changelog: []}", "x.yaml:3: expected rows: or changelog:"),
        ("- case: a\n  expect:\n    totals: {changelog: [{k: a}]}", "x.yaml:3: a changelog has a column op"),
        ("- case: a\n  expect: {totals: -1}", "x.yaml:2: expected a number of rows, found -1"),
    ],
)
def test_mistakes_in_files(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_cases(text, "x.yaml")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (
            f"- case: a\n  given:\n{TABLE.replace('readings', 'reading')}{EXPECT}",
            "cases.yaml:4: there is no stream 'reading'",
        ),
        (
            f"- case: a\n  given:\n{TABLE.replace('readings', 'totals')}{EXPECT}",
            "cases.yaml:4: no pipeline reads totals",
        ),
        (
            f"- case: a\n  given:\n{TABLE.replace('| k', '| kk')}{EXPECT}",
            "cases.yaml:4: there is no column of readings 'kk'",
        ),
        (
            f"- case: a\n  given:\n{TABLE.replace('-01 ', '-41 ')}{EXPECT}",
            "cases.yaml:5: column ts: expected TIMESTAMP(3)",
        ),
        (f"- case: a\n  given:\n{TABLE}  expect: {{total: 1}}", "cases.yaml:6: there is no stream 'total'"),
        (
            f"- case: a\n  given:\n{TABLE}  expect: {{totals: [{{m: 1}}]}}",
            "cases.yaml:6: there is no column of totals 'm'",
        ),
        (f"- case: a\n  given:\n{TABLE}  expect: {{totals: [{{n: x}}]}}", "cases.yaml:6: column n: expected BIGINT"),
        (
            f"- case: a\n  given:\n{TABLE}  expect: {{totals: [{{op: +X}}]}}",
            "cases.yaml:6: op is one of +I, -U, +U, -D",
        ),
        (
            f"- case: a\n  given:\n{TABLE}  expect: {{watermark: {{total: end}}}}",
            "cases.yaml:6: there is no pipeline 'total'",
        ),
        (f"- case: a\n  given:\n{TABLE}  expect: {{watermark: {{totals: soon}}}}", "cases.yaml:6: column watermark"),
        (
            f"- case: a\n  given:\n{TABLE}  partition: 1\n{EXPECT}",
            "cases.yaml:5: partitions of readings are 0 to 0, found 1",
        ),
        (f"- case: a\n  steps: [idle: readings]\n{EXPECT}", "cases.yaml:2: readings has no idle timeout"),
        ("- case: a\n  given: {readings: [{k: a}]}\n" + EXPECT, "cases.yaml:2: a row without its event time"),
    ],
)
def test_mistakes_in_cases(tmp_path: Path, case: str, said: str) -> None:
    project(tmp_path, case)
    with pytest.raises(ConfigError) as caught:
        run(tmp_path)
    assert str(caught.value).startswith(f"tests/{said}")
