"""Reading, streams and their evolution, status: over every driver."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from qanat.errors import LogError, UnknownStreamError
from qanat.log.base import Append, Transaction
from qanat.model.streams import ArrivalColumn, Column, Stream, dead_letter_stream, late_stream
from qanat.model.types import BIGINT, DOUBLE, STRING

PLACE = ("readings", 0)


def fill(log, append, *counts):
    first = 0
    for count in counts:
        log.submit(Transaction([append(first, count, at=first)])).result()
        first += count


def test_a_read_from_the_middle_gives_the_rest_of_an_append(log, append):
    fill(log, append, 5, 5)
    first, second = log.read(PLACE, 3, 100)
    assert (first.offset, first.row, first.end, first.at) == (3, 3, 5, 0)
    assert first.rows.column("id").to_pylist() == [3, 4]
    assert (second.offset, second.row, second.end, second.at) == (5, 0, 10, 5)
    assert first.seq < second.seq


def test_a_read_ends_with_the_append_that_fills_it(log, append):
    fill(log, append, 5, 5, 5)
    assert [chunk.end for chunk in log.read(PLACE, 0, 5)] == [5]
    assert [chunk.end for chunk in log.read(PLACE, 0, 6)] == [5, 10]
    assert [chunk.end for chunk in log.read(PLACE, 4, 1)] == [5]
    assert [chunk.end for chunk in log.read(PLACE, 4, 2)] == [5, 10]
    assert [chunk.end for chunk in log.read(PLACE, 0, 0)] == [5]


def test_reads_past_the_end_are_empty(log, append):
    fill(log, append, 5)
    assert log.read(PLACE, 5, 10) == []
    assert log.read(PLACE, 500, 10) == []


def test_a_place_that_is_not_there(log):
    with pytest.raises(UnknownStreamError, match="nowhere"):
        log.read(("nowhere", 0), 0, 1)
    with pytest.raises(LogError, match="2 partitions"):
        log.read(("readings", 2), 0, 1)


def test_status(log, append):
    log.submit(Transaction([append(0, 3), append(7, 2, partition=1)])).result()
    status = log.status()
    readings, meters = status["readings"], status["meters"]
    assert readings.starts == {0: 0, 1: 0}
    assert readings.ends == {0: 3, 1: 2}
    assert (readings.rows, readings.max_time) == (5, 8)
    assert readings.bytes > 0
    assert (meters.ends, meters.rows, meters.bytes, meters.max_time) == ({0: 0}, 0, 0, None)
    assert readings.stream.name == "readings"


def test_the_newest_event_time_never_goes_back(log, append):
    for first in (50, 10):
        log.submit(Transaction([append(first, 1)])).result()
    log.submit(Transaction([Append("readings", 0, append(0, 1).rows, 1)])).result()
    assert log.status()["readings"].max_time == 50


BASE = Stream("base", (Column("a", BIGINT), Column("b", STRING)), partitions=2, event_time=ArrivalColumn("a", 1000))


def test_the_same_declaration_again_does_nothing(log):
    log.create(BASE)
    log.create(replace(BASE))
    assert log.status()["base"].stream == BASE
    for stream in (dead_letter_stream(), late_stream()):
        log.create(stream)
        log.create(stream)
        assert log.status()[stream.name].stream == stream


def test_new_columns_retention_and_options_are_taken_over(log):
    log.create(BASE)
    log.submit(Transaction([Append("base", 0, pa.record_batch({"a": [1], "b": ["x"]}), 1)])).result()
    wider = replace(BASE, columns=(*BASE.columns, Column("c", DOUBLE)), retention_ms=5, options={"x": "y"})
    log.create(wider)
    assert log.status()["base"].stream == wider
    log.submit(Transaction([Append("base", 0, pa.record_batch({"a": [2], "b": ["y"], "c": [0.5]}), 1)])).result()
    log.submit(Transaction([Append("base", 0, pa.record_batch({"a": [3], "b": ["z"]}), 1)])).result()
    old, new, filled = log.read(("base", 0), 0, 10)
    assert old.rows.to_pylist() == [{"a": 1, "b": "x"}]  # as stored
    assert new.rows.to_pylist() == [{"a": 2, "b": "y", "c": 0.5}]
    assert filled.rows.to_pylist() == [{"a": 3, "b": "z", "c": None}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"columns": BASE.columns[:1]}, "column b is missing"),
        ({"columns": (Column("a", STRING), Column("b", STRING))}, "column a was BIGINT, is STRING"),
        ({"columns": (*BASE.columns, Column("c", BIGINT.with_nullable(False)))}, "new column c is NOT NULL"),
        ({"columns": (Column("a", BIGINT.with_nullable(False)), BASE.columns[1])}, "a was BIGINT, is BIGINT NOT NULL"),
        ({"key": ("a",)}, "key was"),
        ({"partitions": 3}, "partitions was 2, is 3"),
        ({"event_time": None}, "event_time was"),
        ({"compact": True}, "compact was"),
    ],
)
def test_other_changes_are_refused(log, change, said):
    log.create(BASE)
    with pytest.raises(LogError, match="base is already there") as failure:
        log.create(replace(BASE, **change))
    assert said in str(failure.value)
    assert log.status()["base"].stream == BASE
