"""Small files become few and sorted; what nobody reads any more is deleted."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from qanat.errors import ArchiveError
from qanat.lake import DeltaArchive
from qanat.lake.table import File, LakeTable
from qanat.lake.upkeep import MANY, SETTLED_MS, rewrite, rewrites
from tests.lake.conftest import Station, logged, same

MB = 1 << 20
NOW = 10**12


def file(day: int, size: int, age: int = 0) -> File:
    return File(f"f{day}-{size}-{age}", day, size, size, NOW - age, {}, {})


def table_of(station: Station) -> LakeTable:
    found = station.tables.open("readings")
    assert found is not None
    return found


def test_a_date_that_grows_is_rewritten_when_it_has_many_small_files() -> None:
    few = [file(1, MB) for _ in range(MANY - 1)]
    assert rewrites(few, 128 * MB, NOW) == []
    (chosen,) = rewrites([*few, file(1, MB)], 128 * MB, NOW)
    assert len(chosen.files) == MANY
    assert [one.day for one in rewrites(few, 128 * MB, NOW, all_dates=True)] == [1]


def test_a_date_that_no_longer_grows_is_rewritten_at_once() -> None:
    old = [file(1, MB, 2 * SETTLED_MS), file(1, 2 * MB, SETTLED_MS + 1)]
    assert [one.day for one in rewrites(old, 128 * MB, NOW)] == [1]
    assert rewrites([*old, file(1, 3 * MB)], 128 * MB, NOW) == []
    assert rewrites(old[:1], 128 * MB, NOW) == []


def test_large_files_are_left_alone() -> None:
    held = [file(1, 100 * MB, SETTLED_MS * 2), file(1, MB, SETTLED_MS * 2), file(2, 64 * MB, SETTLED_MS * 2)]
    assert rewrites(held, 128 * MB, NOW) == []


def test_rewritten_files_have_the_same_rows_sorted(station: Station) -> None:
    for number in range(6):
        station.readings(number * 500, 500, appends=3)
        station.archived()
    expected = logged(station.log, ("readings", 0))
    table = table_of(station)
    (chosen,) = rewrites(table.files(), 128 * MB, NOW, all_dates=True)
    written = rewrite(table, station.stream, chosen, 128 * MB)
    assert len(written) == 1
    (path,) = [Path(uri) for uri in DeltaTable(table.url).file_uris()]
    rows = pq.read_table(path, partitioning=None).select(["sensor", "ts"]).to_pylist()
    assert len(rows) == 3000
    assert rows == sorted(rows, key=lambda row: (row["sensor"], row["ts"]))
    same(station.read(("readings", 0)), expected)
    assert table.positions([0]) == {0: 3000}


def test_a_rewrite_cuts_files_at_their_size(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qanat.lake.upkeep.GROUP", 1000)
    for number in range(4):
        station.readings(number * 2000, 2000)
        station.archived()
    table = table_of(station)
    (chosen,) = rewrites(table.files(), 128 * MB, NOW, all_dates=True)
    written = rewrite(table, station.stream, chosen, chosen.size // 3)
    assert len(written) > 1
    assert sum(one.rows for one in written) == 8000
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))


def test_of_two_rewrites_at_the_same_time_one_fails(station: Station) -> None:
    for number in range(4):
        station.readings(number * 10, 10)
        station.archived()
    first, second = table_of(station), table_of(station)
    (chosen,) = rewrites(first.files(), 128 * MB, NOW, all_dates=True)
    rewrite(first, station.stream, chosen, 128 * MB)
    with pytest.raises(ArchiveError, match="cannot commit"):
        rewrite(second, station.stream, chosen, 128 * MB)
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))


def test_rows_are_archived_while_a_rewrite_is_under_way(station: Station) -> None:
    for number in range(4):
        station.readings(number * 10, 10)
        station.archived()
    rewriting = table_of(station)
    (chosen,) = rewrites(rewriting.files(), 128 * MB, NOW, all_dates=True)
    station.readings(40, 10)
    station.archived()
    rewrite(rewriting, station.stream, chosen, 128 * MB)
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))
    assert len(rewriting.files()) == 2


def test_vacuum_deletes_what_no_version_has_and_nothing_else(station: Station) -> None:
    for number in range(4):
        station.readings(number * 10, 10)
        station.archived()
    table = table_of(station)
    before = station.archive.cut("readings")
    (chosen,) = rewrites(table.files(), 128 * MB, NOW, all_dates=True)
    rewrite(table, station.stream, chosen, 128 * MB)
    assert table.vacuum(86_400_000) == []
    assert before is not None
    assert len(station.archive.pieces(before).files) == 4
    assert len(table.vacuum(0, dry_run=True)) == 4
    assert len(table.vacuum(0)) == 4
    assert len(list(Path(table.url).rglob("part-*.parquet"))) == 1
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))
    with pytest.raises(ArchiveError, match="cannot read"):
        DeltaArchive(station.tables, station.log).read(before, ("readings", 0), 0, 10)
