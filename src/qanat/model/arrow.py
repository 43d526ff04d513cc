"""SQL types <-> Arrow types. The one mapping; every room that moves Arrow uses it."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from qanat.errors import DataError
from qanat.model import types as t
from qanat.model.types import Kind, Type

_PLAIN: dict[Kind, pa.DataType] = {
    Kind.NULL: pa.null(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.TINYINT: pa.int8(),
    Kind.SMALLINT: pa.int16(),
    Kind.INT: pa.int32(),
    Kind.BIGINT: pa.int64(),
    Kind.FLOAT: pa.float32(),
    Kind.DOUBLE: pa.float64(),
    Kind.STRING: pa.string(),
    Kind.BYTES: pa.binary(),
    Kind.DATE: pa.date32(),
    Kind.TIME: pa.time32("ms"),
    Kind.INTERVAL_DAY: pa.duration("ms"),
    Kind.INTERVAL_YEAR: pa.int32(),
}


def _unit(precision: int | None) -> str:
    digits = 3 if precision is None else precision
    return "ms" if digits <= 3 else "us" if digits <= 6 else "ns"


def to_arrow(sql_type: Type) -> pa.DataType:
    """The Arrow type that holds `sql_type`. TIMESTAMP_LTZ is an instant in UTC; both keep at least milliseconds."""
    match sql_type.kind:
        case Kind.DECIMAL:
            return pa.decimal128(sql_type.precision or 10, sql_type.scale or 0)
        case Kind.TIMESTAMP:
            return pa.timestamp(_unit(sql_type.precision))
        case Kind.TIMESTAMP_LTZ:
            return pa.timestamp(_unit(sql_type.precision), tz="UTC")
        case Kind.ARRAY:
            return pa.list_(to_arrow(_inner(sql_type.element)))
        case Kind.MAP:
            return pa.map_(to_arrow(_inner(sql_type.key)), to_arrow(_inner(sql_type.element)))
        case Kind.ROW:
            return pa.struct([pa.field(name, to_arrow(field)) for name, field in sql_type.fields])
        case kind:
            return _PLAIN[kind]


def schema_of(columns: Iterable[tuple[str, Type]]) -> pa.Schema:
    """The Arrow schema of named SQL types."""
    return pa.schema([pa.field(name, to_arrow(kind)) for name, kind in columns])


def from_arrow(arrow: pa.DataType) -> Type:
    """The SQL type of an Arrow type, for inputs that were never declared.

    Raises `DataError` for Arrow types that SQL has no name for.
    """
    p = pa.types
    for kind, plain in _PLAIN.items():
        if kind is not Kind.INTERVAL_YEAR and arrow.equals(plain):
            return Type(kind)
    if p.is_large_string(arrow) or p.is_string_view(arrow):
        return t.STRING
    if p.is_large_binary(arrow) or p.is_binary_view(arrow) or p.is_fixed_size_binary(arrow):
        return t.BYTES
    if p.is_dictionary(arrow):
        return from_arrow(arrow.value_type)
    if p.is_unsigned_integer(arrow):
        return {8: t.SMALLINT, 16: t.INT, 32: t.BIGINT, 64: t.decimal(20, 0)}[arrow.bit_width]
    if p.is_decimal(arrow):
        return t.decimal(arrow.precision, arrow.scale)
    if p.is_timestamp(arrow):
        digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[arrow.unit]
        return Type(Kind.TIMESTAMP_LTZ if arrow.tz else Kind.TIMESTAMP, precision=digits)
    if p.is_date64(arrow):
        return t.DATE
    if p.is_time(arrow):
        return Type(Kind.TIME, precision=3)
    if p.is_duration(arrow):
        return Type(Kind.INTERVAL_DAY)
    if p.is_list(arrow) or p.is_large_list(arrow) or p.is_fixed_size_list(arrow) or p.is_list_view(arrow):
        return t.array(from_arrow(arrow.value_type))
    if p.is_map(arrow):
        return Type(Kind.MAP, key=from_arrow(arrow.key_type), element=from_arrow(arrow.item_type))
    if p.is_struct(arrow):
        return Type(Kind.ROW, fields=tuple((f.name, from_arrow(f.type)) for f in arrow))
    raise DataError(f"no SQL type holds the Arrow type {arrow}", hint="cast the column before handing it over")


def _inner(inner: Type | None) -> Type:
    if inner is None:
        raise DataError("a collection type needs the type of its elements")
    return inner
