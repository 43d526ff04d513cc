"""Text <-> times, dates, decimals and bytes: strict, for every format that writes them as text.

Two ways that give the same values: whole Arrow columns at once (`column_of`), and one value (`value_of`), which says
what is wrong with it. Nothing here knows JSON or CSV.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from qanat.model.arrow import to_arrow
from qanat.model.types import Kind, Type

#: Kinds that JSON writes as strings and that `column_of` converts.
TEXT_KINDS = frozenset({Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ, Kind.BYTES})

_CLOCK = r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,9}))?"
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME = re.compile(_CLOCK, re.ASCII)
_TIMESTAMP = re.compile(_DATE.pattern + "[ T]" + _CLOCK, re.ASCII)
_ZONED = re.compile(_TIMESTAMP.pattern + r"(?:Z|([+-])(\d\d):([0-5]\d))", re.ASCII)
_DIGITS = {"ms": 3, "us": 6, "ns": 9}
_EPOCH = dt.date(1970, 1, 1).toordinal()


class Misfit(ValueError):  # noqa: N818  not an error of the program: a value that does not fit its column
    """A value that does not fit its type; the text is the reason."""


def column_of(texts: pa.Array, sql_type: Type) -> pa.Array:
    """All of `texts` as `sql_type`. Raises `pa.ArrowInvalid` if only one does not fit, or needs the exact path."""
    match sql_type.kind:
        case Kind.DATE:
            return texts.cast(pa.date32())
        case Kind.TIME:
            _require_seconds(texts, 5)
            dated = pc.binary_join_element_wise("1970-01-01 ", texts, "")
            return dated.cast(pa.timestamp("ms")).cast(pa.time32("ms"))
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            _require_seconds(texts, 16)
            return texts.cast(to_arrow(sql_type))
        case kind:
            raise pa.ArrowInvalid(f"no bulk conversion to {kind}")


def _require_seconds(texts: pa.Array, place: int) -> None:
    """Arrow also takes times without seconds and dates alone; SQL's formats do not."""
    colon = pc.utf8_slice_codeunits(texts, place, place + 1)
    if pc.all(pc.equal(colon, ":")).as_py() is False:
        raise pa.ArrowInvalid("a time without seconds")
    if pc.any(pc.greater(pc.binary_length(texts), 29 if place == 16 else 12)).as_py():
        raise pa.ArrowInvalid("longer than the bulk conversion takes")


def value_of(text: str, sql_type: Type) -> Any:
    """One text as the Python value that Arrow takes for `sql_type`: integers for times. Raises `Misfit`."""
    match sql_type.kind:
        case Kind.DATE:
            return _date(text)
        case Kind.TIME:
            return _time(text)
        case Kind.TIMESTAMP:
            return _timestamp(text, sql_type)
        case Kind.TIMESTAMP_LTZ:
            return _zoned(text, sql_type)
        case Kind.BYTES:
            return _bytes(text)
        case Kind.DECIMAL:
            return _decimal(text, sql_type)
        case kind:
            raise AssertionError(f"{kind} is not written as text")


def _fraction(digits: str | None, precision: int) -> int:
    """Fractional digits cut, not rounded, to `precision` digits, as Flink does."""
    return int((digits or "").ljust(precision, "0")[:precision] or "0")


def _days(year: str, month: str, day: str) -> int:
    try:
        return dt.date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError as error:
        raise Misfit(str(error)) from None


def _date(text: str) -> int:
    found = _DATE.fullmatch(text)
    if found is None:
        raise _misfit("yyyy-MM-dd")
    return _days(*found.groups())


def _time(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise _misfit("HH:mm:ss[.fraction]")
    hour, minute, second, digits = found.groups()
    return ((int(hour) * 60 + int(minute)) * 60 + int(second)) * 1000 + _fraction(digits, 3)


def _timestamp(text: str, sql_type: Type) -> int:
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise _misfit("yyyy-MM-dd HH:mm:ss[.fraction]")
    return _instant(found.groups(), 0, sql_type)


def _zoned(text: str, sql_type: Type) -> int:
    found = _ZONED.fullmatch(text)
    if found is None:
        raise _misfit("yyyy-MM-dd HH:mm:ss[.fraction] and Z or an offset such as +02:00")
    *parts, sign, hours, minutes = found.groups()
    offset = 0 if sign is None else (int(hours) * 60 + int(minutes)) * (-60 if sign == "-" else 60)
    if abs(offset) > 18 * 3600:
        raise Misfit("an offset beyond 18 hours")
    return _instant(tuple(parts), offset, sql_type)


def _instant(parts: tuple[str | Any, ...], offset: int, sql_type: Type) -> int:
    year, month, day, hour, minute, second, digits = parts
    precision = _DIGITS[to_arrow(sql_type).unit]
    seconds = _days(year, month, day) * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second) - offset
    count = seconds * 10**precision + _fraction(digits, precision)
    if not -(2**63) <= count < 2**63:
        raise Misfit(f"beyond what {sql_type.with_nullable(True)} holds")
    return int(count)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _misfit("base64") from None


def _decimal(text: str, sql_type: Type) -> decimal.Decimal:
    try:
        return exact(decimal.Decimal(text), sql_type)
    except decimal.InvalidOperation:
        raise Misfit("") from None


def exact(value: decimal.Decimal, sql_type: Type) -> decimal.Decimal:
    """`value` with the type's scale, rounded half up as Flink does. Raises `Misfit` beyond its digits."""
    precision, scale = sql_type.precision or 10, sql_type.scale or 0
    if not value.is_finite() or value.adjusted() > precision:
        raise Misfit("too many digits")
    with decimal.localcontext(prec=80):
        rounded = value.quantize(decimal.Decimal(1).scaleb(-scale), rounding=decimal.ROUND_HALF_UP)
    if rounded.adjusted() >= precision - scale and rounded:
        raise Misfit("too many digits")
    return rounded


def _misfit(form: str) -> Misfit:
    return Misfit(f"written as {form}")


def timestamp_texts(times: pa.Array, timestamp_format: str) -> pa.Array:
    """`yyyy-MM-dd HH:mm:ss`, a fraction without trailing zeros where there is one; an instant ends in Z.

    As java.time's ISO_LOCAL_DATE and appendFraction(NANO_OF_SECOND, 0, 9, true) do in Flink's TimeFormats.
    """
    texts = times.cast(pa.int64()).cast(pa.timestamp(times.type.unit)).cast(pa.string())
    if times.type.unit != "s":
        texts = pc.utf8_rtrim(pc.utf8_rtrim(texts, characters="0"), characters=".")
    if timestamp_format == "ISO-8601":
        texts = pc.replace_substring(texts, " ", "T")
    return texts if times.type.tz is None else pc.binary_join_element_wise(texts, "Z", "")
