"""When rounds and upkeep are due: faults wait longer each time, and stop nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qanat.lake.service import ArchiveService
from qanat.model.lake import Lake
from tests.lake.conftest import Station


class Hands:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 0.0

    def seconds(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return 4 * 10**12 + int(self.now * 1000)


class Case:
    """A service that is turned by hand."""

    def __init__(self, folder: Path) -> None:
        self.station = Station(folder, settings=Lake(rows=10))
        self.clock = Hands()
        station = self.station
        self.service = ArchiveService(station.archiver, station.log, station.settings, self.clock)
        self.lake = folder / "lake"

    def files(self) -> int:
        table = self.station.tables.open("readings")
        return 0 if table is None else len(table.files())

    def turn(self, seconds: float = 10.0) -> None:
        self.clock.now += seconds
        self.service.turn()


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    yield made
    made.station.log.close()


def test_a_turn_archives_everything(case: Case) -> None:
    case.station.readings(0, 55, appends=11)
    case.turn()
    assert case.station.log.positions("lake:readings") == {("readings", 0): 55}
    assert case.service.faults() == {"lake readings": None}


def test_what_fails_is_told_and_tried_again_later_each_time(case: Case) -> None:
    case.station.readings(0, 10)
    case.lake.write_text("in the way")
    tries = []
    for second in range(70):
        before = case.service._again.get("readings")
        case.turn(1.0)
        if case.service._again.get("readings") != before:
            tries.append(second)
    assert tries == [0, 1, 3, 7, 15, 31, 63]
    fault = case.service.faults()["lake readings"]
    assert fault is not None
    assert "lake/readings" in fault
    case.lake.unlink()
    case.turn(1000.0)
    assert case.service.faults() == {"lake readings": None}
    assert case.station.log.positions("lake:readings") == {("readings", 0): 10}


def test_small_files_are_rewritten_and_old_ones_deleted_in_time(case: Case) -> None:
    case.station.readings(0, 40, appends=4)
    case.turn()
    assert case.files() == 4
    case.turn(60.0)  # by this clock the date has not grown for long
    assert case.files() == 1
    assert len(list(case.lake.rglob("part-*.parquet"))) == 5  # for readers of older versions


def test_new_rows_do_not_wait_for_a_rewrite_that_fails(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("qanat.lake.service.rewrite", fails)
    case.station.readings(0, 40, appends=4)
    case.turn()
    case.turn(60.0)
    assert "no room" in str(case.service.faults()["lake readings"])
    case.station.readings(40, 5)
    case.turn(2.0)
    assert case.station.log.positions("lake:readings") == {("readings", 0): 45}


def test_stop_archives_what_came_last(tmp_path: Path) -> None:
    station = Station(tmp_path)
    service = ArchiveService(station.archiver, station.log, Lake(interval=type(Lake().interval)(3_600_000)))
    service.start()
    station.readings(0, 10)
    service.stop()
    assert station.log.positions("lake:readings") == {("readings", 0): 10}
    station.log.close()
