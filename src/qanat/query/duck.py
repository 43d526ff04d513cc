"""SELECT over live rows, archived rows and tables outside, run by DuckDB.

This is DuckDB's SQL over the rows that are there now, not Flink's over the rows that come: it answers and ends.
docs/design/query.md says how the parts fit together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from qanat.errors import ArchiveError, LogError, QanatError, QueryLimitError, UnsupportedError
from qanat.log import open_log
from qanat.log.archive import Archive
from qanat.log.base import Log
from qanat.model.arrow import schema_of
from qanat.model.query import QuerySettings
from qanat.query.archived import Reach
from qanat.query.as_of import NOW, AsOf
from qanat.query.connections import Allowed, Connections, connect
from qanat.query.constants import Values
from qanat.query.limits import Handle, Run
from qanat.query.mount import FoldersError, Mount, Wanted, mounted
from qanat.query.outside import Outside
from qanat.query.outside.files import FileTable
from qanat.query.reading import Reading
from qanat.query.scan import MovedError
from qanat.query.snapshot import look
from qanat.query.statements import Statements, refuse_files, sql_error

Parameters = Sequence[object] | Mapping[str, object]

_BATCH = 1 << 16
#: How often a query begins anew where what it reads was moved under it.
_TRIES = 8


class Query:
    """Queries over one log, which another process may be writing at the same time. May be used by many threads.

    Every stream is a table of its physical columns, its archived rows among them. A query sees the streams as they were
    when it began, and reads only those that it names. Raises `SqlError` for what is wrong with the SQL, `LogError` and
    `ArchiveError` for what cannot be read, `QueryLimitError` for a query that takes too much or was cancelled,
    `BackpressureError` where too many run.
    """

    def __init__(
        self,
        log_url: str,
        *,
        archive: Archive | None = None,
        tables: Mapping[str, Outside] | None = None,
        settings: QuerySettings | None = None,
    ) -> None:
        """`archive`: where older rows lie; `tables`: those outside, by name."""
        self._prepare(open_log(log_url, read_only=True), archive, tables or {}, settings or QuerySettings())
        self._owned = True

    @classmethod
    def over(
        cls,
        log: Log,
        *,
        archive: Archive | None = None,
        tables: Mapping[str, Outside] | None = None,
        settings: QuerySettings | None = None,
    ) -> Self:
        """Queries over a log that is open already, and that stays open."""
        query = cls.__new__(cls)
        query._prepare(log, archive, tables or {}, settings or QuerySettings())
        query._owned = False
        return query

    def _prepare(
        self,
        log: Log,
        archive: Archive | None,
        tables: Mapping[str, Outside],
        settings: QuerySettings,
    ) -> None:
        self._log, self._archive, self._tables, self._settings = log, archive, tables, settings
        files = [table for table in tables.values() if isinstance(table, FileTable)]
        around = [table.folder for table in files if table.is_pattern]
        alone = [table.path for table in files if not table.is_pattern]
        self._connections = Connections(settings, Allowed(around, alone))
        self._statements = Statements()
        self._reaches: dict[str, Reach] = {}

    def table(
        self, sql: str, parameters: Parameters = (), *, as_of: AsOf = NOW, handle: Handle | None = None
    ) -> pa.Table:
        """The whole answer. `as_of`: the streams as they were then; `handle`: cancels it from elsewhere."""
        run = self._run(handle)
        for last in _attempts():
            try:
                with self._answer(sql, parameters, as_of, run) as reader:
                    return pa.Table.from_batches(self._limited(reader, run), reader.schema)
            except _AGAIN as error:
                self._prepare_again(error, last=last)
        raise AssertionError("the last attempt raises")

    def batches(
        self, sql: str, parameters: Parameters = (), *, as_of: AsOf = NOW, handle: Handle | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The answer piece by piece, while it is being made; who stops early closes the iterator.

        Where what it reads is moved after the first piece, it raises `LogError` or `ArchiveError`: ask again.
        """
        run = self._run(handle)
        for last in _attempts():
            begun = False
            try:
                with self._answer(sql, parameters, as_of, run) as reader:
                    for batch in self._limited(reader, run):
                        begun = True
                        yield batch
                return
            except _AGAIN as error:
                self._prepare_again(error, last=begun or last)

    def streams(self) -> dict[str, pa.Schema]:
        """The streams that there are to query, with their declared columns."""
        statuses = self._log.status()
        return {n: schema_of((c.name, c.type) for c in status.stream.columns) for n, status in statuses.items()}

    def names(self, sql: str) -> frozenset[str]:
        """The streams and outside tables that a statement reads, for who has to decide whether it may. Runs nothing."""
        run = self._run(None)
        known = [*self._log.status(), *self._tables]
        with self._connections.lend(run) as lent:
            reading = self._statements.check(lent.connection, sql)
        return frozenset(name for name in known if reading.names(name))

    def close(self) -> None:
        """Close connections, and the log, if this object opened it."""
        self._connections.close()
        if self._owned:
            self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _prepare_again(self, error: QanatError, *, last: bool) -> None:
        """Make ready for the next attempt, or raise what was wrong with the last one."""
        if last and isinstance(error, _VanishedError):
            hint = "ask again"
            raise ArchiveError(f"files of the archive cannot be read: {error.message}", hint=hint) from error
        if last:
            raise error
        if isinstance(error, FoldersError):
            self._connections.allow(error.folders)

    def _run(self, handle: Handle | None) -> Run:
        timeout = self._settings.timeout
        return Run(None if timeout is None else timeout / 1000, handle)

    @contextmanager
    def _answer(self, sql: str, parameters: Parameters, as_of: AsOf, run: Run) -> Iterator[pa.RecordBatchReader]:
        with self._connections.lend(run) as lent:
            reading = self._statements.check(lent.connection, sql)
            values = Values(parameters, time.time_ns() // 1000)
            wanted = Wanted(reading, values, as_of, run.check)
            with mounted(lent, wanted, self._reaches) as mount, self._translated(sql, mount, run):
                self._mount(mount, reading, sql)
                reader = _relation(lent.connection, sql, parameters).to_arrow_reader(_BATCH)
                try:
                    yield reader
                finally:
                    reader.close()

    def _mount(self, mount: Mount, reading: Reading, sql: str) -> None:
        moment = look(self._log, self._archive, reading.names)
        refuse_files(reading, sql, [*moment.statuses, *self._tables])
        mount.streams(self._log, self._archive, moment)
        mount.tables(self._tables, moment.statuses)
        mount.settle()

    def _limited(self, reader: pa.RecordBatchReader, run: Run) -> Iterator[pa.RecordBatch]:
        most, rows = self._settings.max_rows, 0
        for batch in reader:
            run.check()
            rows += batch.num_rows
            if most is not None and rows > most:
                raise QueryLimitError(
                    f"the answer has more than {most:,} rows", hint="LIMIT, an aggregate, or query.max_rows"
                )
            yield batch

    @contextmanager
    def _translated(self, sql: str, mount: Mount, run: Run) -> Iterator[None]:
        """DuckDB's errors as ours; what the log or a table raised while DuckDB was reading, as it was."""
        try:
            yield
        except QanatError:
            raise
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if run.stopped:
                raise run.error() from None
            failure = mount.failure()
            if failure is not None:
                raise failure from None
            raise self._error(error, sql, mount) from None

    def _error(self, error: Exception, sql: str, mount: Mount) -> Exception:
        text = str(error)
        if "Out of Memory Error" in text:
            return QueryLimitError(
                f"the query needs more than {self._settings.memory / 1e6:,.0f} MB of memory",
                hint="read fewer rows or columns, group by less, or raise query.memory in qanat.yaml",
            )
        if mount.archived and "union_by_name" in text and mount.widen():
            return _VanishedError(text)
        if mount.archived and (
            "IO Error" in text or mount.read_by_arrow(text) or isinstance(error, duckdb.IOException)
        ):
            return _VanishedError(text)
        if isinstance(error, OSError) and not isinstance(error, pa.ArrowException):
            return LogError(f"the query could not read: {error}")
        return sql_error(text, sql, [*self._log.status(), *self._tables])


class _VanishedError(ArchiveError):
    """A file of the archive is not as it was taken to be: gone, or with other columns than the first one."""


#: After these a query begins anew.
_AGAIN = (MovedError, _VanishedError, FoldersError)


def _attempts() -> Iterator[bool]:
    """Whether it is the last one."""
    for number in range(_TRIES):
        yield number == _TRIES - 1


def _relation(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters) -> duckdb.DuckDBPyRelation:
    try:
        relation = connection.sql(sql, params=parameters or None)
    except (duckdb.CatalogException, duckdb.BinderException):
        connection.execute(sql, parameters or None).fetchall()  # fails alike, and says where
        raise
    if relation is None:
        raise UnsupportedError("the statement has no answer", sql=sql, line=1, source="query")
    return relation


def evaluate(expression: str, rows: pa.Table, name: str) -> list[object]:
    """The value of an SQL expression for each of these rows, which it may also call by `name`. Raises `SqlError`."""
    sql = f"SELECT ({expression}) FROM {name}"  # noqa: S608 - it is meant to be SQL, and reads nothing but `rows`
    connection = connect(QuerySettings(), Allowed())
    try:
        connection.register(name, rows)
        refuse_files(Statements().check(connection, sql), sql, [name])
        values: list[object] = _relation(connection, sql, ()).to_arrow_table().column(0).to_pylist()
        return values
    except duckdb.Error as error:
        raise sql_error(str(error), sql, ()) from None
    finally:
        connection.close()
