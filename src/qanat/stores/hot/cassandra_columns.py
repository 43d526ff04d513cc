"""Columns as Cassandra has them: which CQL type each kind is, values there and back.

Times with up to three digits are CQL's `timestamp`, those with more `bigint` in their unit; intervals are numbers of ms
and months; ARRAY, MAP and ROW are JSON text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from cassandra.query import UNSET_VALUE
from cassandra.util import Date, Time

from qanat.errors import ConfigError
from qanat.model.streams import Column
from qanat.model.types import Kind, Type
from qanat.stores.hot.table import Table
from qanat.stores.hot.texts import from_texts, to_texts

_NS_PER_MS = 1_000_000

_TYPES = {
    Kind.BOOLEAN: "boolean",
    Kind.TINYINT: "tinyint",
    Kind.SMALLINT: "smallint",
    Kind.INT: "int",
    Kind.BIGINT: "bigint",
    Kind.FLOAT: "float",
    Kind.DOUBLE: "double",
    Kind.DECIMAL: "decimal",
    Kind.STRING: "text",
    Kind.BYTES: "blob",
    Kind.DATE: "date",
    Kind.TIME: "time",
    Kind.INTERVAL_DAY: "bigint",
    Kind.INTERVAL_YEAR: "int",
    Kind.ARRAY: "text",
    Kind.MAP: "text",
    Kind.ROW: "text",
}


def cql_type(table: Table, column: Column) -> str:
    """The CQL type of a column. Raises `ConfigError` where there is none."""
    if column.type.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
        return "timestamp" if _is_ms(column.type) else "bigint"
    if column.type.kind not in _TYPES:
        raise ConfigError(f"stream {table.name}: Cassandra cannot hold column {column.name}, a {column.type}")
    return _TYPES[column.type.kind]


def selected(table: Table) -> list[str]:
    """What is selected for each column: instants as numbers, since Python has none before the year 1."""
    listed = []
    for column in table.columns:
        name = '"' + column.name.replace('"', '""') + '"'
        listed.append(f"toUnixTimestamp({name})" if _is_instant(column.type) else name)
    return listed


def to_cells(rows: pa.Table, columns: Sequence[Column], *, empty_is_unset: bool) -> Iterator[tuple[Any, ...]]:
    """The values of each row, in the order of `columns`. NULL where `empty_is_unset` leaves no trace at all."""
    nothing = UNSET_VALUE if empty_is_unset else None
    listed = [_cells(rows[column.name].combine_chunks(), column.type) for column in columns]
    filled = [[nothing if value is None else value for value in values] for values in listed]
    return zip(*filled, strict=True)


def _cells(values: pa.Array, kind: Type) -> list[Any]:
    match kind.kind:
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ | Kind.INTERVAL_DAY:
            return list(values.cast(pa.int64()).to_pylist())
        case Kind.DATE:
            return _each(values.cast(pa.int32()), Date)
        case Kind.TIME:
            return _each(values.cast(pa.int32()), lambda ms: Time(ms * _NS_PER_MS))
        case Kind.ARRAY | Kind.MAP | Kind.ROW:
            return list(to_texts(values).to_pylist())
        case _:
            return list(values.to_pylist())


def to_arrow(rows: Sequence[Sequence[Any]], columns: Sequence[Column], schema: pa.Schema) -> pa.Table:
    """Rows that were selected, as they were declared."""
    listed = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    arrays = [
        _array(values, column.type, field.type) for values, column, field in zip(listed, columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: Type, declared: pa.DataType) -> pa.Array:
    match kind.kind:
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ | Kind.INTERVAL_DAY:
            return pa.array(values, pa.int64()).cast(declared)
        case Kind.DATE:
            days = [None if value is None else value.days_from_epoch for value in values]
            return pa.array(days, pa.int32()).cast(declared)
        case Kind.TIME:
            ms = [None if value is None else value.nanosecond_time // _NS_PER_MS for value in values]
            return pa.array(ms, pa.int32()).cast(declared)
        case Kind.ARRAY | Kind.MAP | Kind.ROW:
            return from_texts(pa.array(values, pa.string()), declared)
        case _:
            return pa.array(values, declared)


def _each(values: pa.Array, make: Callable[[int], Any]) -> list[Any]:
    return [None if value is None else make(value) for value in values.to_pylist()]


def _is_ms(kind: Type) -> bool:
    return (3 if kind.precision is None else kind.precision) <= 3


def _is_instant(kind: Type) -> bool:
    return kind.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ) and _is_ms(kind)
