"""Every case of docs/testing.md runs, and so do those that are shipped."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.trial.projects import run, titles

ROOT = Path(__file__).parents[2]
SKELETON = ROOT / "src" / "qanat" / "cli" / "skeleton"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL | re.MULTILINE)
CASES = [block for block in BLOCKS if block.startswith("- case")]
PARTS = [block for block in BLOCKS if not block.startswith("- case")]


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    """What `qanat init` makes, without its cases, and with the streams that the parts of the page name."""
    shutil.copytree(SKELETON, tmp_path / "farm", ignore=shutil.ignore_patterns("tests"))
    (tmp_path / "farm" / "more.sql").write_text(
        "CREATE TABLE device_state (client_id STRING, `timestamp` BIGINT, state_bitmap ARRAY<BOOLEAN>);\n"
        "SELECT client_id FROM device_state;"
    )
    (tmp_path / "farm" / "tests").mkdir()
    return tmp_path / "farm"


def test_there_are_examples() -> None:
    assert (len(CASES), len(PARTS)) == (2, 2)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_cases_of_the_page(farm: Path, number: int) -> None:
    (farm / "tests" / "page.yaml").write_text(CASES[number])
    assert titles(run(farm)) == []


@pytest.mark.parametrize("number", range(len(PARTS)))
def test_the_parts_of_the_page(farm: Path, number: int) -> None:
    (farm / "tests" / "page.yaml").write_text(f"- case: a part\n{PARTS[number]}  expect: {{climate: {number}}}\n")
    assert titles(run(farm)) == []


def test_the_diff_of_the_page(farm: Path) -> None:
    (farm / "tests" / "page.yaml").write_text(CASES[0].replace("|        2 |    21.0 |", "|        3 |    21.0 |"))
    page = (ROOT / "docs" / "testing.md").read_text()
    _, _, *diff = run(farm).results[0].text().splitlines()
    shown = page[page.index("    climate: 3 rows: 1 different\n") :].splitlines()[1 : len(diff) + 1]
    assert [line.strip() for line in shown] == [line.strip() for line in diff]


@pytest.mark.parametrize("folder", [SKELETON, *(ROOT / "examples" / "nilm" / part for part in (".", "batch", "refit"))])
def test_the_shipped_cases(folder: Path) -> None:
    report = run(folder)
    assert titles(report) == []
    assert report.results
    assert report.coverage is not None
    assert [one.name for one in report.coverage.pipelines if not one.judged] == []
