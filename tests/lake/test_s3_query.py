"""Queries over a lake in a bucket: the same answers as over a folder, and no more files opened than are needed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from qanat.errors import ArchiveError
from qanat.lake import DeltaArchive, Tables
from qanat.lake.store import Place
from qanat.lake.upkeep import rewrite, rewrites
from qanat.log import open_log
from qanat.log.archive import EVERYTHING, Bounds, Cut, Pieces
from qanat.query import AsOf, Query
from tests.cli.conftest import Run
from tests.cli.conftest import qanat as qanat
from tests.cli.conftest import up as up
from tests.lake.conftest import DAY, DAY_ONE, KEYS, READINGS, Station

EXPIRING = READINGS.replace("'archive' = 'true'", "'archive' = 'true', 'retention' = '1 s'")
TOTAL = "SELECT count(*) AS n, sum(v) AS s, count(DISTINCT v) AS d FROM readings"
ONE_DAY = TOTAL + " WHERE ts >= TIMESTAMP '2026-01-02' AND ts < TIMESTAMP '2026-01-03'"


@pytest.fixture(autouse=True)
def no_keys_but_those_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def station(tmp_path: Path, place: Place) -> Iterator[Station]:
    made = in_bucket(tmp_path, place)
    yield made
    made.log.close()


def in_bucket(folder: Path, place: Place, sql: str = EXPIRING) -> Station:
    made = Station(folder, sql)
    made.tables = Tables(place)
    made.archive = DeltaArchive(made.tables, made.log)
    made.restarted()
    return made


def expire(station: Station) -> int:
    maintain: Any = station.log
    return sum(maintain.maintain(DAY_ONE + 1000 * DAY).values())


def compact(station: Station) -> None:
    table = station.tables.open("readings")
    assert table is not None
    for chosen in rewrites(table.files(), 1 << 27, DAY_ONE, all_dates=True):
        rewrite(table, station.stream, chosen, 1 << 27)
    table.vacuum(0)


def total(query: Query, sql: str = TOTAL) -> tuple[Any, ...]:
    (row,) = query.table(sql).to_pylist()
    return tuple(row.values())


def expected(first: int, last: int) -> tuple[Any, ...]:
    return last - first, float(sum(range(first, last))), last - first


def test_rows_of_log_and_bucket_are_one_table(station: Station) -> None:
    with Query.over(station.log, archive=station.archive) as query:
        station.readings(0, 100, appends=5)
        live = query.table("FROM readings ORDER BY v")
        assert station.archived() == 100
        assert query.table("FROM readings ORDER BY v") == live
        station.readings(100, 50)
        assert total(query) == expected(0, 150)
        assert expire(station) == 100
        assert total(query) == expected(0, 150)
        station.archived()
        expire(station)
        assert station.log.status()["readings"].rows == 0
        assert total(query) == expected(0, 150)
        assert query.table("FROM readings WHERE v < 100 ORDER BY v") == live


def test_only_files_of_the_days_asked_for_are_opened(station: Station, endpoint: str) -> None:
    for day in range(3):
        station.readings(day * 10, 10, day=day)
        station.archived()
    expire(station)
    with Query.over(station.log, archive=station.archive) as query:
        assert total(query) == expected(0, 30)
        cut = station.archive.cut("readings")
        assert cut is not None
        for url in station.archive.pieces(cut).files:
            if "__date=2026-01-02" not in url:
                httpx.delete(f"{endpoint}/{url.removeprefix('s3://')}").raise_for_status()
        assert total(query, ONE_DAY) == expected(10, 20)
        assert total(query, ONE_DAY + " AND sensor IN ('s0', 's1', 's2')") == expected(10, 20)
        with pytest.raises(ArchiveError, match="cannot be read"):
            query.table(TOTAL)


def test_conditions_and_columns_go_down_to_the_files(station: Station) -> None:
    station.readings(0, 30)
    station.archived()
    with Query.over(station.log, archive=station.archive) as query:
        sql = "EXPLAIN SELECT v FROM readings WHERE sensor = 's1' AND ts > TIMESTAMP '2026-01-01 00:00:20'"
        (plan,) = query.table(sql).column("explain_value")
    scan = " ".join(str(plan).partition("ARROW_SCAN")[2].replace("│", " ").split())
    assert "Filters: " in scan
    assert '"sensor" = ' in scan
    assert '"ts" > ' in scan
    assert "__offset" not in scan


class Moving(DeltaArchive):
    """Before files are read, the bucket has others: once."""

    def __init__(self, station: Station) -> None:
        super().__init__(station.tables, station.log)
        self.station, self.asked = station, 0

    def pieces(self, cut: Cut, bounds: Bounds = EVERYTHING) -> Pieces:
        found = super().pieces(cut, bounds)
        self.asked += 1
        if self.asked == 1:
            compact(self.station)
        return found


def test_files_that_upkeep_deletes_under_a_query_begin_it_anew(station: Station) -> None:
    for first in (0, 50):
        station.readings(first, 50)
        station.archived()
    expire(station)
    archive = Moving(station)
    with Query.over(station.log, archive=archive) as query:
        assert total(query) == expected(0, 100)
    assert archive.asked == 2


def test_nothing_is_missing_or_twice_while_rows_move(station: Station) -> None:
    station.readings(0, 20)
    wrong: list[tuple[Any, ...]] = []
    done = threading.Event()

    def ask() -> None:
        with Query.over(station.log, archive=DeltaArchive(station.tables, station.log)) as query:
            while not done.is_set():
                rows, sums, distinct = total(query)
                if (rows, sums, distinct) != expected(0, rows) or rows < 20:
                    wrong.append((rows, sums, distinct))

    thread = threading.Thread(target=ask)
    thread.start()
    for number in range(1, 12):
        station.readings(number * 20, 20)
        station.archived()
        expire(station)
        if number % 5 == 0:
            compact(station)
    done.set()
    thread.join()
    assert wrong == []


def test_as_it_was(station: Station) -> None:
    for day in range(2):
        station.readings(day * 10, 10, day=day)
        station.archived()
    station.readings(20, 10, day=2)
    with Query.over(station.log, archive=station.archive) as query:
        for rows in (5, 10, 15, 20, 25):
            as_of = AsOf(offsets={("readings", 0): rows - 1})
            assert query.table(TOTAL, as_of=as_of).to_pylist()[0]["n"] == rows
        assert query.table(TOTAL, as_of=AsOf(at=DAY_ONE + DAY + 500_000)).to_pylist()[0]["n"] == 20


def test_types_and_added_columns_come_back_as_declared(tmp_path: Path, place: Place) -> None:
    sql = """CREATE TABLE readings (
      n INT, at TIME, fine TIMESTAMP(9), zoned TIMESTAMP_LTZ(3), many ARRAY<TIMESTAMP(9)>, sums DECIMAL(10, 2),
      bytes BYTES, inner_row ROW<a INT, b TIME>, names MAP<STRING, INT>
    ) WITH ('archive' = 'true', 'retention' = '1 s')"""
    station = in_bucket(tmp_path, place, sql)
    row = {
        "at": 1000, "fine": 1_767_225_600_000_000_001, "zoned": DAY_ONE, "many": [1], "bytes": b"x",
        "inner_row": {"a": 1, "b": 2000}, "names": [("a", 1)],
    }  # fmt: skip
    station.feed([{"n": 1, **row}])
    with Query.over(station.log, archive=station.archive) as query:
        live = query.table("FROM readings")
        station.archived()
        expire(station)
        assert query.table("FROM readings") == live
        station.redeclare(sql.replace("n INT,", "n INT, later STRING,"))
        assert query.table("SELECT n, later FROM readings").to_pylist() == [{"n": 1, "later": None}]
        station.feed([{"n": 2, "later": "now", **row}])
        station.archived()
        expire(station)
        found = query.table("SELECT n, later, fine FROM readings ORDER BY n").to_pylist()
        assert [(one["n"], one["later"]) for one in found] == [(1, None), (2, "now")]
    station.log.close()


def test_the_latest_row_of_a_key(tmp_path: Path, place: Place) -> None:
    from dataclasses import replace

    from tests.lake.conftest import stream_of

    stream = replace(stream_of(EXPIRING), key=("sensor",), upsert=True)
    made = Station(tmp_path, stream=stream)
    made.tables = Tables(place)
    made.archive = DeltaArchive(made.tables, made.log)
    made.restarted()
    made.feed([{"sensor": "a", "v": 1.0, "ts": DAY_ONE}, {"sensor": "b", "v": 2.0, "ts": DAY_ONE}])
    made.archived()
    made.feed([{"sensor": "a", "v": 3.0, "ts": DAY_ONE}, {"sensor": "b", "v": 2.0, "ts": DAY_ONE, "__op": 3}])
    with Query.over(made.log, archive=made.archive) as query:
        assert total(query, "SELECT sensor, v FROM readings") == ("a", 3.0)
        made.archived()
        assert total(query, "SELECT sensor, v FROM readings") == ("a", 3.0)
    made.log.close()


# --- a project -----------------------------------------------------------------------------------------------------


@pytest.fixture
def farm(tmp_path: Path, place: Place) -> Path:
    """A project whose lake is in the bucket, and whose log has no row left."""
    folder = tmp_path / "farm"
    (folder / ".qanat").mkdir(parents=True)
    doubled = "CREATE TABLE doubled (v DOUBLE); INSERT INTO doubled SELECT v * 2 FROM readings;"
    (folder / "all.sql").write_text(f"{EXPIRING};\n{doubled}")
    endpoint = place.options["AWS_ENDPOINT_URL"]
    s3 = f"{{endpoint: '{endpoint}', access_key_env: LAKE_KEY, secret_key_env: LAKE_SECRET}}"
    (folder / "qanat.yaml").write_text(f"lake:\n  url: s3://farm/lake\n  interval: 100 ms\n  s3: {s3}\n")
    station = in_bucket(folder / ".qanat", place)
    for day in range(2):
        station.readings(day * 10, 10, day=day)
        station.archived()
    assert expire(station) == 20
    station.readings(20, 5, day=1)
    station.log.close()
    return folder


def test_qanat_query(qanat: Run, farm: Path) -> None:
    counted = "SELECT count(*) AS n, sum(v) AS s FROM readings"
    assert json.loads(qanat("query", "--json", counted, cwd=farm, **KEYS).stdout) == {"n": 25, "s": 300.0}
    for as_of, rows in (("readings/0=6", 7), ("2026-01-01T12:00:00Z", 10), ("readings/0=21", 22)):
        ended = qanat("query", "--json", "--as-of", as_of, counted, cwd=farm, **KEYS)
        assert json.loads(ended.stdout)["n"] == rows, ended
    refused = qanat("query", counted, cwd=farm, LAKE_KEY="", LAKE_SECRET="", AWS_EC2_METADATA_DISABLED="true")
    assert refused.returncode != 0 and "s3://farm/lake/readings" in refused.stderr  # noqa: PT018


def test_qanat_run_batch(qanat: Run, farm: Path) -> None:
    ended = qanat("run", "--batch", "--json", ".", cwd=farm, **KEYS)
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    found = [one["v"] for one in (row.get("row", row) for row in rows) if "v" in one]
    assert found == [2.0 * n for n in range(25)], ended


def test_queries_over_http_while_it_archives(up: Any, farm: Path) -> None:
    server = up(farm, **KEYS)
    body = {"sql": "SELECT count(*) AS n, sum(v) AS s FROM readings"}
    rows = [{"sensor": "s1", "v": n, "ts": "2026-01-03T10:00:00"} for n in range(25, 40)]
    assert httpx.post(f"{server.url}/streams/readings", json=rows).json()["accepted"] == 15
    for _ in range(10):
        answer = httpx.post(f"{server.url}/v1/query", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        assert answer.json()["rows"] == [{"n": 40, "s": 780.0}], answer.text
    assert server.stop()[0] == 0
    log = open_log(f"sqlite:///{farm}/.qanat/log.db", read_only=True)
    assert log.positions("lake:readings") == {("readings", 0): 40}
    log.close()
