"""CAST and TRY_CAST with Flink's rules: integers wrap, floats are cut, texts must be numbers, times become text."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from qanat.model.types import Kind, Type
from qanat.sql.coercion import APPROXIMATE, INTEGERS, NUMERIC, TIMESTAMPS
from qanat.sql.embedded.kernels.base import dtype_of, refuse
from qanat.sql.embedded.kernels.numbers import to_decimal
from qanat.sql.embedded.kernels.times import parse_time
from qanat.sql.expressions import Cast

_TRUE, _FALSE = ("t", "true", "y", "yes", "1"), ("f", "false", "n", "no", "0")
_BITS = {Kind.TINYINT: 7, Kind.SMALLINT: 15, Kind.INT: 31, Kind.BIGINT: 63}


def cast(value: pl.Expr, expression: Cast, guard: pl.Expr | None) -> pl.Expr:
    """The value as the expression's type."""
    source, target = expression.arg.type, expression.type
    found = _convert(value, source, target)
    if source.kind is not Kind.STRING or target.kind is Kind.STRING or expression.safe:
        return found
    message = f"CAST: `{{}}` is not a {target.with_nullable(True)}"
    return refuse(found.is_null() & value.is_not_null(), found, value, message, guard)


def _convert(value: pl.Expr, source: Type, target: Type) -> pl.Expr:
    match source.kind, target.kind:
        case Kind.NULL, _:
            return value.cast(dtype_of(target))
        case Kind.STRING, _:
            return _from_text(value, target)
        case _, Kind.STRING:
            return _shortened(_to_text(value, source), target)
        case (a, Kind.BOOLEAN) if a in NUMERIC:
            return value != 0
        case (a, Kind.DECIMAL) if a in NUMERIC:
            return pl.map_batches([value], lambda found: to_decimal(found[0], target), return_dtype=dtype_of(target))
        case (a, b) if a in (*APPROXIMATE, Kind.DECIMAL) and b in INTEGERS:
            return _cut(value, source, target)
        case (a, b) if a in INTEGERS and b in INTEGERS:
            return value.cast(dtype_of(target), wrap_numerical=True)
        case (a, b) if a in TIMESTAMPS and b in (*TIMESTAMPS, Kind.DATE, Kind.TIME):
            return _time(value, target)
        case Kind.DATE, (Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ):
            return _time(value.cast(pl.Datetime("ms")), target)
        case (Kind.ARRAY, Kind.ARRAY) | (Kind.ROW, Kind.ROW) | (Kind.MAP, Kind.MAP):
            return value.cast(dtype_of(target), strict=False)
        case _:
            return value.cast(dtype_of(target))


def _cut(value: pl.Expr, source: Type, target: Type) -> pl.Expr:
    """As Java does: towards zero, NaN is 0, the ends of INT (or BIGINT) where it is too large, then wrapped."""
    if source.kind is Kind.DECIMAL:
        return value.cast(pl.Float64).cast(pl.Int64, strict=False).cast(dtype_of(target), wrap_numerical=True)
    wide = target if target.kind is Kind.BIGINT else Type(Kind.INT)
    low, high = -(1 << _BITS[wide.kind]), (1 << _BITS[wide.kind]) - 1
    number = value.cast(pl.Float64)
    whole = number.fill_nan(0.0).cast(dtype_of(wide), strict=False)
    ends = pl.when(number < 0).then(pl.lit(low, dtype=dtype_of(wide))).otherwise(pl.lit(high, dtype=dtype_of(wide)))
    found = pl.when(whole.is_null() & number.is_not_null()).then(ends).otherwise(whole)
    return found if target.kind is wide.kind else found.cast(dtype_of(target), wrap_numerical=True)


def _time(value: pl.Expr, target: Type) -> pl.Expr:
    if target.kind is Kind.DATE:
        return value.dt.date()
    if target.kind is Kind.TIME:
        return value.dt.time()
    plain = value.dt.replace_time_zone("UTC" if target.kind is Kind.TIMESTAMP_LTZ else None)
    found = plain.cast(dtype_of(target))
    return found.dt.truncate("1s") if target.precision == 0 else found


def _from_text(value: pl.Expr, target: Type) -> pl.Expr:
    """NULL where the text is not one."""
    trimmed = value.str.strip_chars()
    match target.kind:
        case Kind.STRING:
            return _shortened(value, target)
        case kind if kind in INTEGERS:
            return trimmed.str.extract(r"^([+-]?\d+)(?:\.\d*)?$", 1).cast(dtype_of(target), strict=False)
        case kind if kind in APPROXIMATE:
            return trimmed.cast(dtype_of(target), strict=False)
        case Kind.BOOLEAN:
            lower = trimmed.str.to_lowercase()
            return pl.when(lower.is_in(_TRUE)).then(True).when(lower.is_in(_FALSE)).then(False).otherwise(None)
        case Kind.DECIMAL:
            number = trimmed.str.extract(r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)$", 1)
            return pl.map_batches([number], lambda found: to_decimal(found[0], target), return_dtype=dtype_of(target))
        case Kind.DATE:
            return parse_time(value).cast(pl.Date)
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            return _time(parse_time(value), target)
        case Kind.TIME:
            return trimmed.str.to_time("%H:%M:%S%.f", strict=False)
        case _:
            return value.cast(dtype_of(target))


def _shortened(value: pl.Expr, target: Type) -> pl.Expr:
    return value if target.precision is None else value.str.slice(0, target.precision)


def _to_text(value: pl.Expr, source: Type) -> pl.Expr:
    match source.kind:
        case Kind.BOOLEAN:
            return pl.when(value).then(pl.lit("TRUE")).when(~value).then(pl.lit("FALSE")).otherwise(None)
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            digits = 3 if source.precision is None else source.precision
            fraction = "" if digits == 0 else f"%.{3 if digits <= 3 else 6 if digits <= 6 else 9}f"
            text = value.dt.to_string("%Y-%m-%d %H:%M:%S" + fraction)
            return text if digits in (0, 3, 6, 9) else text.str.head(20 + digits)
        case Kind.DATE:
            return value.dt.to_string("%Y-%m-%d")
        case Kind.TIME:
            return value.dt.to_string("%H:%M:%S")
        case Kind.FLOAT | Kind.DOUBLE:
            return pl.map_batches([value], _java_texts, return_dtype=pl.String)
        case _:
            return value.cast(pl.String)


def _java_texts(found: Sequence[pl.Series]) -> pl.Series:
    values = [
        None if one is None else java_text(text, one)
        for text, one in zip(found[0].cast(pl.String), found[0], strict=True)
    ]
    return pl.Series(found[0].name, values, dtype=pl.String)


def java_text(shortest: str, value: float) -> str:
    """A floating number as Java writes it.

    >>> java_text("1e10", 1e10), java_text("0.5", 0.5), java_text("1e-5", 1e-5)
    ('1.0E10', '0.5', '1.0E-5')
    """
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    sign = "-" if shortest.startswith("-") else ""
    mantissa, _, exponent = shortest.lstrip("-").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0") or "0"
    if value == 0:
        return sign + "0.0"
    if -3 < point <= 7:
        padded = "0" * (1 - point) + digits if point < 1 else digits.ljust(point, "0")
        cut = max(point, 1)
        return sign + padded[:cut] + "." + (padded[cut:] or "0")
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{point - 1}"
