"""A hot store in one DuckDB file of this process: `duckdb:///path`.

Rows and the number of their batch are stored in one transaction, so a batch that is there already is left alone.

One process at a time can have the file open. Within it, reading does not wait for writing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import RLock

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from qanat.errors import ConfigError, StoreError
from qanat.stores.hot import table as names
from qanat.stores.hot.base import Order
from qanat.stores.hot.rows import Batch, declared_schema, stored_schema
from qanat.stores.hot.table import Table, added, describe
from qanat.stores.hot.texts import key_text

_SETTINGS = ("SET TimeZone = 'UTC'", "SET python_enable_replacements = false", "SET preserve_insertion_order = true")
_STREAMS = "CREATE TABLE IF NOT EXISTS qanat_streams (name VARCHAR PRIMARY KEY, declared VARCHAR NOT NULL)"
_POSITIONS = """CREATE TABLE IF NOT EXISTS qanat_positions
    (stream VARCHAR, "partition" INTEGER, "end" BIGINT NOT NULL, PRIMARY KEY (stream, "partition"))"""
_INCOMING = "qanat_incoming"


def duckdb_at(rest: str, password: str | None) -> Callable[[], DuckStore]:
    """The store in the file after `duckdb:///`; `:memory:` is one that is gone with the process."""
    if not rest.startswith("/") or rest == "/":
        raise ConfigError(f"duckdb://{rest} names no file", hint="write duckdb:///relative/path or duckdb:////absolute")
    if password is not None:
        raise ConfigError("a DuckDB file has no password", hint="leave password_env out")
    return partial(DuckStore, rest[1:])


class DuckStore:
    """See `HotStore`."""

    def __init__(self, path: str) -> None:
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._tables: dict[str, Table] = {}
        self._lock = RLock()  # of the one connection that writes
        self._connection = _connect(path)

    def prepare(self, table: Table) -> None:
        """See `HotStore`."""
        _check(table)
        with self._lock, self._transaction() as connection:
            self._check_name(connection, table)
            found = connection.execute("SELECT declared FROM qanat_streams WHERE name = ?", [table.name]).fetchall()
            types = _types(connection, table)
            if not found:
                columns = ", ".join(f"{_quoted(name)} {kind}" for name, kind in types.items())
                connection.execute(f"CREATE TABLE {_quoted(table.name)} ({columns})")
                if table.stream.upsert:
                    connection.execute(f"ALTER TABLE {_quoted(table.name)} ADD PRIMARY KEY ({names.KEY})")
            for column in added(table, found[0][0]) if found else ():
                kind = types[column.name]
                connection.execute(f"ALTER TABLE {_quoted(table.name)} ADD COLUMN {_quoted(column.name)} {kind}")
            connection.execute("INSERT OR REPLACE INTO qanat_streams VALUES (?, ?)", [table.name, describe(table)])
        self._tables[table.name] = table

    def position(self, stream: str) -> Mapping[int, int]:
        """See `HotStore`."""
        with self._cursor() as cursor:
            return _positions(cursor, stream)

    def write(self, stream: str, batch: Batch) -> None:
        """See `HotStore`."""
        table = self._table(stream)
        with self._lock, self._transaction() as connection:
            position = _positions(connection, stream).get(batch.partition, 0)
            if batch.end <= position:
                return
            left = batch.after(position)
            if left.rows.num_rows:
                self._insert(connection, table, left.rows)
            connection.execute(
                "INSERT OR REPLACE INTO qanat_positions VALUES (?, ?, ?)", [stream, left.partition, left.end]
            )

    def read(
        self,
        stream: str,
        key: Sequence[object],
        *,
        since: int | None = None,
        until: int | None = None,
        limit: int = 1000,
        order: Order = "newest",
    ) -> pa.Table:
        """See `HotStore`."""
        table = self._table(stream)
        bounds = [(">=", since), ("<=", until)]
        where = "".join(f" AND {names.TIME} {sign} {int(ms)}" for sign, ms in bounds if ms is not None)
        way = "DESC" if order == "newest" else "ASC"
        by = ", ".join(f"{name} {way}" for name in (names.TIME, names.PARTITION, names.OFFSET))
        columns = ", ".join(_quoted(column.name) for column in table.columns)
        sql = f"SELECT {columns} FROM {_quoted(stream)} WHERE {names.KEY} = ?{where} ORDER BY {by} LIMIT {int(limit)}"  # noqa: S608 - names are quoted, values are numbers
        with self._cursor() as cursor:
            found = cursor.sql(sql, params=[key_text(table, key)]).to_arrow_table()
        return _declared(found, table)

    def latest(self, stream: str, key: Sequence[object]) -> pa.Table:
        """See `HotStore`."""
        return self.read(stream, key, limit=1)

    def expire(self, now_ms: int) -> None:
        """See `HotStore`."""
        for table in list(self._tables.values()):
            if table.retention_ms is not None:
                with self._lock, self._transaction() as connection:
                    connection.execute(
                        f"DELETE FROM {_quoted(table.name)} WHERE {names.TIME} < ?",  # noqa: S608 - quoted
                        [now_ms - table.retention_ms],
                    )

    def close(self) -> None:
        """See `HotStore`."""
        with self._lock:
            self._connection.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _table(self, stream: str) -> Table:
        table = self._tables.get(stream)
        if table is None:
            raise StoreError(f"stream {stream} was not prepared in this store")
        return table

    def _insert(self, connection: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table) -> None:
        connection.register(_INCOMING, rows.cast(_physical(stored_schema(table))))
        try:
            if table.stream.upsert:
                connection.execute(
                    f"DELETE FROM {_quoted(table.name)} WHERE {names.KEY} IN (SELECT {names.KEY} FROM {_INCOMING})"  # noqa: S608 - quoted
                )
            where = f" WHERE NOT {names.DELETED}" if table.stream.upsert else ""
            connection.execute(f"INSERT INTO {_quoted(table.name)} BY NAME SELECT * FROM {_INCOMING}{where}")  # noqa: S608 - quoted
        finally:
            connection.unregister(_INCOMING)

    def _check_name(self, connection: duckdb.DuckDBPyConnection, table: Table) -> None:
        """DuckDB's names of tables do not heed case."""
        found = connection.execute("SELECT name FROM qanat_streams WHERE lower(name) = lower(?)", [table.name])
        for (name,) in found.fetchall():
            if name != table.name:
                raise ConfigError(f"DuckDB holds either the stream {table.name} or {name}, which is there already")

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with _translated():
            self._connection.begin()
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with _translated():
            cursor = self._connection.cursor()
            try:
                yield cursor
            finally:
                cursor.close()


def _connect(path: str) -> duckdb.DuckDBPyConnection:
    with _translated():
        connection = duckdb.connect(path)
        try:
            for setting in (*_SETTINGS, _STREAMS, _POSITIONS):
                connection.execute(setting)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except duckdb.IOException as error:
        hint = "another process may have the file open: one at a time can"
        raise StoreError(f"DuckDB: {error}", hint=hint) from error
    except (duckdb.Error, pa.ArrowException) as error:
        raise StoreError(f"DuckDB: {error}") from error


def _positions(connection: duckdb.DuckDBPyConnection, stream: str) -> dict[int, int]:
    found = connection.execute('SELECT "partition", "end" FROM qanat_positions WHERE stream = ?', [stream]).fetchall()
    return dict(found)


def _check(table: Table) -> None:
    seen: dict[str, str] = {}
    for name in stored_schema(table).names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise ConfigError(
                f"stream {table.name}: DuckDB takes column {name} and column {other} for one",
                hint="rename one, or use a store that heeds case: clickhouse:// or cassandra://",
            )


def _types(connection: duckdb.DuckDBPyConnection, table: Table) -> dict[str, str]:
    """DuckDB's names of the columns' types. Raises `ConfigError` for one that it has no type for."""
    found = {}
    for field in _physical(stored_schema(table)):
        if pa.types.is_null(field.type):
            raise ConfigError(f"stream {table.name}: DuckDB has no type for column {field.name}")
        connection.register(_INCOMING, pa.schema([field]).empty_table())
        try:
            ((name, kind, *_),) = connection.execute(f"DESCRIBE SELECT * FROM {_INCOMING}").fetchall()  # noqa: S608 - a constant
        except duckdb.Error as error:
            raise ConfigError(f"stream {table.name}: DuckDB cannot hold column {field.name}: {error}") from error
        finally:
            connection.unregister(_INCOMING)
        found[name] = kind
    return found


def _physical(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, _kept(field.type)) for field in schema])


def _kept(kind: pa.DataType) -> pa.DataType:
    """The type that loses nothing in DuckDB: intervals, and instants in nanoseconds, are whole numbers."""
    p = pa.types
    if p.is_list(kind):
        return pa.list_(_kept(kind.value_type))
    if p.is_map(kind):
        return pa.map_(_kept(kind.key_type), _kept(kind.item_type))
    if p.is_struct(kind):
        return pa.struct([pa.field(field.name, _kept(field.type)) for field in kind])
    if p.is_duration(kind) or (p.is_timestamp(kind) and kind.tz is not None and kind.unit == "ns"):
        return pa.int64()
    return kind


def _declared(found: pa.Table, table: Table) -> pa.Table:
    schema = declared_schema(table)
    columns = []
    for field, column in zip(schema, found.columns, strict=True):
        kept = column.cast(_kept(field.type), safe=True)
        columns.append(kept if kept.type.equals(field.type) else pc.cast(kept, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
