"""Limits of a query: time, memory, rows, how many at once; and ending one from elsewhere."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from qanat.errors import BackpressureError, LogError, QueryLimitError, SqlError
from qanat.log.base import Chunk, Log, Place
from qanat.model.query import QuerySettings
from qanat.model.sections import Duration, Size
from qanat.query import Handle, Query

ENDLESS = "SELECT count(*) AS n FROM range(1000000000) a, range(1000) b WHERE (a.range * b.range) % 7 = 3"


def asked(log: Log, **settings: Any) -> Query:
    return Query.over(log, settings=QuerySettings(**settings))


def test_a_query_that_takes_too_long_is_ended(log: Log) -> None:
    query = asked(log, timeout=Duration(300))
    began = time.monotonic()
    with pytest.raises(QueryLimitError, match=r"took longer than 0\.3 s") as caught:
        query.table(ENDLESS)
    assert time.monotonic() - began < 20
    assert "query.timeout" in str(caught.value)
    assert query.table("SELECT count(*) AS n FROM readings").to_pylist() == [{"n": 12}]


def test_a_query_that_waits_for_the_log_is_ended_too(log: Log) -> None:
    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

        def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
            time.sleep(0.15)
            return log.read(place, offset, max_rows)[:1]

    slow: Any = Slow()
    with pytest.raises(QueryLimitError, match="took longer"):
        asked(slow, timeout=Duration(300)).table("SELECT count(*) FROM readings")


def test_a_query_that_needs_too_much_memory_is_ended(log: Log) -> None:
    query = asked(log, memory=Size(50_000_000))
    with pytest.raises(QueryLimitError, match="more than 50 MB of memory") as caught:
        query.table("SELECT list(range) FROM range(50000000)")
    assert "query.memory" in str(caught.value)
    assert query.table("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_an_answer_that_is_too_long_is_an_error(log: Log) -> None:
    query = asked(log, max_rows=11)
    with pytest.raises(QueryLimitError, match="more than 11 rows") as caught:
        query.table("FROM readings")
    assert "LIMIT" in str(caught.value)
    assert query.table("FROM readings LIMIT 11").num_rows == 11
    with pytest.raises(QueryLimitError):
        list(query.batches("FROM range(1000000)"))
    assert query.table("SELECT count(*) AS n FROM readings").to_pylist() == [{"n": 12}]


def test_cancelled_from_another_thread(log: Log) -> None:
    query, handle = Query.over(log), Handle()
    timer = threading.Timer(0.2, handle.cancel)
    timer.start()
    with pytest.raises(QueryLimitError, match="was cancelled"):
        query.table(ENDLESS, handle=handle)
    timer.join()
    handle.cancel()  # twice is once
    assert query.table("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_cancelled_before_it_begins(log: Log) -> None:
    handle = Handle()
    handle.cancel()
    with pytest.raises(QueryLimitError, match="was cancelled"):
        Query.over(log).table("SELECT 1", handle=handle)


def test_cancelled_with_an_asyncio_task(log: Log) -> None:
    query, handle = Query.over(log), Handle()

    async def ask() -> None:
        try:
            await asyncio.to_thread(query.table, ENDLESS, handle=handle)
        finally:
            handle.cancel()

    async def main() -> float:
        task = asyncio.create_task(ask())
        await asyncio.sleep(0.2)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        return began

    began = asyncio.run(main())  # which waits for its threads
    assert time.monotonic() - began < 20


def test_cancelled_between_two_pieces_of_the_answer(log: Log) -> None:
    query, handle = Query.over(log), Handle()
    pieces = query.batches("SELECT range AS n FROM range(100000000)", handle=handle)
    assert next(pieces).num_rows > 0
    handle.cancel()
    with pytest.raises(QueryLimitError, match="was cancelled"):
        list(pieces)


def test_who_stops_reading_gives_the_connection_back(log: Log) -> None:
    query = asked(log, connections=1, timeout=Duration(2000))
    for _ in range(3):
        pieces: Iterator[Any] = query.batches("SELECT range AS n FROM range(100000000)")
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
    assert query.table("SELECT count(*) AS n FROM readings").to_pylist() == [{"n": 12}]


def test_more_queries_than_connections_wait(log: Log) -> None:
    query = asked(log, connections=1, timeout=Duration(400))
    pieces = query.batches("SELECT range AS n FROM range(100000000)")
    next(pieces)
    with pytest.raises(BackpressureError, match="all 1 connections for queries are busy"):
        query.table("SELECT 1")
    pieces.close()  # type: ignore[attr-defined]
    assert query.table("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_many_threads_ask_at_once(log: Log) -> None:
    query = asked(log, connections=3)
    answers: list[int] = []

    def ask(number: int) -> None:
        for step in range(10):
            if step % 5 == 4:
                with pytest.raises(SqlError):
                    query.table("SELECT nothing FROM readings")
            (row,) = query.table(f"SELECT count(*) + {number} AS n FROM readings").to_pylist()
            answers.append(row["n"] - number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [12] * 80


def test_nothing_of_one_query_is_left_for_the_next(log: Log) -> None:
    query = asked(log, connections=1)
    query.table("SELECT count(*) FROM readings")
    assert query.table("SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views() "
                       "WHERE NOT internal AND view_name <> 'readings' AND view_name <> 'dead_letters'"
                       ).to_pylist() == []  # fmt: skip


def test_a_closed_query_says_so(log: Log) -> None:
    query = Query.over(log)
    query.close()
    with pytest.raises(LogError, match="closed"):
        query.table("SELECT 1")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_parquet('x.parquet')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT 1 WHERE EXISTS (FROM glob('*'))",
        "WITH a AS (FROM read_csv('x')) SELECT * FROM a",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('readings')",
        "EXPLAIN ANALYZE SELECT * FROM read_blob('x')",
        "FROM '/etc/x.parquet'",
        "FROM readings, 'x.csv'",
        "SELECT * FROM duckdb_secrets()",
        "EXPLAIN SELECT * FROM 'x.json'",
    ],
)
def test_the_users_own_sql_reads_no_files(log: Log, sql: str) -> None:
    with pytest.raises(SqlError, match=r"may not call|reads no files"):
        Query.over(log).table(sql)


def test_names_says_what_a_statement_reads(log: Log) -> None:
    query = Query.over(log)
    assert query.names("SELECT 1 FROM readings r WHERE EXISTS (SELECT 1 FROM Dead_Letters)") == {
        "readings",
        "dead_letters",
    }
    assert query.names("WITH a AS (FROM readings) FROM a") == {"readings"}
    assert query.names("SELECT 'readings'") == frozenset()
