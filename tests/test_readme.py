"""The README keeps its word: its Python prints what stands there, its SQL compiles, its links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import pytest

import qanat
from qanat.sql import compile_script
from tests.conformance.sql.cases import all_cases

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def block(language: str) -> tuple[str, str]:
    """The first block of a language, and the one after it."""
    place = next(i for i, (found, _) in enumerate(BLOCKS) if found == language)
    return BLOCKS[place][1], BLOCKS[place + 1][1]


def test_the_python_prints_what_stands_below_it() -> None:
    code, shown = block("python")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "README.md", "exec"), {})
    assert said.getvalue() == shown


def test_the_sql_compiles_into_one_pipeline() -> None:
    sql, _ = block("sql")
    program = compile_script(sql)
    assert [pipeline.name for pipeline in program.pipelines] == ["climate"]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_there_are_as_many_cases_against_flink_as_it_says() -> None:
    (said,) = re.findall(r"More than (\d+) cases", README)
    assert len(all_cases()) > int(said)


def test_the_cases_of_a_new_project_pass_as_shown(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src" / "qanat" / "cli" / "skeleton", tmp_path / "farm")
    names = [result.name for result in qanat.run_cases(tmp_path / "farm") if result.passed]
    assert names == re.findall(r"^      ok     (.*)$", README, re.MULTILINE)


def test_quoted_rates_are_those_of_the_committed_measurement() -> None:
    """`make bench` writes bench/results/latest.json; readme.json beside it is the one that the README quotes."""
    results = json.loads((ROOT / "bench/results/readme.json").read_text())
    row = r"^\| (qanat|flink|flink-warm|pathway|bytewax) \| ([\d,]+)[^|]*\|[^|]*\| ([\d,]+)"
    rows = re.findall(row, README, re.MULTILINE)
    measured = {
        (each["engine"], each["query"]): round(each["rows_per_second"]) for each in results["windows"]["results"]
    }
    assert len(rows) == 5
    for engine, tumble, hop in rows:
        for query, quoted in (("tumble", tumble), ("hop", hop)):
            assert int(quoted.replace(",", "")) == pytest.approx(measured[engine, query], rel=0.01)


def test_quoted_rates_of_nexmark_are_those_of_the_committed_measurement() -> None:
    """`python -m bench nexmark` writes the file that the README quotes."""
    report = json.loads((ROOT / "bench/results/nexmark.json").read_text())["nexmark"]
    measured = {(each["query"], each["engine"]): each for each in report["results"]}
    rows = re.findall(r"^\| (q\d+) [^|]*\| ([\d,]+) \| ([\d,]+) \| ([\d.]+) times", README, re.MULTILINE)
    assert {query for query, *_ in rows} == {query for query, _ in measured}
    for query, qanat_rate, flink_rate, times in rows:
        assert measured[query, "qanat"]["right"]
        assert int(qanat_rate.replace(",", "")) == measured[query, "qanat"]["events_per_second"]
        assert int(flink_rate.replace(",", "")) == measured[query, "flink"]["events_per_second"]
        assert float(times) == pytest.approx(measured[query, "flink"]["qanat_is_times_faster"], abs=0.06)
    assert f"geometric mean {report['geometric_mean']:.1f} times" in README


def test_quoted_figures_beside_those_wanted_are_those_of_the_committed_measurements() -> None:
    """`python -m bench PART` writes the files that the README quotes."""
    parts = ("gateway", "serve", "cache", "lake", "query")
    reports = {part: json.loads((ROOT / f"bench/results/{part}.json").read_text())[part] for part in parts}
    found = {one["what"]: (one["wanted"], one["found"]) for report in reports.values() for one in report["wanted"]}
    quoted = re.findall(r"^\| ([^|]+?) \| ([\d.,]+) \| ([<>]=? [\d.,]+) \|$", README, re.MULTILINE)
    assert {what for what, *_ in quoted} == set(found)
    for what, figure, aim in quoted:
        assert aim.replace(",", "") == found[what][0].replace(",", "")
        assert float(figure.replace(",", "")) == pytest.approx(found[what][1], rel=0.01)
    for part, report in reports.items():
        assert report.get("right", True), part
        assert all(one.get("right", True) for one in report.get("results", ())), part
