"""A hot store in ClickHouse. The statements are here; how they get there is a `Transport`: HTTP, or chdb.

Rows lie in a ReplacingMergeTree, whose sorting key ends in partition and offset: a row that is written twice is merged
into one some day, and read as one at once. Of an upsert stream the row with the highest offset of each key stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from qanat.errors import ConfigError, StoreError
from qanat.model.streams import Column
from qanat.model.types import Kind, Type
from qanat.stores.hot import table as names
from qanat.stores.hot.base import Order
from qanat.stores.hot.rows import Batch, declared_schema
from qanat.stores.hot.table import Table, added, describe
from qanat.stores.hot.texts import from_texts, key_text, to_texts

_DAY_MS = 86_400_000
#: With a retention of up to so many days, rows of one day go together; else those of thirty.
_DAILY_UP_TO = 100

_STREAMS = """CREATE TABLE IF NOT EXISTS qanat_streams (name String, declared String, number UInt64)
    ENGINE = ReplacingMergeTree(number) ORDER BY name"""
_POSITIONS = """CREATE TABLE IF NOT EXISTS qanat_positions (stream String, `partition` Int32, `end` UInt64)
    ENGINE = ReplacingMergeTree(`end`) ORDER BY (stream, `partition`)"""

#: What a column of each kind is; the others are JSON text.
_TYPES = {
    Kind.BOOLEAN: "Bool",
    Kind.TINYINT: "Int8",
    Kind.SMALLINT: "Int16",
    Kind.INT: "Int32",
    Kind.BIGINT: "Int64",
    Kind.FLOAT: "Float32",
    Kind.DOUBLE: "Float64",
    Kind.STRING: "String",
    Kind.BYTES: "String",
    Kind.DATE: "Int32",  # days since 1970: Date32 ends in 2299
    Kind.TIME: "Int32",  # ms since midnight
    Kind.INTERVAL_DAY: "Int64",
    Kind.INTERVAL_YEAR: "Int32",
}
_TEXTS = frozenset({Kind.ARRAY, Kind.MAP, Kind.ROW})
_SETTINGS = "fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 1024"


class Transport(Protocol):
    """The way to a database of ClickHouse. Raises `StoreError`. Thread-safe."""

    def run(self, sql: str) -> None:
        """A statement without an answer."""
        ...

    def select(self, sql: str, parameters: Mapping[str, str]) -> pa.Table:
        """The answer of a SELECT, String as Arrow's binary. A parameter stands as `{name:String}` in the text."""
        ...

    def insert(self, name: str, rows: pa.Table) -> None:
        """Rows into a table of these columns; of any number of its partitions."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class ClickHouseStore:
    """See `HotStore`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._tables: dict[str, Table] = {}
        try:
            for statement in (_STREAMS, _POSITIONS):
                transport.run(statement)
        except BaseException:
            transport.close()
            raise

    def prepare(self, table: Table) -> None:
        """See `HotStore`."""
        columns = {column.name: _type(table, column) for column in table.columns}
        sql = "SELECT declared, number FROM qanat_streams WHERE name = {name:String} ORDER BY number DESC LIMIT 1"
        found = self._transport.select(sql, {"name": table.name}).to_pylist()
        new: Sequence[Column] = added(table, found[0]["declared"].decode()) if found else ()
        self._transport.run(_create(table, columns))
        for column in new:
            what = f"{quoted(column.name)} {columns[column.name]} AFTER {quoted(_before(table, column))}"
            self._transport.run(f"ALTER TABLE {quoted(table.name)} ADD COLUMN IF NOT EXISTS {what}")
        if not found or new:
            number = found[0]["number"] + 1 if found else 1
            row = {"name": [table.name], "declared": [describe(table)], "number": pa.array([number], pa.uint64())}
            self._transport.insert("qanat_streams", pa.table(row))
        self._tables[table.name] = table

    def position(self, stream: str) -> Mapping[int, int]:
        """See `HotStore`."""
        sql = (
            "SELECT `partition`, max(`end`) AS upto FROM qanat_positions "
            "WHERE stream = {stream:String} GROUP BY `partition`"
        )
        found = self._transport.select(sql, {"stream": stream}).to_pylist()
        return {row["partition"]: row["upto"] for row in found}

    def write(self, stream: str, batch: Batch) -> None:
        """See `HotStore`. The number is stored after the rows: a crash in between repeats rows that are there."""
        table = self._table(stream)
        if batch.rows.num_rows:
            self._transport.insert(stream, _to_store(table, batch.rows))
        columns = {
            "stream": [stream],
            "partition": pa.array([batch.partition], pa.int32()),
            "end": pa.array([batch.end], pa.uint64()),
        }
        self._transport.insert("qanat_positions", pa.table(columns))

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
        text = key_text(table, key)
        bounds = [(">=", since), ("<=", until)]
        where = "".join(f" AND {names.TIME} {sign} {int(ms)}" for sign, ms in bounds if ms is not None)
        way = "DESC" if order == "newest" else "ASC"
        by = ", ".join(f"{name} {way}" for name in (names.KEY, names.TIME, names.PARTITION, names.OFFSET))
        # an append stream's rows are read in the order of the table, and no further than the limit goes
        final, once = (" FINAL", "") if table.stream.upsert else ("", f" LIMIT 1 BY {names.PARTITION}, {names.OFFSET}")
        columns = ", ".join(quoted(column.name) for column in table.columns)
        sql = (
            f"SELECT {columns} FROM {quoted(stream)}{final} WHERE {names.KEY} = {{key:String}}{where} "  # noqa: S608 - names are quoted, values are numbers
            f"ORDER BY {by}{once} LIMIT {int(limit)}"
        )
        return _from_store(table, self._transport.select(sql, {"key": text}))

    def latest(self, stream: str, key: Sequence[object]) -> pa.Table:
        """See `HotStore`."""
        return self.read(stream, key, limit=1)

    def expire(self, now_ms: int) -> None:
        """See `HotStore`. Whole days, or thirty of them, go at once."""
        for table in list(self._tables.values()):
            if table.retention_ms is None:
                continue
            sql = (
                f"SELECT _partition_id AS part, max({names.TIME}) AS newest FROM {quoted(table.name)} "  # noqa: S608 - quoted
                f"GROUP BY part HAVING newest < {now_ms - table.retention_ms}"
            )
            for row in self._transport.select(sql, {}).to_pylist():
                part = row["part"].decode()
                self._transport.run(f"ALTER TABLE {quoted(table.name)} DROP PARTITION ID '{part}'")

    def close(self) -> None:
        """See `HotStore`."""
        self._transport.close()

    def _table(self, stream: str) -> Table:
        table = self._tables.get(stream)
        if table is None:
            raise StoreError(f"stream {stream} was not prepared in this store")
        return table


def _create(table: Table, columns: Mapping[str, str]) -> str:
    listed = [f"{quoted(name)} {kind}" for name, kind in columns.items()]
    listed += [f"{names.KEY} String", f"{names.TIME} Int64", f"{names.PARTITION} Int32", f"{names.OFFSET} UInt64"]
    if table.stream.upsert:
        listed.append(f"{names.DELETED} UInt8")
        engine = f"ReplacingMergeTree({names.OFFSET}, {names.DELETED}) ORDER BY {names.KEY}"
    else:
        retention = table.retention_ms
        days = 1 if retention is not None and retention <= _DAILY_UP_TO * _DAY_MS else 30
        parts = f"intDiv({names.TIME}, {days * _DAY_MS})"
        order = f"({names.KEY}, {names.TIME}, {names.PARTITION}, {names.OFFSET})"
        engine = f"ReplacingMergeTree PARTITION BY {parts} ORDER BY {order}"
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(table.name)} ({', '.join(listed)}) ENGINE = {engine} SETTINGS {_SETTINGS}"
    )


def _before(table: Table, column: Column) -> str:
    """The column that stands before this one, so that tables that grew look like those made at once."""
    place = table.columns.index(column)
    return table.columns[place - 1].name if place else names.OFFSET


def _type(table: Table, column: Column) -> str:
    kind = column.type
    match kind.kind:
        case Kind.DECIMAL:
            name = f"Decimal({kind.precision or 10}, {kind.scale or 0})"
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            name = f"DateTime64({_digits(kind)}, 'UTC')"
        case other if other in _TEXTS:
            name = "String"
        case other if other in _TYPES:
            name = _TYPES[other]
        case _:
            raise ConfigError(f"stream {table.name}: ClickHouse cannot hold column {column.name}, a {kind}")
    return f"Nullable({name})"


def _digits(kind: Type) -> int:
    digits = 3 if kind.precision is None else kind.precision
    return 3 if digits <= 3 else 6 if digits <= 6 else 9


def _to_store(table: Table, rows: pa.Table) -> pa.Table:
    """The columns of a batch in types that ClickHouse takes as they are."""
    kinds = {column.name: column.type.kind for column in table.columns}
    columns = {name: _kept(rows[name].combine_chunks(), kinds.get(name)) for name in rows.column_names}
    columns[names.OFFSET] = rows[names.OFFSET].cast(pa.uint64())
    if table.stream.upsert:
        columns[names.DELETED] = rows[names.DELETED].cast(pa.uint8())
    return pa.table(columns)


def _kept(column: pa.Array, kind: Kind | None) -> pa.Array:
    match kind:
        case Kind.DATE | Kind.TIME:
            return column.cast(pa.int32())
        case Kind.INTERVAL_DAY:
            return column.cast(pa.int64())
        case Kind.ARRAY | Kind.MAP | Kind.ROW:
            return to_texts(column)
        case _:
            return column


def _from_store(table: Table, found: pa.Table) -> pa.Table:
    schema = declared_schema(table)
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        values = pa.chunked_array(found[column.name].chunks, found.schema.field(column.name).type)
        if column.type.kind in _TEXTS:
            columns.append(from_texts(values.combine_chunks().cast(pa.string()), field.type))
        else:
            columns.append(pc.cast(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def quoted(name: str) -> str:
    """An identifier as it is written."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
