"""SELECT over the log, run by DuckDB: `Query("sqlite:///project/log").table("SELECT ... FROM readings")`.

This is DuckDB's SQL over the rows that are stored now, not Flink's over the rows that come: it answers and ends.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from qanat.errors import LogError, QanatError, SqlError, UnsupportedError
from qanat.log import open_log
from qanat.log.base import Log
from qanat.query.scan import StreamScan, scans

Parameters = Sequence[object] | Mapping[str, object]

_SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET python_enable_replacements = false",  # Python's variables are no tables
    "SET enable_external_access = false",  # nor are files: a query reads the log only
)
_READING = frozenset({"SELECT", "EXPLAIN"})
_PLACE = re.compile(r"\n\nLINE (\d+): (.*)\n( *)\^", re.DOTALL)
_UNKNOWN_TABLE = re.compile(r"Table with name (.+?) does not exist")
_BATCH = 1 << 16


class Query:
    """Queries over one log, which another process may be writing at the same time.

    Every stream is a table of its physical columns. A query sees the streams as they were when it began, and reads
    only those that it names. Raises `SqlError` for what is wrong with the SQL, `LogError` for the log.
    """

    def __init__(self, log_url: str) -> None:
        self._log = open_log(log_url, read_only=True)
        self._owned = True

    @classmethod
    def over(cls, log: Log) -> Self:
        """Queries over a log that is open already, and that stays open."""
        query = cls.__new__(cls)
        query._log, query._owned = log, False
        return query

    def table(self, sql: str, parameters: Parameters = ()) -> pa.Table:
        """The whole answer."""
        with self._running(sql, parameters) as reader:
            return reader.read_all()

    def batches(self, sql: str, parameters: Parameters = ()) -> Iterator[pa.RecordBatch]:
        """The answer piece by piece, while the log is being read."""
        with self._running(sql, parameters) as reader:
            yield from reader

    def streams(self) -> dict[str, pa.Schema]:
        """What there is to query."""
        return {name: scan.schema for name, scan in scans(self._log, self._log.status()).items()}

    def close(self) -> None:
        """Close the log, if this object opened it."""
        if self._owned:
            self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _running(self, sql: str, parameters: Parameters) -> Iterator[pa.RecordBatchReader]:
        tables = scans(self._log, self._log.status())
        connection = duckdb.connect(":memory:")
        try:
            with _translated(sql, tables):
                _prepare(connection, tables)
                _check(connection, sql)
                yield _relation(connection, sql, parameters).to_arrow_reader(_BATCH)
        finally:
            connection.close()


def evaluate(expression: str, rows: pa.Table, name: str) -> list[object]:
    """The value of an SQL expression for each of these rows, which it may also call by `name`. Raises `SqlError`."""
    sql = f"SELECT ({expression}) FROM {name}"  # noqa: S608 - it is meant to be SQL, and reads nothing but `rows`
    connection = duckdb.connect(":memory:")
    try:
        with _translated(sql, {}):
            _prepare(connection, {})
            connection.register(name, rows)
            _check(connection, sql)
            values: list[object] = _relation(connection, sql, ()).to_arrow_table().column(0).to_pylist()
            return values
    finally:
        connection.close()


def _prepare(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, StreamScan]) -> None:
    for setting in _SETTINGS:
        connection.execute(setting)
    for name, scan in tables.items():
        connection.register(name, scan)


def _check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """One statement, and one that only reads."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise SqlError(f"expected one statement, found {len(statements)}", sql=sql, line=1, source="query")
    kind = statements[0].type.name
    if kind not in _READING:
        hint = "SELECT ... FROM stream; streams are written by pipelines, MQTT and HTTP"
        raise UnsupportedError(f"{kind}: a query only reads", sql=sql, line=1, source="query", hint=hint)


def _relation(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters) -> duckdb.DuckDBPyRelation:
    try:
        relation = connection.sql(sql, params=parameters or None)
    except (duckdb.CatalogException, duckdb.BinderException):
        connection.execute(sql, parameters or None)  # fails alike, and says where
        raise
    if relation is None:
        raise UnsupportedError("the statement has no answer", sql=sql, line=1, source="query")
    return relation


@contextmanager
def _translated(sql: str, tables: Mapping[str, StreamScan]) -> Iterator[None]:
    """DuckDB's errors as ours; what the log raised while DuckDB was reading, as it was."""
    try:
        yield
    except QanatError:
        raise
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        for scan in tables.values():
            for failure in scan.failures:
                raise failure from None
        if isinstance(error, OSError) and not isinstance(error, pa.ArrowException):
            raise LogError(f"the query could not read: {error}") from error
        raise _sql_error(str(error), sql, tables) from None


def _sql_error(text: str, sql: str, names: Iterable[str]) -> SqlError:
    line, column, message = _place(text, sql)
    hint = None
    unknown = _UNKNOWN_TABLE.search(message)
    if unknown is not None:
        known = sorted(names)
        near = difflib.get_close_matches(unknown[1], known, n=1)
        message = f"no stream {unknown[1]}" + (f"; did you mean {near[0]}?" if near else "")
        hint = f"the streams are: {', '.join(known)}" if known else "the log holds no streams yet"
    return SqlError(message, sql=sql, line=line, column=column, source="query", hint=hint)


def _place(text: str, sql: str) -> tuple[int | None, int | None, str]:
    """Line and column that DuckDB points at, and its message without the excerpt and the kind of error."""
    found = _PLACE.search(text)
    message = text[: found.start()] if found else text
    message = " ".join(message.split("\n\n")[0].splitlines()).strip()
    if found is None:
        return None, None, message
    number = int(found[1])
    excerpt, caret = found[2], len(found[3]) - len(f"LINE {number}: ")
    shown = excerpt.removeprefix("...").removesuffix("...")
    lines = sql.splitlines()
    whole = lines[number - 1] if 0 < number <= len(lines) else ""
    start = whole.find(shown) if excerpt.startswith("...") else 0
    skipped = 3 if excerpt.startswith("...") else 0
    return number, max(1, start + caret - skipped + 1), message
