"""The session's time zone: where it is set, what it reaches, what it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from qanat.errors import SqlError, UnsupportedError
from qanat.sql import compile_script
from qanat.sql.embedded.kernels import to_polars
from qanat.sql.embedded.kernels.zones import to_instant, to_local
from qanat.sql.expressions import Call, Cast
from qanat.sql.plan import Project
from qanat.sql.zones import java_zone, zone_of

TABLE = "CREATE TABLE t (k STRING, ts TIMESTAMP_LTZ(3), wall TIMESTAMP(3), WATERMARK FOR ts AS ts);"
BERLIN = "SET 'table.local-time-zone' = 'Europe/Berlin';"


def test_the_zone_reaches_every_expression_of_a_plan() -> None:
    query = """CREATE VIEW v AS SELECT k, CAST(ts AS DATE) AS d, wall FROM t WHERE HOUR(ts) > 3;
      CREATE TABLE out_ (k STRING, at_ TIMESTAMP_LTZ(3));
      INSERT INTO out_ SELECT k, wall FROM v WHERE d > DATE '2026-01-01' UNION ALL SELECT k, wall FROM t"""
    program = compile_script(TABLE + query + ";" + BERLIN)
    zones = [one.zone for one in _calls(program.pipelines[0].root)]
    assert len(zones) >= 4
    assert set(zones) == {"Europe/Berlin"}


def _calls(part: object) -> Iterator[Call | Cast]:
    """Every call and cast in a plan, wherever it stands."""
    if isinstance(part, Call | Cast):
        yield part
    if isinstance(part, tuple):
        for one in part:
            yield from _calls(one)
    elif is_dataclass(part):
        for one in fields(part):
            yield from _calls(getattr(part, one.name))


def test_computed_columns_have_the_zone() -> None:
    script = "CREATE TABLE t (s BIGINT, day_ AS CAST(TO_TIMESTAMP_LTZ(s, 0) AS DATE)); SELECT day_ FROM t;"
    program = compile_script(BERLIN + script)
    ((_, computed),) = program.tables["t"].computed
    assert {one.zone for one in _calls(computed)} == {"Europe/Berlin"}


def test_unknown_zone() -> None:
    with pytest.raises(SqlError, match="no time zone is called Mars/Olympus"):
        compile_script("SET 'table.local-time-zone' = 'Mars/Olympus';")


def test_one_zone_for_all() -> None:
    with pytest.raises(UnsupportedError, match="Europe/Berlin and Asia/Tokyo"):
        compile_script(BERLIN + "SET 'table.local-time-zone' = 'Asia/Tokyo';")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "+330"])
def test_there_and_back(zone: str) -> None:
    """Every instant of a year, in steps of half an hour, is found again, but for the hour that comes twice."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    instants = [start + timedelta(minutes=30 * i) for i in range(365 * 48)]
    frame = pl.DataFrame({"at": pl.Series(instants, dtype=pl.Datetime("ms", "UTC"))})
    local = frame.with_columns(to_local(pl.col("at"), zone).alias("local"))
    back = local.select(
        to_instant(pl.col("local"), zone).alias("first"), to_instant(pl.col("local"), zone, late=True).alias("last")
    )
    same = (back["first"] == frame["at"]) | (back["last"] == frame["at"])
    assert same.all()
    if zone[0] not in "+-":
        expected = [one.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for one in instants]
        assert local["local"].to_list() == expected


def test_a_time_in_the_gap_moves_on() -> None:
    gap = pl.DataFrame({"t": [datetime(2026, 3, 29, 2, 30), datetime(2026, 3, 29, 1, 30), datetime(2026, 3, 29, 3, 0)]})
    found = gap.select(to_instant(pl.col("t").cast(pl.Datetime("ms")), "Europe/Berlin"))["t"].to_list()
    assert [one.hour * 60 + one.minute for one in found] == [90, 30, 60]


def test_names_of_zones() -> None:
    names = ("UTC", "Z", "GMT+01:00", "+05:30", "UTC-3", "Europe/Berlin", "PST", "EST", "nope", "../etc/passwd")
    assert [zone_of(one) for one in names] == [
        "UTC", "UTC", "+60", "+330", "-180", "Europe/Berlin", "America/Los_Angeles", "-300", None, None,
    ]  # fmt: skip
    assert [java_zone(one) for one in ("+02:00", "nope", "GMT+02:00")] == ["UTC", "UTC", "+120"]


def test_rows_of_a_column_in_a_zone() -> None:
    program = compile_script(TABLE + BERLIN + "SELECT FLOOR(ts TO DAY) AS x, CAST(ts AS STRING) AS y FROM t")
    root = program.pipelines[0].root
    assert isinstance(root, Project)
    rows = pl.DataFrame({"ts": pl.Series([datetime(2026, 7, 1, 22, 30), None], dtype=pl.Datetime("ms", "UTC"))})
    found = rows.select(to_polars(one).alias(str(i)) for i, one in enumerate(root.expressions))
    assert found["0"].to_list() == [datetime(2026, 7, 1, 22, tzinfo=UTC), None]
    assert found["1"].to_list() == ["2026-07-02 00:30:00.000", None]
