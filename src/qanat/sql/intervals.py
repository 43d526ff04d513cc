"""INTERVAL literals -> milliseconds or months, and literals of times, as Calcite reads them. Pure; raises ValueError
with its words."""

from __future__ import annotations

import re
from datetime import date, datetime, time

from qanat.model.types import Kind

#: Milliseconds of a unit.
MILLISECONDS = {
    "MILLISECOND": 1,
    "SECOND": 1000,
    "MINUTE": 60_000,
    "HOUR": 3_600_000,
    "DAY": 86_400_000,
    "WEEK": 7 * 86_400_000,
}
#: Months of a unit.
MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}

_DAY_UNITS = ("DAY", "HOUR", "MINUTE", "SECOND")
_LIMITS = {"HOUR": 24, "MINUTE": 60, "SECOND": 60}


def single(text: str, unit: str, digits: int = 2) -> tuple[int, bool]:
    """`INTERVAL 'text' unit(digits)`: (amount, whether it is in months).

    >>> single("1.5", "SECOND"), single("2", "YEAR")
    ((1500, False), (24, True))
    """
    pattern = r"([+-]?)(\d+)(?:\.(\d{1,9}))?" if unit == "SECOND" else r"([+-]?)(\d+)"
    match = re.fullmatch(pattern, text.strip())
    if match is None:
        raise ValueError(f"`{text}` is not a number of {unit}")
    whole = match.group(2)
    if len(whole.lstrip("0")) > digits:
        raise ValueError(f"`{text}` has more than {digits} digits")
    sign = -1 if match.group(1) == "-" else 1
    if unit in MONTHS:
        return sign * int(whole) * MONTHS[unit], True
    amount = int(whole) * MILLISECONDS[unit]
    if unit == "SECOND" and match.group(3):
        amount += int(match.group(3).ljust(3, "0")[:3])
    return sign * amount, False


def span(text: str, first: str, last: str) -> tuple[int, bool]:
    """`INTERVAL 'text' first TO last`.

    >>> span("1:30", "MINUTE", "SECOND"), span("1 02:03", "DAY", "MINUTE"), span("1-6", "YEAR", "MONTH")
    ((90000, False), (93780000, False), (18, True))
    """
    if (first, last) == ("YEAR", "MONTH"):
        match = re.fullmatch(r"([+-]?)(\d+)-(\d{1,2})", text.strip())
        if match is None or int(match.group(3)) > 11:
            raise ValueError(f"`{text}` is not YEAR TO MONTH, such as '1-6'")
        return (-1 if match.group(1) == "-" else 1) * (int(match.group(2)) * 12 + int(match.group(3))), True
    if first not in _DAY_UNITS or last not in _DAY_UNITS or _DAY_UNITS.index(first) >= _DAY_UNITS.index(last):
        raise ValueError(f"{first} TO {last} is not an interval")
    units = _DAY_UNITS[_DAY_UNITS.index(first) : _DAY_UNITS.index(last) + 1]
    pattern = r"([+-]?)" + "".join(
        {"DAY": r"(\d+)"}.get(unit, r"(\d+)") + ("" if unit == last else r"\s+" if unit == "DAY" else ":")
        for unit in units
    )
    match = re.fullmatch(pattern + (r"(?:\.(\d{1,9}))?" if last == "SECOND" else ""), text.strip())
    if match is None:
        raise ValueError(f"`{text}` is not {first} TO {last}")
    amount = 0
    for number, unit in enumerate(units, start=2):
        value = int(match.group(number))
        if unit != first and value >= _LIMITS[unit]:
            raise ValueError(f"{value} {unit} is too large in `{text}`")
        amount += value * MILLISECONDS[unit]
    if last == "SECOND" and match.group(len(units) + 2):
        amount += int(match.group(len(units) + 2).ljust(3, "0")[:3])
    return (-amount if match.group(1) == "-" else amount), False


def time_literal(text: str, kind: Kind) -> date | time | datetime:
    """What DATE, TIME and TIMESTAMP literals say; months and days may have one digit, a TIMESTAMP needs no time of day.

    >>> time_literal("2026-1-5", Kind.TIMESTAMP), time_literal("1:2:3.5", Kind.TIME)
    (datetime.datetime(2026, 1, 5, 0, 0), datetime.time(1, 2, 3, 500000))
    """
    day, clock = r"(\d{4})-(\d{1,2})-(\d{1,2})", r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{0,9}))?"
    pattern = {Kind.DATE: day, Kind.TIME: clock}.get(kind, rf"{day}(?: {clock})?")
    match = re.fullmatch(pattern, text.strip())
    if match is None:
        raise ValueError(f"`{text}` is not a {kind.value}")
    *numbers, fraction = match.groups() if kind is not Kind.DATE else (*match.groups(), None)
    whole = [int(one or 0) for one in numbers]
    micros = int((fraction or "").ljust(6, "0")[:6])
    if kind is Kind.DATE:
        return date(*whole)
    hour, minute, second = whole[-3:]
    if kind is Kind.TIME:
        return time(hour, minute, second, micros)
    year, month, of_month = whole[:3]
    return datetime(year, month, of_month, hour, minute, second, micros)
