"""Streams as they were at a time of arrival or an offset, wherever their rows lie now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from qanat.errors import ConfigError
from qanat.log.base import Log
from qanat.query import AsOf, Query, parse_as_of

from .farm import BEGIN, Farm, stream_of

Step = Callable[[Farm], object]
WHERE: list[Step] = [lambda farm: None, Farm.archived, lambda farm: (farm.archived(), farm.expired())]


@pytest.mark.parametrize("step", WHERE, ids=["live", "both", "archived"])
def test_rows_that_came_later_are_left_out(farm: Farm, step: Step) -> None:
    farm.readings(0, 50)  # appends of five, at seconds 0, 5, 10, ...
    step(farm)
    farm.readings(50, 100)
    query, count = farm.query(), "SELECT count(*) AS n, max(v) AS last FROM readings"

    def seen(as_of: AsOf) -> tuple[int, float]:
        (row,) = query.table(count, as_of=as_of).to_pylist()
        return row["n"], row["last"]

    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert seen(AsOf.time(begin + dt.timedelta(seconds=20))) == (25, 24.0)
    assert seen(AsOf.time(begin + dt.timedelta(milliseconds=19_999))) == (20, 19.0)
    assert seen(AsOf.time(begin + dt.timedelta(seconds=70))) == (75, 74.0)
    assert seen(AsOf.time(begin - dt.timedelta(seconds=1))) == (0, None)
    # partition 0 has the appends 0-4, 10-14, 20-24, ...: its offset 7 is the row 12
    assert seen(AsOf(offsets={("readings", 0): 7, ("readings", 1): -1})) == (8, 12.0)
    assert seen(AsOf(offsets={("readings", 0): 7})) == (58, 99.0)
    assert seen(AsOf(BEGIN + 20_000, {("readings", 0): 7})) == (18, 19.0)
    assert seen(AsOf(offsets={("elsewhere", 0): 7})) == (100, 99.0)


@pytest.mark.parametrize("step", WHERE, ids=["live", "both", "archived"])
def test_of_an_upsert_stream_the_latest_of_what_was_there(tmp_path: Path, step: Step) -> None:
    sql = """CREATE TABLE state (k STRING, v DOUBLE, PRIMARY KEY (k) NOT ENFORCED)
      WITH ('archive' = 'true', 'retention' = '1 s')"""
    farm = Farm(tmp_path, replace(stream_of(sql), upsert=True))
    for number, rows in enumerate([{"a": 1.0, "b": 1.0}, {"a": 2.0}, {"b": 3.0}]):
        farm.feed([{"k": k, "v": v} for k, v in rows.items()], "state", at=BEGIN + number * 1000)
    step(farm)
    found = farm.query().table("FROM state ORDER BY k", as_of=AsOf(BEGIN + 1000)).to_pylist()
    assert found == [{"k": "a", "v": 2.0}, {"k": "b", "v": 1.0}]
    farm.close()


def test_without_an_archive(log: Log) -> None:
    seen = Query.over(log).table("SELECT count(*) AS n FROM readings", as_of=AsOf(2000))
    assert seen.to_pylist() == [{"n": 6}]


def test_what_may_be_written() -> None:
    assert parse_as_of(["2026-01-01T00:00:00Z"]) == AsOf(BEGIN)
    assert parse_as_of(["2026-01-01"]) == AsOf(BEGIN)
    assert parse_as_of(["2026-01-01T02:00:00+02:00", "readings/0=12", "a b/3=0"]) == AsOf(
        BEGIN, {("readings", 0): 12, ("a b", 3): 0}
    )
    for wrong in ("yesterday", "readings=3", "readings/0", ""):
        with pytest.raises(ConfigError, match="no moment"):
            parse_as_of([wrong])
