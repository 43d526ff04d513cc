"""SELECT over the log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from qanat.errors import LogCorruptError, SqlError, UnsupportedError
from qanat.log import open_log
from qanat.log.base import Append, Chunk, Log, Place, StreamStatus, Transaction
from qanat.model.arrow import schema_of
from qanat.model.streams import Column, Stream
from qanat.model.types import BIGINT, BOOLEAN, BYTES, DATE, STRING, TIMESTAMP, TIMESTAMP_LTZ, Kind, Type, array, decimal
from qanat.query import Query

from .conftest import READINGS, append

WRITER = Path(__file__).with_name("writer.py")


class Watched:
    """A log that notes what is read, and can fail."""

    def __init__(self, log: Log) -> None:
        self.log, self.places, self.failure = log, [], None
        self.places: list[Place]
        self.failure: Exception | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        self.places.append(place)
        if self.failure:
            raise self.failure
        return self.log.read(place, offset, max_rows)


def test_tables_are_streams(log: Log) -> None:
    query = Query.over(log)
    answer = query.table("SELECT client_id, count(*) AS n, sum(v) AS s FROM readings GROUP BY 1 ORDER BY 1")
    assert answer.to_pylist()[0] == {"client_id": "c0", "n": 4, "s": pytest.approx(6.2)}
    assert query.table("SELECT * FROM readings").schema.names == ["client_id", "v"]
    assert query.table("SELECT count(*) AS n FROM dead_letters").to_pylist() == [{"n": 0}]
    assert [row["name"] for row in query.table("SHOW TABLES").to_pylist()] == ["dead_letters", "readings"]
    joined = "WITH a AS (FROM readings) SELECT count(*) AS n FROM a JOIN readings b USING (client_id)"
    assert query.table(joined).to_pylist() == [{"n": 48}]


def test_parameters_and_batches(log: Log) -> None:
    query = Query.over(log)
    assert query.table("SELECT v FROM readings WHERE v > ? ORDER BY v", [4.05]).num_rows == 3
    batches: Iterator[pa.RecordBatch] = query.batches("FROM readings")
    assert sum(batch.num_rows for batch in batches) == 12
    assert query.streams()["readings"] == schema_of((column.name, column.type) for column in READINGS.columns)


def test_only_the_streams_that_the_sql_names_are_read(log: Log) -> None:
    watched = Watched(log)
    query = Query.over(watched)
    query.table("SELECT max(v) FROM readings")
    assert {stream for stream, _ in watched.places} == {"readings"}
    watched.places.clear()
    query.table("SELECT 1")
    assert watched.places == []


def test_a_query_sees_one_moment(log: Log) -> None:
    class Growing(Watched):
        def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
            append(self.log, 2 + place[1])
            return super().read(place, offset, max_rows)

    query = Query.over(Growing(log))
    counts = "SELECT (SELECT count(*) FROM readings) AS a, (SELECT count(*) + 0 FROM readings) AS b"
    assert query.table(counts).to_pylist() == [{"a": 12, "b": 12}]
    assert query.table(counts).to_pylist() != [{"a": 12, "b": 12}]


def test_rows_older_than_a_column_have_null_there(log: Log) -> None:
    log.create(replace(READINGS, columns=(*READINGS.columns, Column("unit", STRING))))
    assert Query.over(log).table("SELECT DISTINCT unit FROM readings").to_pylist() == [{"unit": None}]


def test_every_type() -> None:
    types = [
        BIGINT, BOOLEAN, BYTES, DATE, TIMESTAMP, TIMESTAMP_LTZ, Type(Kind.TIME), Type(Kind.TINYINT), decimal(38, 9),
        array(array(BOOLEAN)), Type(Kind.ROW, fields=(("a", BIGINT),)), Type(Kind.MAP, key=STRING, element=BIGINT),
    ]  # fmt: skip
    columns = tuple(Column(f"c{place}", kind) for place, kind in enumerate(types))
    schema = schema_of((column.name, column.type) for column in columns)
    log = open_log("memory://")
    log.create(Stream("all_types", columns))
    rows = pa.RecordBatch.from_pylist([dict.fromkeys(schema.names), {"c0": 1, "c11": [("k", 1)]}], schema=schema)
    log.submit(Transaction([Append("all_types", 0, rows, at=0)])).result()
    assert Query.over(log).table("FROM all_types").to_pylist() == rows.to_pylist()


ERRORS = [
    ("SELEC 1", 'query:1:1: Parser Error: syntax error at or near "SELEC"\n  SELEC 1\n  ^'),
    ("SELECT *\nFROM reading", "query:2:6: no stream reading; did you mean readings?\n  FROM reading\n       ^\n"),
    ("FROM elsewhere", "hint: the streams are: dead_letters, readings"),
    ("SELECT\n  nope FROM readings", 'query:2:3: Binder Error: Referenced column "nope" not found'),
    ("SELECT " + "1 + " * 60 + "nope FROM readings", "query:1:248: Binder Error"),
    ("SELECT CAST(client_id AS INT) FROM readings", "Conversion Error: Could not convert string 'c"),
    ("SELECT 1; SELECT 2", "expected one statement, found 2"),
    ("", "expected one statement, found 0"),
    ("FROM 'secrets.csv'", "a query reads no files: secrets.csv"),
]


@pytest.mark.parametrize(("sql", "text"), ERRORS)
def test_errors_point_at_the_place(log: Log, sql: str, text: str) -> None:
    with pytest.raises(SqlError) as caught:
        Query.over(log).table(sql)
    assert text in str(caught.value)


@pytest.mark.parametrize("sql", ["CREATE TABLE t AS SELECT 1", "COPY readings TO 'x'", "SET threads = 1", "INSTALL x"])
def test_a_query_only_reads(log: Log, sql: str) -> None:
    with pytest.raises(UnsupportedError, match="a query only reads"):
        Query.over(log).table(sql)


def test_python_variables_are_no_tables(log: Log) -> None:
    hidden = pa.table({"a": [1]})
    with pytest.raises(SqlError, match="no stream hidden"):
        Query.over(log).table("FROM hidden")
    assert hidden.num_rows == 1


def test_errors_of_the_log_come_as_they_are(log: Log) -> None:
    watched = Watched(log)
    watched.failure = LogCorruptError("page 7")
    with pytest.raises(LogCorruptError, match="page 7"):
        Query.over(watched).table("FROM readings")


def test_a_stopped_project(url: str) -> None:
    with Query(url) as query:
        assert query.table("SELECT count(*) AS n FROM readings").to_pylist() == [{"n": 12}]


def test_while_another_process_writes(url: str) -> None:
    with subprocess.Popen([sys.executable, WRITER, url, "200"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"began\n"
        counts = []
        with Query(url) as query:
            while writer.poll() is None:
                counts.append(query.table("SELECT count(*) AS n FROM readings").column(0)[0].as_py())
            counts.append(query.table("SELECT count(*) AS n FROM readings").column(0)[0].as_py())
    assert counts == sorted(counts)
    assert counts[0] >= 13
    assert counts[-1] == 212


def test_status_is_asked_once_a_query(log: Log) -> None:
    class Counting(Watched):
        asked = 0

        def status(self) -> dict[str, StreamStatus]:
            self.asked += 1
            return self.log.status()

    counting = Counting(log)
    Query.over(counting).table("SELECT 1 FROM readings a, readings b")
    assert counting.asked == 1
