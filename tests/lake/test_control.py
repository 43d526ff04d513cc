"""`plan`, `apply` and `replay` of a stream that is archived."""

from __future__ import annotations

import pytest

from qanat.control import Changes, Replay, StreamStage, Window, apply, diff, is_change, read_actual
from qanat.control.render import render
from qanat.errors import ArchiveError, ConfigError
from qanat.sql import compile_script
from qanat.sql.embedded import Engine, EngineOptions
from tests.lake.conftest import DAY_ONE, READINGS, Station

OFF = READINGS.replace("'archive' = 'true', 'archive.sort' = 'sensor'", "'archive' = 'false'")


def stage_of(station: Station, sql: str) -> StreamStage:
    (stage,) = diff(compile_script(sql), read_actual(station.log, ()))
    assert isinstance(stage, StreamStage)
    return stage


def applied(station: Station, sql: str) -> None:
    program = compile_script(sql)
    apply(program, station.log, diff(program, read_actual(station.log, ())), Changes())


def test_the_archiver_is_no_pipeline_that_somebody_has_removed(station: Station) -> None:
    station.readings(0, 10)
    station.archived()
    assert not is_change(stage_of(station, READINGS))


def test_a_plan_says_what_becomes_of_the_archive(station: Station) -> None:
    (said,) = stage_of(station, OFF).changes
    assert "archive was on, is off" in said
    (said,) = stage_of(station, READINGS.replace("'sensor'", "'v, sensor'")).changes
    assert said == "archive.sort was sensor, is v, sensor: of files that are written from now on"
    station.redeclare(OFF)
    stage = stage_of(station, READINGS)
    assert "archive was off, is on" in render([stage])


def test_apply_lets_go_of_what_held_back_retention(station: Station) -> None:
    retained = OFF.replace("WITH (", "WITH ('retention' = '1 s', ")
    station.readings(0, 10)
    applied(station, retained)
    assert station.log.positions("lake:readings") == {}
    assert station.log.maintain(DAY_ONE + 10**9) == {"readings": 10}


def test_an_archive_that_is_wanted_again_goes_on_where_it_ended(station: Station) -> None:
    station.readings(0, 10)
    station.archived()
    applied(station, OFF.replace("WITH (", "WITH ('retention' = '1 s', "))
    station.readings(10, 10)
    station.log.maintain(DAY_ONE + 10**9)
    station.redeclare(READINGS)
    station.readings(20, 10)
    station.restarted()
    assert station.archived() == 10
    found = [n for chunk in station.read(("readings", 0)) for n in chunk.rows["v"].to_pylist()]
    assert found == [*range(10), *range(20, 30)]


def test_replay_refuses_a_stream_that_is_archived(station: Station) -> None:
    sql = f"""CREATE TABLE inputs (sensor STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts);
    {READINGS};
    INSERT INTO readings SELECT sensor, v, ts FROM inputs;"""
    program = compile_script(sql)
    applied(station, sql)
    engine = Engine(program, station.log, EngineOptions())
    engine.run()
    with pytest.raises(ConfigError, match="readings is archived") as caught:
        Replay(program, station.log, "readings", Window(), live=True, rows=100)
    assert "'archive' = 'false'" in str(caught.value.hint)


def test_an_archive_from_before_a_replay_is_not_gone_on_with(station: Station) -> None:
    sql = f"""CREATE TABLE inputs (sensor STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts);
    {READINGS};
    INSERT INTO readings SELECT sensor, v, ts FROM inputs;"""
    applied(station, sql)
    station.readings(0, 10)
    station.archived()
    off = sql.replace("'archive' = 'true', 'archive.sort' = 'sensor'", "'archive' = 'false'")
    applied(station, off)
    program = compile_script(off)
    Engine(program, station.log, EngineOptions()).run()
    Replay(program, station.log, "readings", Window(), live=True, rows=100).run()
    applied(station, sql)
    station.restarted()
    with pytest.raises(ArchiveError, match="before it was replayed"):
        station.archived()
