"""`qanat test`: what it prints, its options, its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.cli.conftest import Run

from qanat.cli.test import keep_running, stamps
from qanat.errors import ConfigError

BROKEN = """
- case: another
  given: {readings: [{sensor: a, ts: 2026-01-01 10:00:00, temperature: 1}]}
  expect: {climate: 7}
"""


@pytest.fixture
def farm(qanat: Run, tmp_path: Path) -> Path:
    """What `qanat init` makes."""
    assert qanat("init", "farm").returncode == 0
    return tmp_path / "farm"


def test_the_new_project_passes(qanat: Run, farm: Path) -> None:
    done = qanat("test", cwd=farm)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "tests/climate.yaml"
    assert lines[1] == "  ok     one row per sensor and ten seconds"
    assert lines[5].startswith("3 passed in ")
    assert lines[6:] == ["1 of 1 pipelines tested", "  climate  3 cases, 10 rows in, 6 out"]


def test_a_case_that_fails(qanat: Run, farm: Path) -> None:
    (farm / "tests" / "broken.yaml").write_text(BROKEN)
    done = qanat("test", "farm", "--junit", "junit.xml")
    assert done.returncode == 1
    assert "  FAILED another\n         tests/broken.yaml:4: climate: expected 7 rows, found 1\n" in done.stdout
    assert "3 passed, 1 failed" in done.stdout
    root = ElementTree.fromstring((farm.parent / "junit.xml").read_bytes())
    assert (root.get("tests"), root.get("failures")) == ("4", "1")
    assert [suite.get("name") for suite in root] == ["tests/broken.yaml", "tests/climate.yaml"]
    failure = root.find("testsuite/testcase[@name='another']/failure")
    assert failure is not None
    assert "expected 7 rows, found 1" in str(failure.text)
    assert len(root.findall("testsuite/testcase")) == 4


def test_json(qanat: Run, farm: Path) -> None:
    (farm / "tests" / "broken.yaml").write_text(BROKEN)
    *cases, summary = map(json.loads, qanat("test", "farm", "--json").stdout.splitlines())
    assert [case["passed"] for case in cases] == [False, True, True, True]
    assert cases[0]["failures"][0]["message"] == "climate: expected 7 rows, found 1"
    assert (cases[0]["file"], cases[0]["line"], cases[0]["case"]) == ("tests/broken.yaml", 2, "another")
    assert (summary["cases"], summary["failed"]) == (4, 1)
    assert summary["pipelines"] == [{"name": "climate", "cases": 4, "judged": 4, "rows_in": 11, "rows_out": 7}]
    assert (summary["unused_tables"], summary["unused_views"]) == ([], [])


def test_choosing_and_stopping(qanat: Run, farm: Path) -> None:
    (farm / "tests" / "broken.yaml").write_text(BROKEN)
    done = qanat("test", "farm", "-k", "CRASH")
    assert (done.returncode, "1 passed, 3 left out by -k" in done.stdout) == (0, True)
    assert qanat("test", "farm", "--only", "climate*is late").stdout.count("  ok  ") == 1
    assert qanat("test", "farm", "-x").stdout.count("  ok  ") == 0


def test_update(qanat: Run, farm: Path) -> None:
    (farm / "tests" / "broken.yaml").write_text(BROKEN)
    done = qanat("test", "farm", "--update")
    assert (done.returncode, "updated tests/broken.yaml" in done.stdout) == (0, True)
    assert (farm / "tests" / "broken.yaml").read_text() == BROKEN.replace("7", "1")


def test_what_no_case_exercises(qanat: Run, farm: Path) -> None:
    (farm / "more.sql").write_text(
        "CREATE TABLE unused (k STRING); CREATE TABLE quiet (k STRING); CREATE VIEW v AS SELECT k FROM unused;\n"
        "CREATE VIEW warm AS SELECT sensor FROM readings WHERE temperature > 20;\n"
        "INSERT INTO quiet SELECT k FROM v; SELECT sensor FROM warm;\n"
    )
    lines = qanat("test", "farm").stdout.splitlines()
    assert lines[lines.index("1 of 3 pipelines tested") + 1 :] == [
        "  climate  3 cases, 10 rows in, 6 out",
        "  quiet    no case gives it rows",
        "  result   3 cases, 10 rows in, 8 out; no case says what should come out",
        "tables that no case uses: unused, quiet",
        "views that no case uses: v",
    ]


def test_without_cases_it_says_how_to_write_one(qanat: Run, farm: Path) -> None:
    (farm / "tests" / "climate.yaml").unlink()
    done = qanat("test", "farm")
    assert done.returncode == 0
    said = done.stdout
    assert said.startswith("no cases in farm/tests.")
    # what it says is a case that --update can fill in
    text = said[said.index("  - case") : said.index("see docs")].replace("        | ... |\n", "")
    (farm / "tests" / "first.yaml").write_text(text)
    assert qanat("test", "farm").returncode == 1
    assert qanat("test", "farm", "--update").returncode == 0


@pytest.mark.parametrize(
    ("file", "text", "code", "said"),
    [
        (
            "tests/x.yaml",
            "- case: a\n  expect: {clima: 1}\n",
            2,
            "tests/x.yaml:2: there is no stream 'clima'\n  hint: did you mean climate?",
        ),
        ("tests/x.yaml", "- case: a\n", 2, "tests/x.yaml:1: the case 'a' expects nothing"),
        ("x.sql", "SELECT nothing FROM readings", 3, "x.sql:1:8"),
    ],
)
def test_mistakes(qanat: Run, farm: Path, file: str, text: str, code: int, said: str) -> None:
    (farm / file).write_text(text)
    done = qanat("test", ".", cwd=farm)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_options_that_are_wrong(qanat: Run, farm: Path) -> None:
    done = qanat("test", "farm", "--cuts", "1,none")
    assert (done.returncode, "'none' is no size of a micro-batch" in done.stderr) == (2, True)
    assert qanat("test", "nowhere").returncode == 2


def test_watching_goes_on_after_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    runs: list[int] = []

    def once() -> bool:
        runs.append(len(runs))
        if len(runs) == 2:
            raise ConfigError("x.yaml:1: half written")
        return len(runs) == 3

    def changes() -> Iterator[None]:
        for _ in range(3):
            yield

    keep_running(once, changes())
    assert runs == [0, 1, 2]
    said = capsys.readouterr().err
    assert "qanat: x.yaml:1: half written" in said
    assert said.count("waiting for changes") == 3


def test_what_is_watched(farm: Path) -> None:
    before = stamps(farm)
    assert {path.name for path in before} == {"streams.sql", "climate.sql", "climate.yaml"}
    (farm / "qanat.yaml").write_text("")
    (farm / "tests" / "deep").mkdir()
    (farm / "tests" / "deep" / "more.yml").write_text("")
    (farm / "climate.sql").unlink()
    assert {path.name for path in stamps(farm)} == {"streams.sql", "climate.yaml", "qanat.yaml", "more.yml"}


def test_in_python(farm: Path) -> None:
    import qanat

    (farm / "tests" / "broken.yaml").write_text(BROKEN)
    results = qanat.run_cases(farm)
    assert [result.passed for result in results] == [False, True, True, True]
    assert str(results[0]) == "tests/broken.yaml: another"
    assert "expected 7 rows, found 1" in results[0].text()
    assert [result.name for result in qanat.run_cases(farm, "late")] == [results[2].name]
