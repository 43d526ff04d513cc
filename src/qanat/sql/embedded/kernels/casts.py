"""CAST and TRY_CAST with Flink's rules: integers wrap, floats are cut, texts must be numbers, times become text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC as UTC_ZONE
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from qanat.model.types import Kind, Type
from qanat.sql.coercion import APPROXIMATE, INTEGERS, NUMERIC, TIMESTAMPS
from qanat.sql.embedded.kernels import clock, decimals, floats
from qanat.sql.embedded.kernels.base import digits_of, dtype_of, refuse, time_unit
from qanat.sql.embedded.kernels.zones import to_instant, to_local
from qanat.sql.expressions import UTC, Cast

_TRUE, _FALSE = ("t", "true", "y", "yes", "1"), ("f", "false", "n", "no", "0")
_BITS = {Kind.TINYINT: 7, Kind.SMALLINT: 15, Kind.INT: 31, Kind.BIGINT: 63}
_NESTED = (Kind.ARRAY, Kind.MAP, Kind.ROW)
_INTEGER = r"^([+-]?)([0-9]*)(?:\.[0-9]*)?$"


def cast(value: pl.Expr, expression: Cast, guard: pl.Expr | None) -> pl.Expr:
    """The value as the expression's type."""
    source, target = expression.arg.type, expression.type
    found = _convert(value, source, target, expression.zone)
    if not _can_fail(source, target):
        return found
    lost = _lost(value, found, source, target)
    if expression.safe:
        return pl.when(~lost.fill_null(False)).then(found) if source.kind in _NESTED else found
    message = f"CAST: `{{}}` is not a {target.with_nullable(True)}"
    return refuse(lost, found, value, message, guard)


def _can_fail(source: Type, target: Type) -> bool:
    """Whether there are values of the source that the target has not."""
    if source.kind is Kind.STRING:
        return target.kind not in (Kind.STRING, Kind.BYTES)
    if source.kind in APPROXIMATE and target.kind is Kind.DECIMAL:
        return True
    if source.kind not in _NESTED or source.kind is not target.kind:
        return False
    return any(_can_fail(a, b) for a, b in zip(_inner(source), _inner(target), strict=True))


def _inner(kind: Type) -> list[Type]:
    if kind.kind is Kind.ROW:
        return [one for _, one in kind.fields]
    return [one for one in (kind.key, kind.element) if one is not None]


def _lost(value: pl.Expr, found: pl.Expr, source: Type, target: Type) -> pl.Expr:
    """Rows whose value, or a part of it, has not become one."""
    if source.kind in APPROXIMATE:
        return value.is_nan() | value.is_infinite()
    if source.kind is Kind.ARRAY:
        return value.list.drop_nulls().list.len() != found.list.drop_nulls().list.len()
    if source.kind is Kind.ROW:
        parts = [
            _lost(value.struct.field(name), found.struct.field(other), a, b)
            for (name, a), (other, b) in zip(source.fields, target.fields, strict=True)
            if _can_fail(a, b)
        ]
        return pl.any_horizontal(parts)
    return found.is_null() & value.is_not_null()


def _convert(value: pl.Expr, source: Type, target: Type, zone: str) -> pl.Expr:
    match source.kind, target.kind:
        case Kind.NULL, _:
            return value.cast(dtype_of(target))
        case Kind.STRING, _:
            return _from_text(value, target, zone)
        case _, Kind.STRING:
            return _shortened(_to_text(value, source, zone), target)
        case (a, Kind.BOOLEAN) if a in NUMERIC:
            return value != 0
        case (a, Kind.DECIMAL) if a in NUMERIC:
            return _to_decimal(value, source, target)
        case (a, b) if a in (*APPROXIMATE, Kind.DECIMAL) and b in INTEGERS:
            return _cut(value, source, target)
        case (a, b) if a in INTEGERS and b in INTEGERS:
            return value.cast(dtype_of(target), wrap_numerical=True)
        case Kind.BOOLEAN, Kind.DECIMAL:
            return _to_decimal(value.cast(pl.Int8), Type(Kind.TINYINT), target)
        case (a, b) if a in (*TIMESTAMPS, Kind.DATE, Kind.TIME) and b in (*TIMESTAMPS, Kind.DATE, Kind.TIME):
            return _time(value, source, target, zone)
        case (Kind.ARRAY, Kind.ARRAY) | (Kind.ROW, Kind.ROW) | (Kind.MAP, Kind.MAP):
            return _nested(value, source, target, zone)
        case _:
            return value.cast(dtype_of(target))


def _nested(value: pl.Expr, source: Type, target: Type, zone: str) -> pl.Expr:
    """Part by part."""
    if source.with_nullable(True) == target.with_nullable(True):
        return value
    if source.kind is Kind.ARRAY:
        inner = _convert(pl.element(), source.element or source, target.element or target, zone)
        return value.list.eval(inner).cast(dtype_of(target))
    if source.kind is Kind.MAP:
        key = _convert(pl.element().struct.field("key"), source.key or source, target.key or target, zone)
        item = _convert(pl.element().struct.field("value"), source.element or source, target.element or target, zone)
        return value.list.eval(pl.struct(key.alias("key"), item.alias("value"))).cast(dtype_of(target))
    parts = [
        _convert(value.struct.field(name), a, b, zone).cast(dtype_of(b)).alias(other)
        for (name, a), (other, b) in zip(source.fields, target.fields, strict=True)
    ]
    return pl.when(value.is_not_null()).then(pl.struct(parts))


def _to_decimal(value: pl.Expr, source: Type, target: Type) -> pl.Expr:
    return pl.map_batches(
        [value], lambda found: decimals.convert(found[0], source, target), return_dtype=dtype_of(target)
    )


def _cut(value: pl.Expr, source: Type, target: Type) -> pl.Expr:
    """As Java does: towards zero, NaN is 0, the ends of INT (or BIGINT) where it is too large, then wrapped."""
    if source.kind is Kind.DECIMAL:
        whole = pl.map_batches([value], lambda found: decimals.to_integer(found[0], source), return_dtype=pl.Int64)
        return whole.cast(dtype_of(target), wrap_numerical=True)
    wide = target if target.kind is Kind.BIGINT else Type(Kind.INT)
    low, high = -(1 << _BITS[wide.kind]), (1 << _BITS[wide.kind]) - 1
    number = value.cast(pl.Float64)
    whole = number.fill_nan(0.0).cast(dtype_of(wide), strict=False)
    ends = pl.when(number < 0).then(pl.lit(low, dtype=dtype_of(wide))).otherwise(pl.lit(high, dtype=dtype_of(wide)))
    found = pl.when(whole.is_null() & number.is_not_null()).then(ends).otherwise(whole)
    return found if target.kind is wide.kind else found.cast(dtype_of(target), wrap_numerical=True)


def _time(value: pl.Expr, source: Type, target: Type, zone: str) -> pl.Expr:
    """Between times; an instant is a local time in the session's zone, and the other way round."""
    both = source.kind is Kind.TIMESTAMP_LTZ and target.kind is Kind.TIMESTAMP_LTZ
    if source.kind is Kind.TIMESTAMP_LTZ and not both:
        value = to_local(value, zone)
    if target.kind is Kind.DATE:
        return value.cast(pl.Date)
    if target.kind is Kind.TIME:
        found = value if source.kind is Kind.TIME else value.dt.time()
        return _precise_time(found, target)
    if source.kind is Kind.TIME:
        value = pl.date(1970, 1, 1).dt.combine(value)
    unit = dtype_of(Type(Kind.TIMESTAMP, precision=target.precision))
    if both:
        return _precise(value.cast(dtype_of(target)), target)
    found = _precise(value.cast(unit), target)
    return to_instant(found, zone) if target.kind is Kind.TIMESTAMP_LTZ else found


def _precise(value: pl.Expr, target: Type) -> pl.Expr:
    """Cut to the digits of the type."""
    digits = 3 if target.precision is None else target.precision
    if digits in (3, 6, 9):
        return value
    dtype = pl.Datetime(time_unit(target), "UTC" if target.kind is Kind.TIMESTAMP_LTZ else None)
    step = int(10 ** (digits_of(dtype) - digits))
    ticks: pl.Expr = value.to_physical()
    return (ticks // step * step).cast(dtype)


def _precise_time(value: pl.Expr, target: Type) -> pl.Expr:
    step = int(10 ** (9 - (target.precision or 0)))
    ticks: pl.Expr = value.cast(pl.Int64)
    return (ticks // step * step).cast(pl.Time)


def _from_text(value: pl.Expr, target: Type, zone: str) -> pl.Expr:
    """NULL where the text is not one."""
    trimmed = value.str.strip_chars()
    match target.kind:
        case Kind.STRING:
            return _shortened(value, target)
        case kind if kind in INTEGERS:
            parts = trimmed.str.extract_groups(_INTEGER)
            digits = parts.struct.field("2")
            number = pl.when(digits == "").then(pl.lit("0")).otherwise(digits)
            signed = pl.when(parts.struct.field("1") == "-").then(pl.lit("-") + number).otherwise(number)
            known = trimmed.str.contains(_INTEGER) & trimmed.str.contains("[0-9]")
            return pl.when(known).then(signed.cast(dtype_of(target), strict=False))
        case kind if kind in APPROXIMATE:
            return floats.parse(value, dtype_of(target))
        case Kind.BOOLEAN:
            lower = value.str.to_lowercase()
            return pl.when(lower.is_in(_TRUE)).then(True).when(lower.is_in(_FALSE)).then(False).otherwise(None)
        case Kind.DECIMAL:
            number = trimmed.str.extract(r"^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)$", 1)
            return _to_decimal(number, Type(Kind.STRING), target)
        case Kind.DATE:
            return clock.day(value)
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            found = _precise(clock.standard(value, time_unit(target)), Type(Kind.TIMESTAMP, precision=target.precision))
            return to_instant(found, zone) if target.kind is Kind.TIMESTAMP_LTZ else found
        case Kind.TIME:
            return _precise_time(clock.clock(value), target)
        case _:
            return value.cast(dtype_of(target))


def _shortened(value: pl.Expr, target: Type) -> pl.Expr:
    return value if target.precision is None else value.str.slice(0, target.precision)


def _to_text(value: pl.Expr, source: Type, zone: str) -> pl.Expr:
    match source.kind:
        case Kind.BOOLEAN:
            return pl.when(value).then(pl.lit("TRUE")).when(~value).then(pl.lit("FALSE")).otherwise(None)
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            digits = 3 if source.precision is None else source.precision
            fraction = "" if digits == 0 else f"%.{3 if digits <= 3 else 6 if digits <= 6 else 9}f"
            local = to_local(value, zone) if source.kind is Kind.TIMESTAMP_LTZ else value
            text = local.dt.to_string("%Y-%m-%d %H:%M:%S" + fraction)
            return text if digits in (0, 3, 6, 9) else text.str.head(20 + digits)
        case Kind.DATE:
            return value.dt.to_string("%Y-%m-%d")
        case Kind.TIME:
            digits = source.precision or 0
            text = value.dt.to_string("%H:%M:%S%.9f").str.head(9 + max(digits, 1))
            # one digit at least, unless the type has none
            return text.str.replace(r"(\.\d+?)0*$", "${1}") if digits else text.str.head(8)
        case Kind.FLOAT | Kind.DOUBLE:
            return pl.map_batches([value], floats.texts, return_dtype=pl.String)
        case Kind.BYTES:
            return _by_row(value, lambda one: one.decode("utf-8", "replace"))
        case Kind.ARRAY | Kind.MAP | Kind.ROW | Kind.INTERVAL_DAY | Kind.INTERVAL_YEAR:
            return _by_row(value, lambda one: value_text(one, source, zone))
        case _:
            return value.cast(pl.String)


def _by_row(value: pl.Expr, text: Callable[[Any], str]) -> pl.Expr:
    def compute(found: Any) -> pl.Series:
        texts = [None if one is None else text(one) for one in found[0].to_list()]
        return pl.Series(found[0].name, texts, dtype=pl.String)

    return pl.map_batches([value], compute, return_dtype=pl.String)


def value_text(value: Any, kind: Type, zone: str = UTC) -> str:
    """One value as CAST(.. AS STRING) writes it; NULL inside arrays, maps and rows is `NULL`."""
    if value is None:
        return "NULL"
    match kind.kind:
        case Kind.ARRAY:
            return "[" + ", ".join(value_text(one, kind.element or kind, zone) for one in value) + "]"
        case Kind.MAP:
            key, item = kind.key or kind, kind.element or kind
            pairs = (f"{value_text(one['key'], key, zone)}={value_text(one['value'], item, zone)}" for one in value)
            return "{" + ", ".join(pairs) + "}"
        case Kind.ROW:
            return "(" + ", ".join(value_text(value[name], one, zone) for name, one in kind.fields) + ")"
        case Kind.BOOLEAN:
            return "TRUE" if value else "FALSE"
        case Kind.FLOAT:
            return floats.java_text(str(np.float32(value)), value)
        case Kind.DOUBLE:
            return floats.java_text(repr(value), value)
        case Kind.DECIMAL if isinstance(value, Decimal):
            return format(value, "f")
        case Kind.BYTES:
            return str(value.decode("utf-8", "replace"))
        case Kind.INTERVAL_DAY:
            return _interval_text(value)
        case Kind.INTERVAL_YEAR:
            return f"{'-' if value < 0 else '+'}{abs(value) // 12}-{abs(value) % 12:02d}"
        case _:
            return _time_text(value, kind, zone)


def _interval_text(value: timedelta) -> str:
    ms = abs(value // timedelta(milliseconds=1))
    days, rest = divmod(ms, 86_400_000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    sign = "-" if value < timedelta(0) else "+"
    return f"{sign}{days} {hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _time_text(value: datetime | time | date, kind: Type, zone: str) -> str:
    digits = (0 if kind.kind is Kind.TIME else 3) if kind.precision is None else kind.precision
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = _local_time(value, zone)
        shown = str(value.strftime("%Y-%m-%d %H:%M:%S")).rjust(19, "0")
    elif isinstance(value, time):
        shown = value.strftime("%H:%M:%S")
        fraction = f"{value.microsecond:06d}"[:digits]
        return shown + ("." + (fraction.rstrip("0") or "0") if digits else "")
    else:
        return str(value.isoformat()) if isinstance(value, date) else str(value)
    return shown + ("." + f"{value.microsecond:06d}".ljust(digits, "0")[:digits] if digits else "")


def _local_time(value: datetime, zone: str) -> datetime:
    if zone[0] in "+-":
        return value.astimezone(UTC_ZONE) + timedelta(minutes=int(zone))
    return value.astimezone(ZoneInfo(zone))
