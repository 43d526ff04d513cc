"""What all kernels share: polars types, constants, and errors for single rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Literal

import polars as pl

from qanat.errors import DataError
from qanat.model.types import Kind, Type
from qanat.sql import expressions as e
from qanat.sql.expressions import Call, Expression

#: (call, compiled arguments, guard) -> value
Kernel = Callable[[Call, list[pl.Expr], pl.Expr | None], pl.Expr]

_PLAIN: dict[Kind, pl.DataType] = {
    Kind.NULL: pl.Null(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.TINYINT: pl.Int8(),
    Kind.SMALLINT: pl.Int16(),
    Kind.INT: pl.Int32(),
    Kind.BIGINT: pl.Int64(),
    Kind.FLOAT: pl.Float32(),
    Kind.DOUBLE: pl.Float64(),
    Kind.STRING: pl.String(),
    Kind.BYTES: pl.Binary(),
    Kind.DATE: pl.Date(),
    Kind.TIME: pl.Time(),
    Kind.INTERVAL_DAY: pl.Duration("ms"),
    Kind.INTERVAL_YEAR: pl.Int32(),
}


def dtype_of(sql_type: Type) -> pl.DataType:
    """The polars type of a column of this SQL type."""
    match sql_type.kind:
        case Kind.DECIMAL:
            return pl.Decimal(sql_type.precision or 10, sql_type.scale or 0)
        case Kind.TIMESTAMP:
            return pl.Datetime(_unit(sql_type))
        case Kind.TIMESTAMP_LTZ:
            return pl.Datetime(_unit(sql_type), "UTC")
        case Kind.ARRAY:
            return pl.List(dtype_of(sql_type.element or sql_type))
        case Kind.MAP:
            key, value = dtype_of(sql_type.key or sql_type), dtype_of(sql_type.element or sql_type)
            return pl.List(pl.Struct({"key": key, "value": value}))
        case Kind.ROW:
            return pl.Struct({name: dtype_of(kind) for name, kind in sql_type.fields})
        case kind:
            return _PLAIN[kind]


def _unit(sql_type: Type) -> Literal["ms", "us", "ns"]:
    digits = 3 if sql_type.precision is None else sql_type.precision
    return "ms" if digits <= 3 else "us" if digits <= 6 else "ns"


def literal(value: object, sql_type: Type) -> pl.Expr:
    """A constant of exactly the type's dtype."""
    if sql_type.kind is Kind.INTERVAL_DAY and isinstance(value, int):
        return pl.lit(timedelta(milliseconds=value), dtype=pl.Duration("ms"))
    return pl.lit(value, dtype=dtype_of(sql_type))


def constant(expression: Expression) -> object:
    """The value of an argument that the binder lets through as a constant only."""
    assert isinstance(expression, e.Literal)
    return expression.value


def refuse(bad: pl.Expr, value: pl.Expr, shown: pl.Expr, message: str, guard: pl.Expr | None) -> pl.Expr:
    """`value`, after raising `DataError` if `bad` holds in a row that matters; `{}` in the message is `shown` there."""
    inputs = [value, bad if guard is None else bad & guard, shown]

    def check(found: Sequence[pl.Series]) -> pl.Series:
        values, wrong, texts = found
        if wrong.any():
            row = wrong.fill_null(False).arg_max() or 0
            raise DataError(
                message.format(texts[row if len(texts) > 1 else 0]),
                hint="TRY_CAST gives NULL instead" if "CAST" in message else None,
            )
        return values

    # polars takes the name of the first input
    return pl.map_batches(inputs, check)
