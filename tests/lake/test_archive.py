"""What readers get by the port: cuts, the files that may hold what is asked for, appends as they stood in the log."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qanat.errors import ArchiveError, UnknownStreamError
from qanat.lake import DeltaArchive, history
from qanat.lake.prune import pruned
from qanat.lake.table import File
from qanat.lake.upkeep import rewrite, rewrites
from qanat.log.archive import AT, DATE, OFFSET, PARTITION, SEQ, Bounds
from qanat.model.arrow import schema_of
from qanat.model.lake import Lake
from tests.lake.conftest import DAY, DAY_ONE, READINGS, Station, logged, same, stream_of


def days_of(station: Station, bounds: Bounds) -> list[str]:
    cut = station.archive.cut("readings")
    assert cut is not None
    return sorted(
        {Path(file).parent.name.removeprefix("__date=") for file in station.archive.pieces(cut, bounds).files}
    )


def test_a_cut_says_how_far_and_stays_what_it_was(station: Station) -> None:
    assert station.archive.cut("readings") is None
    station.readings(0, 10)
    station.archived()
    first = station.archive.cut("readings")
    assert first is not None
    assert first.ends == {0: 10}
    station.readings(10, 5)
    station.archived()
    second = station.archive.cut("readings")
    assert second is not None
    assert (second.ends, second.version > first.version) == ({0: 15}, True)
    for archive in (station.archive, DeltaArchive(station.tables, station.log)):
        assert archive.pieces(first).rows == 10
        assert archive.pieces(second).rows == 15
        assert [chunk.end for chunk in archive.read(first, ("readings", 0), 0, 10**6)] == [10]
        assert archive.read(first, ("readings", 0), 10, 10**6) == []


def test_who_is_archived(station: Station) -> None:
    assert station.archive.streams() == ["readings"]
    with pytest.raises(UnknownStreamError):
        station.archive.cut("nothing")
    station.redeclare(READINGS.replace("'archive' = 'true', 'archive.sort' = 'sensor'", "'archive' = 'false'"))
    assert station.archive.streams() == []
    assert station.archive.cut("readings") is None


def test_pieces_say_what_is_in_them(station: Station) -> None:
    station.readings(0, 10)
    station.archived()
    cut = station.archive.cut("readings")
    assert cut is not None
    pieces = station.archive.pieces(cut)
    declared = schema_of((column.name, column.type) for column in station.stream.columns)
    assert pieces.schema.names == [*declared.names, PARTITION, OFFSET, SEQ, AT, DATE]
    assert pa.schema(list(pieces.schema)[:3]).equals(declared)
    assert sum(pq.read_metadata(file).num_rows for file in pieces.files) == pieces.rows == 10


def test_dates_outside_of_the_bounds_are_left_out(station: Station) -> None:
    for day in range(4):
        station.readings(0, 20, day=day)
    station.archived()
    assert len(days_of(station, Bounds())) == 4
    assert days_of(station, Bounds(since=DAY_ONE + 2 * DAY)) == ["2026-01-03", "2026-01-04"]
    assert days_of(station, Bounds(until=DAY_ONE + DAY - 1)) == ["2026-01-01"]
    assert days_of(station, Bounds(since=DAY_ONE + DAY + 5000, until=DAY_ONE + DAY + 6000)) == ["2026-01-02"]
    # the date is right, and no file of it reaches so far
    assert days_of(station, Bounds(since=DAY_ONE + DAY + 19_002, until=DAY_ONE + DAY + 30_000)) == []
    assert days_of(station, Bounds(since=DAY_ONE + DAY + 19_000, until=DAY_ONE + DAY + 30_000)) == ["2026-01-02"]


def test_dates_count_where_files_say_nothing_of_their_times() -> None:
    files = [File(f"f{day}", day, 1, 1, 0, {}, {}) for day in range(5)]
    stream = stream_of(READINGS)
    for bounds, left in (
        (Bounds(since=2 * DAY), [2, 3, 4]),
        (Bounds(until=2 * DAY), [0, 1, 2]),
        (Bounds(since=DAY, until=2 * DAY - 1), [1]),
        (Bounds(equal={"sensor": frozenset("a")}), [0, 1, 2, 3, 4]),
    ):
        assert [one.day for one in pruned(files, stream, bounds)] == left


def test_values_that_are_in_no_file_find_none(station: Station) -> None:
    station.feed([{"sensor": "a", "v": 1.0, "ts": DAY_ONE}, {"sensor": "c", "v": 1.0, "ts": DAY_ONE}])
    station.archived()
    station.feed([{"sensor": "x", "v": 1.0, "ts": DAY_ONE + DAY}, {"sensor": None, "v": 1.0, "ts": DAY_ONE + DAY}])
    station.archived()

    def equal(column: str, *values: object) -> list[str]:
        return days_of(station, Bounds(equal={column: frozenset(values)}))

    assert equal("sensor", "b") == ["2026-01-01"]
    assert equal("sensor", "x") == ["2026-01-02"]
    assert equal("sensor", "b", "x") == ["2026-01-01", "2026-01-02"]
    assert equal("sensor", "z") == []
    # what cannot be compared, or is not known of the files, leaves nothing out
    assert len(equal("sensor", 7)) == 2
    assert len(equal("v", 99.0)) == 2
    assert len(equal("nothing", 99.0)) == 2


@pytest.mark.parametrize(
    ("kind", "watermark", "unit"),
    [
        ("BIGINT", "ts AS TO_TIMESTAMP_LTZ(t, 3), WATERMARK FOR ts AS ts", 1),
        ("INT", "ts AS TO_TIMESTAMP_LTZ(t, 0), WATERMARK FOR ts AS ts", 1000),
        ("DOUBLE", "ts AS TO_TIMESTAMP_LTZ(CAST(t AS BIGINT), 0), WATERMARK FOR ts AS ts", 1000),
        ("TIMESTAMP_LTZ(3)", "WATERMARK FOR t AS t", None),
    ],
)
def test_event_times_of_every_kind_make_dates(tmp_path: Path, kind: str, watermark: str, unit: int | None) -> None:
    station = Station(tmp_path, f"CREATE TABLE readings (t {kind}, {watermark}) WITH ('archive' = 'true')")
    for time in (DAY_ONE, DAY_ONE + DAY - 1000, DAY_ONE + DAY, -1000):
        station.feed([{"t": time if unit is None else time / unit if kind == "DOUBLE" else time // unit}])
    station.archived()
    assert days_of(station, Bounds()) == ["1969-12-31", "2026-01-01", "2026-01-02"]
    assert days_of(station, Bounds(since=DAY_ONE, until=DAY_ONE + DAY - 1000)) == ["2026-01-01"]
    station.log.close()


def test_a_stream_without_event_time_has_dates_of_arrival(tmp_path: Path) -> None:
    station = Station(tmp_path, "CREATE TABLE readings (a INT) WITH ('archive' = 'true')")
    station.feed([{"a": 1}], at=DAY_ONE)
    station.feed([{"a": 2}], at=DAY_ONE + DAY)
    station.archived()
    assert days_of(station, Bounds()) == ["2026-01-01", "2026-01-02"]
    assert len(days_of(station, Bounds(since=DAY_ONE + 5 * DAY))) == 2
    station.log.close()


def test_times_from_no_calendar_are_kept_and_found(tmp_path: Path) -> None:
    station = Station(
        tmp_path,
        "CREATE TABLE readings (t BIGINT, ts AS TO_TIMESTAMP_LTZ(t, 3), WATERMARK FOR ts AS ts) "
        "WITH ('archive' = 'true')",
    )
    ends = (-(2**63), 2**63 - 1)
    for time in ends:
        station.feed([{"t": time}])
    station.archived()
    assert days_of(station, Bounds()) == ["0001-01-01", "9999-12-31"]
    assert days_of(station, Bounds(since=10**17)) == ["9999-12-31"]
    assert days_of(station, Bounds(until=-(10**17))) == ["0001-01-01"]
    same(station.read(("readings", 0)), logged(station.log, ("readings", 0)))
    station.log.close()


@pytest.mark.parametrize("step", [1, 7, 10**6])
@pytest.mark.parametrize("rows", [10, 10**6])
def test_appends_come_back_whole_and_in_order(
    station: Station, monkeypatch: pytest.MonkeyPatch, step: int, rows: int
) -> None:
    monkeypatch.setattr(history, "_ROWS", rows)
    monkeypatch.setattr(history, "_LEAST", rows)
    for number in range(4):
        station.readings(number * 60, 60, appends=number + 1, day=number % 2)
        station.archived()
    same(station.read(("readings", 0), step), logged(station.log, ("readings", 0)))
    table = station.tables.open("readings")
    assert table is not None
    for chosen in rewrites(table.files(), 1 << 27, DAY_ONE, all_dates=True):
        rewrite(table, station.stream, chosen, 1 << 27)
    same(station.read(("readings", 0), step), logged(station.log, ("readings", 0)))


@pytest.mark.parametrize("offset", [0, 1, 19, 20, 21, 50, 59])
def test_a_read_in_the_middle_of_an_append(station: Station, offset: int) -> None:
    station.readings(0, 60, appends=3)
    station.archived()
    cut = station.archive.cut("readings")
    assert cut is not None
    expected = station.log.read(("readings", 0), offset, 5)
    same(station.archive.read(cut, ("readings", 0), offset, 5), expected)
    same(DeltaArchive(station.tables, station.log).read(cut, ("readings", 0), offset, 5), expected)


UPSERTS = """CREATE TABLE readings (k STRING, v INT, PRIMARY KEY (k) NOT ENFORCED)
WITH ('archive' = 'true', 'compact' = 'true', 'partitions' = '2')"""


def test_an_upsert_stream_is_archived_as_changes(tmp_path: Path) -> None:
    station = Station(tmp_path, UPSERTS)
    for number in range(20):
        station.feed(
            [{"k": f"k{n % 4}", "v": number, "__op": 3 if n == number else None} for n in range(6)], number % 2
        )
    assert station.log.maintain(DAY_ONE) == {}  # compaction waits, too
    station.archived()
    before = [logged(station.log, ("readings", number)) for number in range(2)]
    assert station.log.maintain(DAY_ONE)["readings"] > 100
    for number in range(2):
        same(station.read(("readings", number)), before[number])
    cut = station.archive.cut("readings")
    assert cut is not None
    assert "__op" in station.archive.pieces(cut).schema.names
    station.log.close()


def test_gaps_of_a_compacted_log_stay_gaps(tmp_path: Path) -> None:
    station = Station(tmp_path, UPSERTS.replace("'archive' = 'true', ", ""))
    for number in range(20):
        station.feed([{"k": f"k{n % 4}", "v": number} for n in range(6)])
    station.feed([{"k": "last", "v": 1}])
    station.log.maintain(DAY_ONE)
    station.redeclare(UPSERTS)
    station.restarted()
    station.archived()
    expected = logged(station.log, ("readings", 0))
    assert sum(chunk.rows.num_rows for chunk in expected) < 20
    found = station.read(("readings", 0))
    assert [(c.offset, c.seq, c.rows.to_pylist()) for c in found] == [
        (c.offset, c.seq, c.rows.to_pylist()) for c in expected
    ]
    station.log.close()


def test_a_file_that_is_gone_is_told(station: Station) -> None:
    station.readings(0, 10)
    station.archived()
    cut = station.archive.cut("readings")
    assert cut is not None
    for file in station.archive.pieces(cut).files:
        Path(file).unlink()
    with pytest.raises(ArchiveError, match="cannot read"):
        station.archive.read(cut, ("readings", 0), 0, 10)


def test_large_commits_are_cut(tmp_path: Path) -> None:
    station = Station(tmp_path, settings=Lake(rows=50))
    station.readings(0, 500, appends=50)
    assert station.archived() == 500
    cut = station.archive.cut("readings")
    assert cut is not None
    assert len(station.archive.pieces(cut).files) == 10
    station.log.close()


def test_a_cut_that_is_taken_again_sees_what_came_also_where_delta_has_tidied_its_log(station: Station) -> None:
    station.readings(0, 1)
    station.archived()
    first = station.archive.cut("readings")
    assert first is not None
    assert station.archive.cut("readings") == first
    for number in range(1, 56):  # a checkpoint is among them
        station.readings(number, 1)
        station.archived()
    log = station.folder / "lake/readings/_delta_log"
    commits = sorted(log.glob("*.json"))
    for path in commits[:50]:
        path.unlink()
    again = station.archive.cut("readings")
    assert again is not None
    assert (again.ends, again.version) == ({0: 56}, int(commits[-1].stem))
