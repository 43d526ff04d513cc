"""kill -9 in every step of a commit, a rewrite and a vacuum, while the log deletes what is archived: no row is lost,
none is there twice. A full disk. A commit that a power cut left in pieces."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from qanat.errors import ArchiveError
from qanat.log.base import Chunk, Transaction
from tests.lake.children import POINTS
from tests.lake.conftest import READINGS, Station, logged, same

ROOT = Path(__file__).parents[2]
SQL = READINGS.replace("WITH (", "WITH ('partitions' = '2', 'retention' = '1 s', ")
CALLS = int(os.environ.get("QANAT_CALLS", "12"))
KILLS = int(os.environ.get("QANAT_KILLS", "8"))


def child(folder: Path, *fault: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.lake.children", str(folder), *map(str, fault)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(folder: Path, *fault: object) -> str:
    """ "killed", or what it said last."""
    process = child(folder, *fault)
    said, errors = process.communicate(timeout=120)
    if process.returncode == -9:
        return "killed"
    return said.splitlines()[-1] if process.returncode == 0 else errors


class Bench:
    """A log with rows, and what of them must be in the archive in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: dict[int, list[Chunk]] = {0: [], 1: []}
        self.fed = 0
        self.feed()

    def feed(self) -> None:
        """More rows: two partitions, three dates."""
        station = Station(self.folder, SQL)
        begun = {number: station.log.status()["readings"].ends.get(number, 0) for number in (0, 1)}
        for number in range(6):
            station.readings(self.fed, 200, partition=number % 2, day=number % 3, appends=5)
            self.fed += 200
        for number in (0, 1):
            self.expected[number] += station.log.read(("readings", number), begun[number], 10**9)
        station.log.close()

    def check(self) -> None:
        """Everything is archived, once, in order; nothing else lies about."""
        assert ended(self.folder) == "done"
        station = Station(self.folder, SQL)
        for number in (0, 1):
            same(station.read(("readings", number)), self.expected[number])
            assert logged(station.log, ("readings", number)) == []
        assert station.log.positions("lake:readings") == {("readings", n): self.fed // 2 for n in (0, 1)}
        found = DeltaTable(self.folder / "lake/readings")
        assert found.count() == self.fed
        named = {Path(uri) for uri in found.file_uris()}
        assert set((self.folder / "lake/readings").rglob("*.parquet")) - named == set(
            (self.folder / "lake/readings/_delta_log").glob("*.parquet")
        )
        station.log.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_without_a_fault(bench: Bench) -> None:
    bench.check()


@pytest.mark.parametrize("point", POINTS)
def test_death_at_every_step(bench: Bench, point: str) -> None:
    assert ended(bench.folder, point, 1) == "killed"
    if point != "table made":
        assert ended(bench.folder, point, 2) == "killed"
    bench.feed()
    bench.check()


@pytest.mark.crash
def test_death_at_random_calls(bench: Bench) -> None:
    drawn = random.Random(20261121)
    deaths = 0
    for number in range(CALLS):
        deaths += ended(bench.folder, "call", int(10 ** drawn.uniform(2.5, 4.3))) == "killed"
        if number % 3 == 2:
            bench.feed()
    assert deaths >= CALLS // 2
    bench.check()


@pytest.mark.crash
def test_kills_from_outside(bench: Bench) -> None:
    drawn = random.Random(7)
    deaths = 0
    for number in range(KILLS):
        process = child(bench.folder)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(drawn.uniform(0, 0.4))
        process.kill()
        said = process.communicate()[0]
        deaths += "done" not in said
        if number % 2:
            bench.feed()
    assert deaths >= KILLS // 2
    bench.check()


@pytest.mark.parametrize("hit", [1, 5, 9])
def test_a_full_disk_loses_nothing(bench: Bench, hit: int) -> None:
    assert "the disk is full; nothing is lost" in ended(bench.folder, "full", hit)
    bench.check()


@pytest.mark.parametrize("left", [0, 100])
def test_a_commit_that_a_power_cut_left_in_pieces_is_made_again(tmp_path: Path, left: int) -> None:
    """The log was never told of it, so it has the rows."""
    station = Station(tmp_path)
    for number in range(3):
        station.readings(number * 10, 10)
        station.archived()
    expected = logged(station.log, ("readings", 0))
    newest = max((tmp_path / "lake/readings/_delta_log").glob("*.json"))
    newest.write_bytes(newest.read_bytes()[:left])
    station.restarted()
    with pytest.raises(ArchiveError, match="up to row 20, and had it up to row 30"):
        station.archived()  # the log was told, which does not happen before the commit is on the disk
    station.log.submit(Transaction(positions={"lake:readings": {("readings", 0): 20}})).result()
    station.restarted()
    assert station.archived() == 10
    same(station.read(("readings", 0)), expected)
    station.log.close()
