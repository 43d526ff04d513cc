"""Functions of times: the rules of their types."""

from __future__ import annotations

from qanat.model.types import BIGINT, BOOLEAN, DATE, DOUBLE, INT, STRING, Kind, Type
from qanat.sql.coercion import APPROXIMATE, NUMERIC, TIMESTAMPS, coerce
from qanat.sql.expressions import Literal
from qanat.sql.functions.signature import INTERVALS, TIMES, Arguments, Mismatch, Row, fits, fixed, nullable, want
from qanat.sql.timeformat import strftime

_TIMESTAMP = Type(Kind.TIMESTAMP, precision=3)


def _to_ltz(arguments: Arguments) -> tuple[Arguments, Type]:
    value = arguments[0]
    want(value, (*NUMERIC, Kind.STRING), "a number (and its digits) or a string")
    if value.type.kind is Kind.STRING:
        return fixed(STRING, returns=Type(Kind.TIMESTAMP_LTZ, precision=3), fails=True)(arguments)
    digits = arguments[1] if len(arguments) > 1 else Literal(3, INT.with_nullable(False))
    if len(arguments) > 2 or not (isinstance(digits, Literal) and digits.value in range(10)):
        raise Mismatch("the digits are 0 (seconds), 3 (milliseconds) .. 9", "TO_TIMESTAMP_LTZ(x, 3)")
    number = value if value.type.kind in (Kind.BIGINT, *APPROXIMATE) else coerce(value, BIGINT)
    if number.type.kind is Kind.FLOAT:
        number = coerce(number, DOUBLE)
    return (number, digits), Type(Kind.TIMESTAMP_LTZ, precision=max(3, int(str(digits.value))))


def _difference(arguments: Arguments) -> tuple[Arguments, Type]:
    """TIMESTAMPDIFF(unit, from, to)."""
    for one in arguments[1:]:
        want(one, TIMES, "a time")
    if (arguments[1].type.kind is Kind.TIMESTAMP_LTZ) is not (arguments[2].type.kind is Kind.TIMESTAMP_LTZ):
        raise Mismatch("both times are TIMESTAMP_LTZ, or none", "CAST(x AS TIMESTAMP(3))")
    return arguments, nullable(INT, arguments[1:])


def _add(arguments: Arguments) -> tuple[Arguments, Type]:
    """TIMESTAMPADD(unit, count, time)."""
    unit, count, time = arguments
    want(time, (*TIMES, Kind.TIME), "a time")
    result = time.type
    short = isinstance(unit, Literal) and unit.value in ("SECOND", "MINUTE", "HOUR")
    if time.type.kind is Kind.TIME and not short:
        raise Mismatch("a time of day has hours, minutes and seconds")
    if time.type.kind is Kind.DATE and short:
        result = Type(Kind.TIMESTAMP, precision=6)
        time = coerce(time, result)
    return (unit, fits(count, BIGINT), time), nullable(result, (count, time))


def _extract(arguments: Arguments) -> tuple[Arguments, Type]:
    unit, value = arguments
    want(value, (*TIMES, Kind.TIME, *INTERVALS), "a time or an interval")
    known = _FIELDS.get(value.type.kind)
    if known and isinstance(unit, Literal) and unit.value not in known:
        raise Mismatch(f"{value.type.kind.value} has no {unit.value}", "fields: " + ", ".join(known))
    return arguments, nullable(BIGINT, arguments[1:])


_FIELDS = {
    Kind.TIME: ("HOUR", "MINUTE", "SECOND", "MILLISECOND"),
    Kind.INTERVAL_DAY: ("DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND"),
    Kind.INTERVAL_YEAR: ("YEAR", "MONTH"),
}


def _named_part(arguments: Arguments) -> tuple[Arguments, Type]:
    want(arguments[0], (*TIMES, Kind.TIME), "a time")
    return arguments, nullable(BIGINT, arguments)


def _date_format(arguments: Arguments) -> tuple[Arguments, Type]:
    want(arguments[0], (*TIMESTAMPS, Kind.STRING), "a time")
    pattern = arguments[1]
    if isinstance(pattern, Literal) and isinstance(pattern.value, str):
        try:
            strftime(pattern.value)
        except ValueError as error:
            raise Mismatch(str(error), "a pattern such as 'yyyy-MM-dd HH:mm:ss.SSS'") from None
    return (arguments[0], fits(arguments[1], STRING)), STRING


def _unix_timestamp(arguments: Arguments) -> tuple[Arguments, Type]:
    if not arguments:
        raise Mismatch("reads the wall clock, which a replay cannot repeat", "UNIX_TIMESTAMP(text)")
    return fixed(STRING, returns=BIGINT)(arguments)


def _overlaps(arguments: Arguments) -> tuple[Arguments, Type]:
    """(start, end or interval) OVERLAPS (start, end or interval): four values, ends computed by the binder."""
    kinds = {one.type.kind for one in arguments} - {Kind.NULL}
    if len(kinds) > 1 or not kinds <= {*TIMES, Kind.TIME}:
        raise Mismatch("the two periods are of times of one type")
    return arguments, nullable(BOOLEAN, arguments)


def _minus(arguments: Arguments) -> tuple[Arguments, Type]:
    """(later - earlier) unit."""
    for one in arguments[1:]:
        want(one, TIMES, "a time")
    months = isinstance(arguments[0], Literal) and arguments[0].value in ("MONTH", "YEAR", "QUARTER")
    return arguments, nullable(Type(Kind.INTERVAL_YEAR if months else Kind.INTERVAL_DAY), arguments[1:])


_PARTS = ("YEAR", "QUARTER", "MONTH", "WEEK", "DAYOFYEAR", "DAYOFMONTH", "DAYOFWEEK", "HOUR", "MINUTE", "SECOND")
_TO_TIME = fixed(STRING, returns=_TIMESTAMP, fails=True)

TIME_FUNCTIONS: list[Row] = [
    (
        "TO_TIMESTAMP_LTZ",
        "TO_TIMESTAMP_LTZ(x [, digits]), TO_TIMESTAMP_LTZ(text [, format [, zone]])",
        "The instant of an epoch (in seconds: 0, in ms: 3), or of a text in UTC or the zone.",
        _to_ltz,
        1,
        3,
    ),
    ("TO_TIMESTAMP", "TO_TIMESTAMP(text [, format])", "The time that a text says, or NULL.", _TO_TIME, 1, 2),
    (
        "TO_DATE",
        "TO_DATE(text [, format])",
        "The day that a text says, or NULL.",
        fixed(STRING, returns=DATE, fails=True),
        1,
        2,
    ),
    (
        "FROM_UNIXTIME",
        "FROM_UNIXTIME(seconds [, format])",
        "The time as text, in the session's time zone.",
        fixed(BIGINT, STRING, returns=STRING, fails=True),
        1,
        2,
    ),
    (
        "UNIX_TIMESTAMP",
        "UNIX_TIMESTAMP(text [, format])",
        "Seconds since 1970 of a text in the session's time zone.",
        _unix_timestamp,
        0,
        2,
    ),
    (
        "CONVERT_TZ",
        "CONVERT_TZ('2026-01-31 23:59:59', from, to)",
        "The time in another time zone, as text.",
        fixed(STRING, returns=STRING, fails=True),
        3,
        3,
    ),
    ("EXTRACT", "EXTRACT(unit FROM time)", "One field of a time or of an interval.", _extract, 2, 2),
    *[(unit, f"{unit}(time)", f"EXTRACT({unit} FROM time).", _named_part, 1, 1) for unit in _PARTS],
    ("DATE_FORMAT", "DATE_FORMAT(time, 'yyyy-MM-dd HH:mm:ss')", "The time as text.", _date_format, 2, 2),
    ("TIMESTAMPDIFF", "TIMESTAMPDIFF(unit, from, to)", "Whole units between two times.", _difference, 3, 3),
    ("TIMESTAMPADD", "TIMESTAMPADD(unit, count, time)", "The time, so many units later.", _add, 3, 3),
    ("INTERVAL", "(later - earlier) DAY TO SECOND", "What lies between two times, as an interval.", _minus, 3, 3),
    ("OVERLAPS", "(a, b) OVERLAPS (c, d)", "Whether two periods touch; b and d may be intervals.", _overlaps, 4, 4),
]
