"""Times. Weeks start on Sunday in FLOOR and DAYOFWEEK and are ISO weeks in WEEK, as in Flink. What depends on the
session's zone takes it from the call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from qanat.errors import DataError
from qanat.model.types import Kind, Type
from qanat.sql.embedded.kernels import clock
from qanat.sql.embedded.kernels.base import Kernel, broadcast, constant, digits_of, dtype_of, is_constant
from qanat.sql.embedded.kernels.zones import to_instant, to_local
from qanat.sql.expressions import UTC, Call
from qanat.sql.intervals import MILLISECONDS, MONTHS
from qanat.sql.timeformat import parts_of, strftime, write
from qanat.sql.zones import java_zone, zone_of

_TRUNCATE = {"SECOND": "1s", "MINUTE": "1m", "HOUR": "1h", "DAY": "1d", "MONTH": "1mo", "QUARTER": "1q", "YEAR": "1y"}
_DEFAULT_FORMAT = "yyyy-MM-dd HH:mm:ss"
_MS = pl.Datetime("ms")
_DAY = pl.duration(days=1)
_DAY_MS = MILLISECONDS["DAY"]
_DAY_NS = _DAY_MS * 1_000_000

_PARTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "YEAR": lambda one: one.dt.year(),
    "ISOYEAR": lambda one: one.dt.iso_year(),
    "DECADE": lambda one: one.dt.year() // 10,
    "CENTURY": lambda one: (one.dt.year() + 99) // 100,
    "MILLENNIUM": lambda one: (one.dt.year() + 999) // 1000,
    "QUARTER": lambda one: one.dt.quarter(),
    "MONTH": lambda one: one.dt.month(),
    "WEEK": lambda one: one.dt.week(),
    "DAY": lambda one: one.dt.day(),
    "DAYOFMONTH": lambda one: one.dt.day(),
    "DOY": lambda one: one.dt.ordinal_day(),
    "DAYOFYEAR": lambda one: one.dt.ordinal_day(),
    "DOW": lambda one: one.dt.weekday() % 7 + 1,
    "ISODOW": lambda one: one.dt.weekday(),
    "DAYOFWEEK": lambda one: one.dt.weekday() % 7 + 1,
    "HOUR": lambda one: one.dt.hour(),
    "MINUTE": lambda one: one.dt.minute(),
    "SECOND": lambda one: one.dt.second(),
    "MILLISECOND": lambda one: one.dt.millisecond(),
    "MICROSECOND": lambda one: one.dt.microsecond(),
    "NANOSECOND": lambda one: one.dt.nanosecond(),
    "EPOCH": lambda one: one.dt.epoch("ms") // 1000,
}
#: Units that a day has none of.
_IN_A_DAY = ("HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND", "NANOSECOND", "EPOCH")


def milliseconds(value: pl.Expr, kind: Type) -> pl.Expr:
    """A time as ms since 1970, Int64."""
    if kind.kind is Kind.DATE:
        return value.cast(_MS).cast(pl.Int64)
    return value.dt.epoch("ms")


def _local(value: pl.Expr, kind: Type, zone: str) -> pl.Expr:
    return to_local(value, zone) if kind.kind is Kind.TIMESTAMP_LTZ and zone != UTC else value


def add_interval(call: Call, args: list[pl.Expr]) -> pl.Expr:
    """Time or interval, plus or minus an interval."""
    kind, interval = call.args[0].type, call.args[1].type
    if kind.kind in (Kind.INTERVAL_DAY, Kind.INTERVAL_YEAR):
        return args[0] + args[1] if call.function == "+" else args[0] - args[1]
    amount = args[1] if call.function == "+" else -args[1]
    if interval.kind is Kind.INTERVAL_YEAR:
        return _add_months(args[0], amount)
    return _moved(args[0], amount.dt.total_milliseconds(), kind).cast(dtype_of(call.type))


def _moved(value: pl.Expr, ms: pl.Expr, kind: Type) -> pl.Expr:
    """A time of day goes round; a day moves by whole days, cut towards zero."""
    if kind.kind is Kind.TIME:
        return ((value.cast(pl.Int64) + ms * 1_000_000) % _DAY_NS).cast(pl.Time)
    if kind.kind is Kind.DATE:
        whole = ms // _DAY_MS + ((ms < 0) & (ms % _DAY_MS != 0)).cast(pl.Int64)
        return value + pl.duration(days=whole)
    return value + pl.duration(milliseconds=ms)


def _add_months(value: pl.Expr, months: pl.Expr) -> pl.Expr:
    return value.dt.offset_by(pl.format("{}mo", months))


def _part(unit: str, value: pl.Expr, kind: Type, zone: str) -> pl.Expr:
    if kind.kind is Kind.DATE and unit in _IN_A_DAY:
        value = value.cast(_MS)
    return _PARTS[unit](_local(value, kind, zone)).cast(pl.Int64)


def _extract(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    unit, kind = str(constant(call.args[0])), call.args[1].type
    if kind.kind is Kind.INTERVAL_YEAR:
        months = args[1].cast(pl.Int64)
        return _towards_zero(months, 12) if unit == "YEAR" else _signed_rest(months, 12)
    if kind.kind is Kind.INTERVAL_DAY:
        ms = args[1].dt.total_milliseconds()
        above = {"DAY": None, "HOUR": _DAY_MS, "MINUTE": 3_600_000, "SECOND": 60_000, "MILLISECOND": 1000}[unit]
        return _towards_zero(ms if above is None else _signed_rest(ms, above), MILLISECONDS[unit])
    return _part(unit, args[1], kind, call.zone)


def _towards_zero(value: pl.Expr, size: int) -> pl.Expr:
    return value // size + ((value < 0) & (value % size != 0)).cast(pl.Int64)


def _signed_rest(value: pl.Expr, size: int) -> pl.Expr:
    return value - _towards_zero(value, size) * size


def _named_part(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return _part(call.function, args[0], call.args[0].type, call.zone)


def truncate(value: pl.Expr, unit: str) -> pl.Expr:
    """The beginning of the unit that the time lies in."""
    if unit == "WEEK":
        return (value + _DAY).dt.truncate("1w") - _DAY
    return value.dt.truncate(_TRUNCATE[unit])


def _to_unit(up: bool) -> Kernel:
    """FLOOR and CEIL."""

    def kernel(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
        from qanat.sql.embedded.kernels import numbers

        if len(args) == 1:
            return (numbers.ceiling if up else numbers.floor)(call, args[0])
        unit, kind = str(constant(call.args[1])), call.args[0].type
        if kind.kind is Kind.TIME:
            return _time_to_unit(args[0], MILLISECONDS[unit] * 1_000_000, up)
        if kind.kind is Kind.DATE and unit in _IN_A_DAY:
            return args[0]
        value = _local(args[0], kind, call.zone)
        found = truncate(value, unit)
        if up:
            step = "1w" if unit == "WEEK" else _TRUNCATE[unit]
            found = pl.when(found == value).then(found).otherwise(found.dt.offset_by(step))
        if kind.kind is Kind.TIMESTAMP_LTZ and call.zone != UTC:
            # with the offset of the instant itself, as Flink does, also where it changes in between
            found = found.dt.replace_time_zone(UTC) - (value - args[0].dt.replace_time_zone(None))
        return found.cast(dtype_of(call.type))

    return kernel


def _time_to_unit(value: pl.Expr, size: int, up: bool) -> pl.Expr:
    ns = value.cast(pl.Int64) + (size - 1 if up else 0)
    return (ns // size * size % _DAY_NS).cast(pl.Time)


# --- texts and numbers -> times -----------------------------------------------------------------------------------


def _to_ltz(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    kind, dtype = call.args[0].type.kind, dtype_of(call.type)
    if kind is Kind.STRING:
        return _text_to_ltz(call, args, guard)
    digits = int(str(constant(call.args[1])))
    per_second = int(10**digits)
    # year 1 .. 9999
    known: pl.Expr = args[0].is_between(-62_135_596_800 * per_second, 253_402_300_800 * per_second, closed="left")
    unit = int(10 ** digits_of(dtype))
    value: pl.Expr = pl.when(known).then(args[0])
    if unit >= per_second:
        return (value * (unit // per_second)).cast(pl.Int64, strict=False).cast(dtype)
    return (value // (per_second // unit)).cast(pl.Int64, strict=False).cast(dtype)


def _text_to_ltz(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    """A text in UTC, or in the zone that is the third argument."""
    if len(args) == 1:
        found = clock.standard(args[0], "ms")
        checked = clock.refuse_text(args[0], found, "TO_TIMESTAMP_LTZ", guard)
        return checked.dt.replace_time_zone(UTC)
    local = _parsed(call, args)
    if len(args) == 2:
        return local.dt.replace_time_zone(UTC)
    zone = zone_of(str(constant(call.args[2]))) if is_constant(call.args[2]) else None
    if zone is None:
        raise DataError("TO_TIMESTAMP_LTZ: the zone must be a literal that names one", hint="'Europe/Berlin'")
    return to_instant(local, zone)


def _parsed(call: Call, args: list[pl.Expr], simple: bool = False) -> pl.Expr:
    """A text by the pattern that is the second argument; NULL where it does not fit or there is no such pattern."""
    if is_constant(call.args[1]):
        return clock.read(args[0], str(constant(call.args[1])), simple)
    return _by_pattern(args[:2], lambda text, pattern: clock.read(text, pattern, simple), _MS)


def _by_pattern(args: list[pl.Expr], change: Callable[[pl.Expr, str], pl.Expr], dtype: pl.DataType) -> pl.Expr:
    """What a function of a constant second argument gives where it is none: once for every value that it has."""

    def compute(found: Sequence[pl.Series]) -> pl.Series:
        values, patterns = broadcast(found)
        frame = pl.DataFrame({"v": values, "p": patterns})
        made = pl.select(pl.repeat(None, len(values), dtype=dtype)).to_series()
        for pattern in patterns.unique().drop_nulls().to_list():
            part = frame.select(change(pl.col("v"), pattern).cast(dtype)).to_series()
            made = part.zip_with(patterns.eq_missing(pattern), made)
        return made.alias(values.name)

    return pl.map_batches(args, compute, return_dtype=dtype)


def _to_timestamp(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return clock.standard(args[0], "ms") if len(args) == 1 else _parsed(call, args)


def _to_date(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    return clock.day(args[0]) if len(args) == 1 else _parsed(call, args, simple=True).cast(pl.Date)


def _unix_timestamp(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    """A text that is no time gives the smallest BIGINT."""

    def seconds(text: pl.Expr, pattern: str) -> pl.Expr:
        local = clock.read(text, pattern, simple=True)
        # a text with an offset needs no zone
        zone = UTC if clock.has_offset(pattern) else call.zone
        found = to_instant(local, zone, late=True).dt.epoch("ms") // 1000
        return pl.when(text.is_not_null()).then(found.fill_null(-(2**63)))

    if len(args) == 1 or is_constant(call.args[1]):
        return seconds(args[0], str(constant(call.args[1])) if len(args) > 1 else _DEFAULT_FORMAT)
    return _by_pattern(args, seconds, pl.Int64())


def _convert_tz(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    def converted(text: pl.Expr, zones: str) -> pl.Expr:
        source, target = zones.split("\0")
        local = clock.read(text, _DEFAULT_FORMAT, simple=True)
        return to_local(to_instant(local, java_zone(source), late=True), java_zone(target)).dt.to_string(
            "%Y-%m-%d %H:%M:%S"
        )

    pair = args[1] + pl.lit("\0") + args[2]
    return _by_pattern([args[0], pair], converted, pl.String())


# --- times -> texts -----------------------------------------------------------------------------------------------


def _written(value: pl.Expr, pattern: str) -> pl.Expr:
    fast = strftime(pattern)
    if fast is not None:
        return value.dt.to_string(fast)
    parts_of(pattern)

    def compute(found: Sequence[pl.Series]) -> pl.Series:
        texts = [None if one is None else write(pattern, one) for one in found[0].to_list()]
        return pl.Series(found[0].name, texts, dtype=pl.String)

    return pl.map_batches([value], compute, return_dtype=pl.String)


def _formatted(call: Call, value: pl.Expr, pattern: pl.Expr | None, at: int) -> pl.Expr:
    if pattern is None:
        return _written(value, _DEFAULT_FORMAT)
    if is_constant(call.args[at]):
        return _written(value, str(constant(call.args[at])))
    return _by_pattern([value, pattern], _written, pl.String())


def _from_unixtime(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    instant = (args[0] * 1000).cast(_MS).dt.replace_time_zone(UTC)
    return _formatted(call, to_local(instant, call.zone), args[1] if len(args) > 1 else None, 1)


def _date_format(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    kind = call.args[0].type
    if kind.kind is Kind.STRING:
        value = clock.read(args[0], _DEFAULT_FORMAT, simple=True)
    else:
        value = to_local(args[0], call.zone) if kind.kind is Kind.TIMESTAMP_LTZ else args[0]
    return _formatted(call, value, args[1], 1)


# --- distances ----------------------------------------------------------------------------------------------------


def _difference(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    unit, (first, last) = str(constant(call.args[0])), args[1:]
    kinds = [one.type for one in call.args[1:]]
    if unit in MONTHS:
        months = _months_between(first, last, kinds)
        return _towards_zero(months, MONTHS[unit]).cast(pl.Int32)
    distance = milliseconds(last, kinds[1]) - milliseconds(first, kinds[0])
    return _towards_zero(distance, MILLISECONDS[unit]).cast(pl.Int32, wrap_numerical=True)


def _months_between(first: pl.Expr, last: pl.Expr, kinds: list[Type]) -> pl.Expr:
    """Whole months; a day beyond the end of its month counts as the last (31 January to 28 February is one)."""
    early, late = (milliseconds(one, kind).cast(_MS) for one, kind in zip((first, last), kinds, strict=True))
    forward = late >= early
    low, high = pl.when(forward).then(early).otherwise(late), pl.when(forward).then(late).otherwise(early)
    months = (high.dt.year() - low.dt.year()) * 12 + high.dt.month().cast(pl.Int32) - low.dt.month().cast(pl.Int32)
    months = months.cast(pl.Int64)
    months = months - (low.dt.offset_by(pl.format("{}mo", months)) > high).cast(pl.Int64)
    return pl.when(forward).then(months).otherwise(-months)


def _add(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    unit, count, value = str(constant(call.args[0])), args[1], args[2]
    if unit in MONTHS:
        return _add_months(value, count * MONTHS[unit])
    return _moved(value, count * MILLISECONDS[unit], call.args[2].type).cast(dtype_of(call.type))


def _between(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    """(later - earlier) unit."""
    kinds = [one.type for one in call.args[1:]]
    if call.type.kind is Kind.INTERVAL_YEAR:
        return _months_between(args[2], args[1], [kinds[1], kinds[0]]).cast(pl.Int32)
    return (milliseconds(args[1], kinds[0]) - milliseconds(args[2], kinds[1])).cast(pl.Duration("ms"))


def _overlaps(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    def bounds(start: pl.Expr, end: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
        return pl.when(start <= end).then(start).otherwise(end), pl.when(start <= end).then(end).otherwise(start)

    (a, b), (c, d) = bounds(*args[:2]), bounds(*args[2:])
    known = pl.all_horizontal([one.is_not_null() for one in args])
    return pl.when(known).then((a <= d) & (c <= b))


#: Kernels that may raise for a row.
RAISES = ("TO_TIMESTAMP_LTZ",)

KERNELS: dict[str, Kernel] = {
    "EXTRACT": _extract,
    **dict.fromkeys(
        ("YEAR", "QUARTER", "MONTH", "WEEK", "DAYOFYEAR", "DAYOFMONTH", "DAYOFWEEK", "HOUR", "MINUTE", "SECOND"),
        _named_part,
    ),
    "FLOOR": _to_unit(False),
    "CEIL": _to_unit(True),
    "TO_TIMESTAMP_LTZ": _to_ltz,
    "TO_TIMESTAMP": _to_timestamp,
    "TO_DATE": _to_date,
    "FROM_UNIXTIME": _from_unixtime,
    "UNIX_TIMESTAMP": _unix_timestamp,
    "CONVERT_TZ": _convert_tz,
    "DATE_FORMAT": _date_format,
    "TIMESTAMPDIFF": _difference,
    "TIMESTAMPADD": _add,
    "INTERVAL": _between,
    "OVERLAPS": _overlaps,
}
