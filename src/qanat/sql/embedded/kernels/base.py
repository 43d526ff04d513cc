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
            return pl.Datetime(time_unit(sql_type))
        case Kind.TIMESTAMP_LTZ:
            return pl.Datetime(time_unit(sql_type), "UTC")
        case Kind.ARRAY:
            return pl.List(dtype_of(sql_type.element or sql_type))
        case Kind.MAP:
            key, value = dtype_of(sql_type.key or sql_type), dtype_of(sql_type.element or sql_type)
            return pl.List(pl.Struct({"key": key, "value": value}))
        case Kind.ROW:
            return pl.Struct({name: dtype_of(kind) for name, kind in sql_type.fields})
        case kind:
            return _PLAIN[kind]


def digits_of(dtype: pl.DataType) -> int:
    """The digits after the second that a Datetime holds: 3, 6 or 9."""
    return {"ms": 3, "us": 6, "ns": 9}[str(getattr(dtype, "time_unit", "ms"))]


def time_unit(sql_type: Type) -> Literal["ms", "us", "ns"]:
    """What a TIMESTAMP of this type is counted in."""
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


def is_constant(expression: Expression) -> bool:
    """Whether an argument is a literal that is not NULL."""
    return isinstance(expression, e.Literal) and expression.value is not None


def broadcast(columns: Sequence[pl.Series]) -> list[pl.Series]:
    """The columns, constants as long as the others."""
    length = max(len(one) for one in columns)
    return [one if len(one) == length else one.new_from_index(0, length) for one in columns]


def row_by_row(function: Callable[..., object], nulls: bool = False) -> Kernel:
    """A kernel that calls `function` for every row without a NULL (`nulls`: for every row). Where it raises `DataError`
    the row must matter; rows that do not are not computed."""

    def kernel(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
        dtype = dtype_of(call.type)

        def compute(found: Sequence[pl.Series]) -> pl.Series:
            columns = [one.to_list() for one in broadcast(found)]
            wanted = columns.pop() if guard is not None else None
            values = [
                None if (not nulls and None in row) or (wanted is not None and not wanted[i]) else function(*row)
                for i, row in enumerate(zip(*columns, strict=True))
            ]
            return pl.Series(found[0].name, values, dtype=dtype, strict=False)

        inputs = args if guard is None else [*args, guard]
        return pl.map_batches(inputs, compute, return_dtype=dtype)

    return kernel


def by_column(function: Callable[..., pl.Series]) -> Kernel:
    """A kernel that gets whole columns, constants as long as the others."""

    def kernel(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
        dtype = dtype_of(call.type)
        return pl.map_batches(args, lambda found: function(call, *broadcast(found)).cast(dtype), return_dtype=dtype)

    return kernel


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
