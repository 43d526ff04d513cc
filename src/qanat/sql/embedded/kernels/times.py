"""Times. Everything is UTC; weeks start on Sunday in FLOOR and DAYOFWEEK and are ISO weeks in WEEK, as in Flink."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from qanat.model.types import Kind, Type
from qanat.sql.embedded.kernels.base import Kernel, constant, dtype_of
from qanat.sql.expressions import Call
from qanat.sql.intervals import MILLISECONDS, MONTHS
from qanat.sql.timeformat import strftime

_TRUNCATE = {"SECOND": "1s", "MINUTE": "1m", "HOUR": "1h", "DAY": "1d", "MONTH": "1mo", "QUARTER": "1q", "YEAR": "1y"}
_DEFAULT_FORMAT = "yyyy-MM-dd HH:mm:ss"
_MS = pl.Datetime("ms")
_DAY = pl.duration(days=1)

_PARTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "YEAR": lambda one: one.dt.year(),
    "QUARTER": lambda one: one.dt.quarter(),
    "MONTH": lambda one: one.dt.month(),
    "WEEK": lambda one: one.dt.week(),
    "DAY": lambda one: one.dt.day(),
    "DAYOFMONTH": lambda one: one.dt.day(),
    "DOY": lambda one: one.dt.ordinal_day(),
    "DAYOFYEAR": lambda one: one.dt.ordinal_day(),
    "DOW": lambda one: one.dt.weekday() % 7 + 1,
    "DAYOFWEEK": lambda one: one.dt.weekday() % 7 + 1,
    "HOUR": lambda one: one.dt.hour(),
    "MINUTE": lambda one: one.dt.minute(),
    "SECOND": lambda one: one.dt.second(),
    "EPOCH": lambda one: one.dt.epoch("ms") // 1000,
}
#: Units that a day has none of.
_IN_A_DAY = ("HOUR", "MINUTE", "SECOND", "EPOCH")


def milliseconds(value: pl.Expr, kind: Type) -> pl.Expr:
    """A time as ms since 1970, Int64."""
    if kind.kind is Kind.DATE:
        return value.cast(_MS).cast(pl.Int64)
    return value.dt.epoch("ms")


def add_interval(call: Call, args: list[pl.Expr]) -> pl.Expr:
    """Time or interval, plus or minus an interval."""
    kind, interval = call.args[0].type, call.args[1].type
    if kind.kind in (Kind.INTERVAL_DAY, Kind.INTERVAL_YEAR):
        return args[0] + args[1] if call.function == "+" else args[0] - args[1]
    if interval.kind is Kind.INTERVAL_YEAR:
        return _add_months(args[0], args[1] if call.function == "+" else -args[1])
    value = args[0].cast(_MS) if kind.kind is Kind.DATE else args[0]
    moved = value + args[1] if call.function == "+" else value - args[1]
    return moved.cast(dtype_of(call.type))


def _add_months(value: pl.Expr, months: pl.Expr) -> pl.Expr:
    return value.dt.offset_by(pl.format("{}mo", months))


def _part(unit: str, value: pl.Expr, kind: Type) -> pl.Expr:
    if kind.kind is Kind.DATE and unit in _IN_A_DAY:
        value = value.cast(_MS)
    return _PARTS[unit](value).cast(pl.Int64)


def _extract(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return _part(str(constant(call.args[0])), args[1], call.args[1].type)


def _named_part(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return _part(call.function, args[0], call.args[0].type)


def truncate(value: pl.Expr, unit: str) -> pl.Expr:
    """The beginning of the unit that the time lies in."""
    if unit == "WEEK":
        return (value + _DAY).dt.truncate("1w") - _DAY
    return value.dt.truncate(_TRUNCATE[unit])


def _floor(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    from qanat.sql.embedded.kernels import numbers

    if len(args) == 1:
        return numbers.floor(call, args[0])
    return truncate(args[0], str(constant(call.args[1]))).cast(dtype_of(call.type))


def _ceiling(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    from qanat.sql.embedded.kernels import numbers

    if len(args) == 1:
        return numbers.ceiling(call, args[0])
    unit = str(constant(call.args[1]))
    low = truncate(args[0], unit)
    step = "1w" if unit == "WEEK" else _TRUNCATE[unit]
    return pl.when(low == args[0]).then(low).otherwise(low.dt.offset_by(step)).cast(dtype_of(call.type))


def _to_ltz(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    kind = call.args[0].type.kind
    if kind is Kind.STRING:
        return _parse(call, args).cast(_MS).dt.replace_time_zone("UTC")
    value = args[0].cast(pl.Float64) if kind is Kind.DECIMAL else args[0]
    if constant(call.args[1]) == 0:
        value = value * 1000
    return value.cast(pl.Int64, strict=False).cast(dtype_of(call.type))


def _parse(call: Call, args: list[pl.Expr]) -> pl.Expr:
    """A text as a time; NULL where it is none."""
    if len(call.args) > 1:
        pattern = strftime(str(constant(call.args[1])))
        if "%H" not in pattern and "%I" not in pattern:
            return args[0].str.to_date(pattern, strict=False).cast(_MS)
        return args[0].str.to_datetime(pattern, time_unit="ms", strict=False)
    return parse_time(args[0])


def parse_time(text: pl.Expr) -> pl.Expr:
    """`2026-01-31 23:59:59.123`, with or without fraction, or only the day."""
    trimmed = text.str.strip_chars()
    whole = trimmed.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ms", strict=False)
    return pl.coalesce(whole, trimmed.str.to_date("%Y-%m-%d", strict=False).cast(_MS))


def _to_timestamp(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return _parse(call, args).cast(_MS)


def _to_date(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return _parse(call, args).cast(pl.Date)


def _from_unixtime(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    pattern = strftime(str(constant(call.args[1])) if len(call.args) > 1 else _DEFAULT_FORMAT)
    return (args[0] * 1000).cast(_MS).dt.to_string(pattern)


def _unix_timestamp(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return _parse(call, args).dt.epoch("ms") // 1000


def _date_format(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    value = parse_time(args[0]) if call.args[0].type.kind is Kind.STRING else args[0]
    return value.dt.to_string(strftime(str(constant(call.args[1]))))


def _difference(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    unit, (first, last) = str(constant(call.args[0])), args[1:]
    kinds = [one.type for one in call.args[1:]]
    if unit in MONTHS:
        return (_months_between(first, last, kinds) / MONTHS[unit]).cast(pl.Int32)
    distance = milliseconds(last, kinds[1]) - milliseconds(first, kinds[0])
    size = MILLISECONDS[unit]
    cut = ((distance % size != 0) & (distance < 0)).cast(pl.Int64)
    return (distance // size + cut).cast(pl.Int32, wrap_numerical=True)


def _months_between(first: pl.Expr, last: pl.Expr, kinds: list[Type]) -> pl.Expr:
    months = (last.dt.year() - first.dt.year()) * 12 + last.dt.month().cast(pl.Int32) - first.dt.month().cast(pl.Int32)

    def rest(value: pl.Expr, kind: Type) -> pl.Expr:
        return value.dt.day().cast(pl.Int64) * MILLISECONDS["DAY"] + milliseconds(value, kind) % MILLISECONDS["DAY"]

    early, late = rest(first, kinds[0]), rest(last, kinds[1])
    one = pl.lit(1, dtype=pl.Int32)
    return (
        pl.when((months > 0) & (late < early)).then(months - one)
        .when((months < 0) & (late > early)).then(months + one)
        .otherwise(months)
    )  # fmt: skip


def _add(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    unit, count, value = str(constant(call.args[0])), args[1], args[2]
    if unit in MONTHS:
        return _add_months(value, count * MONTHS[unit])
    moved = value.cast(_MS) if call.args[2].type.kind is Kind.DATE else value
    return (moved + (count * MILLISECONDS[unit]).cast(pl.Duration("ms"))).cast(dtype_of(call.type))


KERNELS: dict[str, Kernel] = {
    "EXTRACT": _extract,
    **{name: _named_part for name in _PARTS if name not in ("DAY", "DOY", "DOW", "EPOCH")},
    "FLOOR": _floor,
    "CEIL": _ceiling,
    "TO_TIMESTAMP_LTZ": _to_ltz,
    "TO_TIMESTAMP": _to_timestamp,
    "TO_DATE": _to_date,
    "FROM_UNIXTIME": _from_unixtime,
    "UNIX_TIMESTAMP": _unix_timestamp,
    "DATE_FORMAT": _date_format,
    "TIMESTAMPDIFF": _difference,
    "TIMESTAMPADD": _add,
}
