"""`qanat lake` beside a log and its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.conftest import qanat as qanat
from tests.lake.conftest import READINGS, Station


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    folder = tmp_path / "farm"
    (folder / ".qanat").mkdir(parents=True)
    (folder / "all.sql").write_text(READINGS)
    station = Station(folder / ".qanat")
    for number in range(4):
        station.readings(number * 10, 10, day=number % 2)
        station.archived()
    station.readings(100, 5)
    station.log.close()
    return folder


def test_status_compact_and_vacuum(qanat: Run, farm: Path) -> None:
    (found,) = json.loads(qanat("lake", "status", "--json", cwd=farm).stdout)["streams"]
    assert {name: found[name] for name in ("stream", "rows", "files", "first", "last", "behind")} == {
        "stream": "readings",
        "rows": 40,
        "files": 4,
        "first": "2026-01-01",
        "last": "2026-01-02",
        "behind": 5,
    }
    assert found["url"] == str(farm / ".qanat/lake/readings")
    assert qanat("lake", "compact", cwd=farm).stdout == ""  # every date still grows
    said = qanat("lake", "compact", "--all", "--dry-run", cwd=farm).stdout.splitlines()
    assert said == [f"readings 2026-01-0{day}: 2 files with 20 rows would be rewritten" for day in (1, 2)]
    done = [json.loads(line) for line in qanat("lake", "compact", "--all", "--json", cwd=farm).stdout.splitlines()]
    assert [(one["date"], one["files"], one["written"]) for one in done] == [("2026-01-01", 2, 1), ("2026-01-02", 2, 1)]
    assert qanat("lake", "vacuum", cwd=farm).stdout == "readings: 0 files deleted\n"
    assert (
        qanat("lake", "vacuum", "--keep", "0 s", "--dry-run", cwd=farm).stdout == "readings: 4 files would be deleted\n"
    )
    assert json.loads(qanat("lake", "vacuum", "--keep", "0 s", "--json", cwd=farm).stdout)["deleted"] == 4
    shown = qanat("lake", "status", "readings", cwd=farm).stdout
    assert shown.splitlines()[1].split()[:3] == ["readings", "40", "2"]


def test_a_vacuum_of_the_newest_files_waits_until_nobody_writes(qanat: Run, farm: Path) -> None:
    running = Station(farm / ".qanat")
    ended = qanat("lake", "vacuum", "--keep", "10 min", cwd=farm)
    assert (ended.returncode, ended.stdout) == (5, "")
    assert qanat("lake", "vacuum", "--keep", "1 h", cwd=farm).returncode == 0
    assert qanat("lake", "vacuum", "--keep", "0 s", "--dry-run", cwd=farm).returncode == 0
    running.log.close()
    assert qanat("lake", "vacuum", "--keep", "10 min", cwd=farm).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "nothing"], "no stream nothing is archived"),
        (["vacuum", "--keep", "soon"], "--keep: expected a duration"),
    ],
)
def test_what_is_wrong_is_said(qanat: Run, farm: Path, arguments: list[str], said: str) -> None:
    ended = qanat("lake", *arguments, cwd=farm)
    assert (ended.returncode, said in ended.stderr) == (2, True)


def test_a_url_that_is_no_place(qanat: Run, farm: Path) -> None:
    (farm / "qanat.yaml").write_text("lake: {url: 'ftp://somewhere'}\n")
    ended = qanat("lake", "status", cwd=farm)
    assert (ended.returncode, "'ftp://somewhere' is no place for a lake" in ended.stderr) == (2, True)
    (farm / "qanat.yaml").write_text("lake: {url: elsewhere}\n")
    (found,) = json.loads(qanat("lake", "status", "--json", cwd=farm).stdout)["streams"]
    assert (found["rows"], found["behind"], found["url"]) == (0, 45, str(farm / "elsewhere/readings"))


def test_without_archived_streams(qanat: Run, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    (folder / ".qanat").mkdir(parents=True)
    (folder / "all.sql").write_text("CREATE TABLE t (a INT)")
    station = Station(folder / ".qanat", "CREATE TABLE t (a INT)")
    station.log.close()
    assert qanat("lake", "status", "--json", cwd=folder).stdout == '{"streams":[]}\n'
    assert "no stream is archived" in qanat("lake", "status", cwd=folder).stderr
