"""Live and archived rows as one table: none is missing and none is there twice, whatever archiving and retention do."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qanat.errors import ArchiveError
from qanat.log.archive import EVERYTHING, Bounds, Cut, Pieces
from qanat.log.base import Chunk, Place
from qanat.query import Query

from .farm import BEGIN, DAY, Farm, stream_of

TOTAL = "SELECT count(*) AS n, sum(v) AS s, count(DISTINCT v) AS d FROM readings"


def total(query: Query, sql: str = TOTAL) -> tuple[Any, ...]:
    (row,) = query.table(sql).to_pylist()
    return tuple(row.values())


def expected(rows: int) -> tuple[Any, ...]:
    return rows, float(sum(range(rows))), rows


def test_rows_of_log_and_lake_are_one_table(farm: Farm) -> None:
    query = farm.query()
    farm.readings(0, 100)
    assert total(query) == expected(100)
    assert farm.archived() == 100
    farm.readings(100, 150)
    assert total(query) == expected(150)
    assert farm.expired() == 100
    assert total(query) == expected(150)
    farm.archived()
    farm.expired()
    assert farm.log.status()["readings"].rows == 0
    assert total(query) == expected(150)


def test_answers_have_the_same_columns_and_types_wherever_the_rows_lie(farm: Farm) -> None:
    farm.readings(0, 20)
    query = farm.query()
    everything = "FROM readings ORDER BY v"
    live = query.table(everything)
    farm.archived()
    both = query.table(everything)
    farm.expired()
    old = query.table(everything)
    assert live == both == old
    assert live.schema.names == ["sensor", "v", "ts"]


class Watched:
    """An archive that does something just before or after a cut or the choice of files, and notes bounds."""

    def __init__(self, farm: Farm) -> None:
        self.farm, self.bounds = farm, []
        self.bounds: list[Bounds]
        self.files: list[int] = []

    def streams(self) -> Sequence[str]:
        return self.farm.archive.streams()

    def cut(self, stream: str) -> Cut | None:
        return self.farm.archive.cut(stream)

    def pieces(self, cut: Cut, bounds: Bounds = EVERYTHING) -> Pieces:
        self.bounds.append(bounds)
        found = self.farm.archive.pieces(cut, bounds)
        self.files.append(len(found.files))
        return found

    def read(self, cut: Cut, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        return self.farm.archive.read(cut, place, offset, max_rows)


def test_archiving_and_retention_between_cut_and_log(farm: Farm) -> None:
    class Moving(Watched):
        moves = 3

        def cut(self, stream: str) -> Cut | None:
            found = super().cut(stream)
            if self.moves:
                self.moves -= 1
                rows = total_rows(farm)
                farm.readings(rows, rows + 10)
                farm.archived()
                farm.expired()
                farm.readings(rows + 10, rows + 15)
            return found

    farm.readings(0, 40)
    farm.archived()
    moving = Moving(farm)
    seen = total(farm.query(archive=moving))
    assert moving.moves < 3
    assert seen == expected(seen[0])
    assert seen[0] >= 40


def total_rows(farm: Farm) -> int:
    return sum(farm.log.status()["readings"].ends.values())


def test_retention_while_the_log_is_read(farm: Farm) -> None:
    farm.readings(0, 60)
    farm.archived()
    farm.readings(60, 80)

    class Expiring:
        done = False

        def __getattr__(self, name: str) -> Any:
            return getattr(farm.log, name)

        def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
            if not self.done:
                self.done = True
                farm.archived()
                assert farm.expired() > 0
            return farm.log.read(place, offset, max_rows)

    log: Any = Expiring()
    query = Query.over(log, archive=farm.archive)
    assert total(query) == expected(80)
    assert log.done


def test_files_that_are_rewritten_and_deleted_while_they_are_chosen(farm: Farm) -> None:
    for start in range(0, 60, 10):
        farm.readings(start, start + 10)
        farm.archived()

    class Rewriting(Watched):
        done = False

        def pieces(self, cut: Cut, bounds: Bounds = EVERYTHING) -> Pieces:
            found = super().pieces(cut, bounds)
            if not self.done:
                self.done = True
                assert farm.compacted(vacuum=True) == 1
            return found

    rewriting = Rewriting(farm)
    assert total(farm.query(archive=rewriting)) == expected(60)
    assert rewriting.files[0] > rewriting.files[-1]


def test_files_that_are_gone_for_good_are_told(farm: Farm) -> None:
    farm.readings(0, 10)
    farm.archived()
    for path in (farm.folder / "lake").rglob("*.parquet"):
        path.unlink()
    with pytest.raises(ArchiveError, match="cannot be read"):
        total(farm.query())


def test_rows_that_were_never_archived_and_are_gone_are_no_reason_to_wait(tmp_path: Path) -> None:
    """A stream whose first rows retention had deleted before it was archived."""
    farm = Farm(tmp_path)
    plain = "CREATE TABLE readings (sensor STRING, v DOUBLE, ts TIMESTAMP(3)) WITH ('retention' = '1 s')"
    farm.close()
    farm = Farm(tmp_path / "other", plain)
    farm.readings(0, 10, step=10)
    farm.expired()
    farm.redeclare(plain.replace("WITH (", "WITH ('archive' = 'true', "))
    farm.archiver.prepare()
    farm.readings(10, 20, step=10)
    farm.streams["readings"] = farm.log.status()["readings"].stream
    assert total(farm.query(), "SELECT count(*), min(v) FROM readings") == (10, 10.0)
    farm.archived()
    farm.expired()
    assert total(farm.query(), "SELECT count(*), min(v) FROM readings") == (10, 10.0)
    farm.close()


def test_only_files_and_appends_within_the_bounds_are_read(farm: Farm) -> None:
    farm.readings(0, 240, seconds=3600)  # ten days
    farm.archived()
    farm.expired()
    farm.readings(240, 480, seconds=3600)
    watched = Watched(farm)
    reads: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(farm.log, name)

        def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
            found = farm.log.read(place, offset, max_rows)
            reads.append(sum(chunk.rows.num_rows for chunk in found))
            return found

    log: Any = Counting()
    query = Query.over(log, archive=watched)
    total(query)  # now its connection may read the folder
    watched.bounds.clear()
    watched.files.clear()
    day = "sensor = 's1' AND ts >= '2026-01-03' AND ts < TIMESTAMP '2026-01-04'"
    assert total(query, f"SELECT count(*), min(v) FROM readings WHERE {day}") == (8, 49.0)
    (bounds,) = watched.bounds
    assert bounds.equal == {"sensor": frozenset({"s1"})}
    assert BEGIN + 2 * DAY - 1 <= bounds.since <= BEGIN + 2 * DAY  # type: ignore[operator]
    assert BEGIN + 3 * DAY <= bounds.until <= BEGIN + 3 * DAY + 1  # type: ignore[operator]
    assert watched.files == [2]  # the day and, since strict bounds are loosened, its neighbour
    reads.clear()
    assert total(query, "SELECT count(*) FROM readings WHERE ts >= '2026-01-20'") == (24,)
    assert sum(reads) < 40


STATE = """CREATE TABLE state (k STRING, n BIGINT, ts TIMESTAMP(3), PRIMARY KEY (k) NOT ENFORCED,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('archive' = 'true', 'retention' = '1 s')"""


def test_the_latest_row_of_a_key_is_found_over_log_and_lake(tmp_path: Path) -> None:
    farm = Farm(tmp_path, replace(stream_of(STATE), upsert=True))
    query = farm.query()

    def put(day: int, *rows: tuple[str, int] | tuple[str, int, int]) -> None:
        names = ("k", "n", "__op")
        farm.feed([{**dict(zip(names, row, strict=False)), "ts": BEGIN + day * DAY} for row in rows], "state")

    def seen(where: str = "true") -> list[tuple[Any, ...]]:
        return [
            tuple(row.values()) for row in query.table(f"SELECT k, n FROM state WHERE {where} ORDER BY k").to_pylist()
        ]

    put(0, ("a", 1), ("b", 1), ("c", 1))
    farm.archived()
    put(5, ("a", 2), ("c", 4, 3))
    assert seen() == [("a", 2), ("b", 1)]
    farm.archived()
    farm.expired()
    assert seen() == [("a", 2), ("b", 1)]
    # a bound on another column than the key must not hide the newer row, and so bring back the older one
    assert seen("n = 1") == [("b", 1)]
    assert seen("ts < '2026-01-03'") == [("b", 1)]
    put(9, ("b", 5), ("c", 7))
    assert seen() == [("a", 2), ("b", 5), ("c", 7)]
    assert seen("n = 1") == []
    assert query.table("SELECT sum(n) AS n FROM state").to_pylist() == [{"n": 14}]
    assert seen("k = 'b'") == [("b", 5)]
    farm.close()


def test_a_column_that_came_later_is_null_in_older_files(farm: Farm) -> None:
    farm.readings(0, 10)
    farm.archived()
    farm.redeclare(
        """CREATE TABLE readings (sensor STRING, v DOUBLE, ts TIMESTAMP(3), unit STRING,
        WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
        WITH ('archive' = 'true', 'archive.sort' = 'sensor', 'partitions' = '2', 'retention' = '1 s')"""
    )
    query = farm.query()
    counts = "SELECT unit, count(*) AS n FROM readings GROUP BY 1 ORDER BY 1 NULLS FIRST"
    assert query.table(counts).to_pylist() == [{"unit": None, "n": 10}]
    farm.feed([{"sensor": "s0", "v": 10.0, "ts": BEGIN - 5 * DAY, "unit": "C"}])
    farm.feed([{"sensor": "s0", "v": 10.0, "ts": BEGIN + 5 * DAY, "unit": "C"}])
    farm.archived()
    farm.expired()
    for fresh in (query, farm.query()):  # whichever file is the first
        assert fresh.table(counts).to_pylist() == [{"unit": None, "n": 10}, {"unit": "C", "n": 2}]
        new = "SELECT count(*) AS n FROM readings WHERE unit = 'C' AND ts > '2026-01-03'"
        assert fresh.table(new).to_pylist() == [{"n": 1}]


EVERY = """CREATE TABLE everything (
  a TINYINT, b SMALLINT, c INT, d BIGINT, e FLOAT, f DOUBLE, g DECIMAL(20, 4), h BOOLEAN, i STRING, j BYTES, k DATE,
  l TIME, m TIMESTAMP(3), n TIMESTAMP(6), o TIMESTAMP(9), p TIMESTAMP_LTZ(3), q ARRAY<INT>, r ROW<x INT, y TIME>,
  s MAP<STRING, BIGINT>, t ARRAY<TIME>, u MAP<STRING, TIME>
) WITH ('archive' = 'true', 'retention' = '1 s')"""


def test_every_type_comes_back_from_the_files_as_it_was(tmp_path: Path) -> None:
    import decimal

    farm = Farm(tmp_path, EVERY)
    time, moment = dt.time(1, 2, 3, 4000), dt.datetime(2026, 1, 2, 3, 4, 5, 6000)
    values = {
        "a": 1, "b": 2, "c": 3, "d": 4, "e": 0.5, "f": 0.25, "g": decimal.Decimal("1.2345"), "h": True, "i": "ü",
        "j": b"\0x", "k": dt.date(2026, 1, 2), "l": time, "m": moment, "n": moment, "o": moment,
        "p": moment.replace(tzinfo=dt.UTC), "q": [1, None], "r": {"x": 1, "y": time}, "s": [("k", 1)],
        "t": [time, None], "u": [("k", time)],
    }  # fmt: skip
    farm.feed([values, dict.fromkeys(values)], "everything")
    query = farm.query()
    live = query.table("FROM everything")
    farm.archived()
    farm.expired()
    old = query.table("FROM everything ORDER BY a NULLS LAST")
    assert old.schema == live.schema
    assert old.to_pylist() == live.to_pylist()
    assert query.table("SELECT count(*) AS n FROM everything WHERE l = TIME '01:02:03.004'").to_pylist() == [{"n": 1}]
    farm.close()


def test_queries_while_rows_come_are_archived_and_are_deleted(farm: Farm) -> None:
    """Count and sum of every answer are those of a prefix of what was acknowledged, and of all that was before it."""
    acknowledged, ending = [0], threading.Event()
    failures: list[BaseException] = []

    def feed() -> None:
        while not ending.is_set():
            rows = acknowledged[0]
            farm.feed([{"sensor": "s0", "v": float(n), "ts": BEGIN + n} for n in range(rows, rows + 7)], at=BEGIN)
            acknowledged[0] = rows + 7

    def keep() -> None:
        turns = 0
        while not ending.is_set():
            farm.archived()
            farm.expired()
            turns += 1
            if turns % 5 == 0:
                farm.compacted(vacuum=turns % 10 == 0)

    def guarded(act: Any) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)
            ending.set()

    threads = [threading.Thread(target=guarded, args=(act,)) for act in (feed, keep)]
    for thread in threads:
        thread.start()
    query, answers = farm.query(), 0
    try:
        while answers < 60 and not ending.is_set():
            before = acknowledged[0]
            seen = total(query)
            assert seen == expected(seen[0])
            assert before <= seen[0] <= acknowledged[0] + 7
            answers += 1
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert answers == 60
    assert farm.log.status()["readings"].starts[0] > 0
