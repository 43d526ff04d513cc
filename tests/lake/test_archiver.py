"""Rounds: every row exactly once, whatever happens between a commit and what the log is told of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from qanat.errors import ArchiveError
from qanat.lake import Archiver, DeltaArchive
from qanat.log.base import Transaction
from qanat.model.lake import Lake
from tests.lake.conftest import DAY_ONE, READINGS, Station, logged, same


def test_rows_are_archived_once_and_read_as_they_stood(station: Station) -> None:
    station.readings(0, 500, appends=7)
    assert station.archived() == 500
    assert station.archived() == 0
    station.readings(500, 300, appends=4)
    assert station.archived() == 300
    assert DeltaTable(station.folder / "lake/readings").count() == 800
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))
    assert station.log.positions("lake:readings") == {("readings", 0): 800}


def test_the_table_is_the_truth_after_a_crash(station: Station) -> None:
    station.readings(0, 100)
    station.archived()
    # the commit went through, and the log was never told
    station.log.submit(Transaction(positions={"lake:readings": {("readings", 0): 0}})).result()
    station.restarted()
    station.readings(100, 50)
    assert station.archived() == 50
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))
    assert station.log.positions("lake:readings") == {("readings", 0): 150}


def test_every_partition_goes_on_for_itself(tmp_path: Path) -> None:
    sql = READINGS.replace("WITH (", "WITH ('partitions' = '3', ")
    station = Station(tmp_path, sql, Lake(rows=100))
    for number in range(3):
        station.readings(number * 1000, 250, partition=number, appends=9)
    assert station.archived() == 750
    station.readings(5000, 10, partition=1)
    assert station.archived() == 10
    for number in range(3):
        same(station.read(("readings", number)), logged(station.log, ("readings", number)))
    station.log.close()


def test_files_are_sorted_and_apart_by_date(station: Station) -> None:
    station.readings(0, 30)
    station.readings(30, 30, day=2)
    station.feed([{"sensor": "s1", "v": 1.0, "ts": None}], at=DAY_ONE + 5 * 86_400_000)
    station.archived()
    files = sorted((station.folder / "lake/readings").glob("__date=*/*.parquet"))
    assert [file.parent.name for file in files] == ["__date=2026-01-01", "__date=2026-01-03", "__date=2026-01-06"]
    for file in files:
        rows = pq.read_table(file, partitioning=None).select(["sensor", "ts"]).to_pylist()
        assert rows == sorted(rows, key=lambda row: (row["sensor"], row["ts"]))


def test_an_added_column_is_null_in_older_rows(station: Station) -> None:
    station.readings(0, 10)
    station.archived()
    station.readings(10, 10)
    station.redeclare(READINGS.replace("v DOUBLE", "v DOUBLE, note STRING, extra ARRAY<INT>"))
    station.feed([{"sensor": "s0", "v": 1.0, "ts": DAY_ONE, "note": "new", "extra": [1, None]}])
    assert station.archived() == 11
    found = DeltaTable(station.folder / "lake/readings").to_pyarrow_table().sort_by("__offset")
    assert found["note"].to_pylist() == [None] * 20 + ["new"]
    assert found["extra"].to_pylist() == [None] * 20 + [[1, None]]
    rows = pa.Table.from_batches([chunk.rows for chunk in station.read(("readings", 0))])
    assert rows["note"].to_pylist() == [None] * 20 + ["new"]


def test_nothing_is_deleted_from_the_log_before_it_is_archived(tmp_path: Path) -> None:
    station = Station(tmp_path, READINGS.replace("WITH (", "WITH ('retention' = '1 s', "))
    station.readings(0, 100, appends=10)
    far = DAY_ONE + 10**9
    assert station.log.maintain(far) == {}
    station.archived()
    before = logged(station.log, ("readings", 0))
    assert station.log.maintain(far) == {"readings": 100}
    same(station.read(("readings", 0)), before)
    station.log.close()


def test_without_the_option_nothing_holds_the_log_back_any_more(tmp_path: Path) -> None:
    station = Station(tmp_path, READINGS.replace("WITH (", "WITH ('retention' = '1 s', "))
    station.readings(0, 100)
    station.redeclare(
        READINGS.replace("WITH (", "WITH ('retention' = '1 s', ").replace(
            "'true', 'archive.sort' = 'sensor'", "'false'"
        )
    )
    station.restarted()
    assert station.log.positions("lake:readings") == {}
    assert station.log.maintain(DAY_ONE + 10**9) == {"readings": 100}
    station.log.close()


def test_a_table_of_another_log_is_left_alone(station: Station, tmp_path: Path) -> None:
    station.readings(0, 100)
    station.archived()
    (tmp_path / "other").mkdir()
    other = Station(tmp_path / "other")
    other.readings(0, 500)
    other.tables = station.tables
    with pytest.raises(ArchiveError, match="another log"):
        other.restarted().archive("readings")
    assert DeltaArchive(other.tables, other.log).cut("readings") is None
    assert other.log.positions("lake:readings") == {("readings", 0): 0}
    other.log.close()


def test_a_log_that_went_back_is_noticed(station: Station) -> None:
    station.readings(0, 100)
    station.archived()
    table = station.tables.open("readings")
    assert table is not None
    table.append([], {0: 150})
    with pytest.raises(ArchiveError, match="up to row 150, the log up to 100"):
        station.restarted().archive("readings")


def test_two_archivers_cannot_both_commit_the_same_rows(station: Station) -> None:
    station.readings(0, 100)
    first = station.archiver
    first.archive("readings")
    station.readings(100, 100)
    second = Archiver(station.log, station.tables, station.settings)
    second.archive("readings")
    table = first._open["readings"]
    # the first one has decided on rows 100 to 199 before the second one committed them
    with pytest.raises(ArchiveError, match="cannot commit"):
        table.append([], {0: 200})
    assert station.archived() == 0
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))


def test_positions_outlive_checkpoints_and_the_commits_before_them(tmp_path: Path) -> None:
    station = Station(tmp_path, settings=Lake(keep=type(Lake().keep)(1000)))
    for number in range(60):
        station.readings(number * 2, 2)
        station.archived()
    log = tmp_path / "lake/readings/_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))
    table = station.tables.open("readings")
    assert table is not None
    newest = max(int(path.name[:20]) for path in log.glob("*.checkpoint.parquet"))
    for path in log.glob("*.json"):
        if int(path.name.split(".")[0]) < newest:
            path.unlink()
    station.restarted()
    station.readings(120, 2)
    assert station.archived() == 2
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))
    found = DeltaTable(tmp_path / "lake/readings")
    assert (found.count(), found.transaction_version("qanat/0")) == (122, 122)
    station.log.close()
