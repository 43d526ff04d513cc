"""Java's patterns for times (`yyyy-MM-dd HH:mm:ss`): what they write and what they read.

Pure; raises ValueError for letters that are not known. Names are English, weeks begin on Sunday, as in Flink's locale.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

_STRFTIME = {
    "yyyy": "%Y", "uuuu": "%Y", "yy": "%y", "MM": "%m", "M": "%-m", "MMM": "%b", "MMMM": "%B", "LLL": "%b",
    "LLLL": "%B", "dd": "%d", "d": "%-d", "DDD": "%j", "E": "%a", "EE": "%a", "EEE": "%a", "EEEE": "%A", "HH": "%H",
    "H": "%-H", "hh": "%I", "h": "%-I", "a": "%p", "mm": "%M", "m": "%-M", "ss": "%S", "s": "%-S", "SSS": "%3f",
    "SSSSSS": "%6f", "SSSSSSSSS": "%9f",
}  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class Letters:
    """A run of one pattern letter."""

    letter: str
    count: int


Part = Letters | str


@lru_cache(maxsize=256)
def parts_of(pattern: str) -> tuple[Part, ...]:
    """The pattern in parts. Raises ValueError for a letter that Java refuses or that is not known here.

    >>> parts_of("MM''dd")
    (Letters(letter='M', count=2), "'", Letters(letter='d', count=2))
    """
    found: list[Part] = []
    for match in re.finditer(r"''|'(?:[^']|'')*'|([A-Za-z])\1*|[^A-Za-z']+|'", pattern):
        text = match.group(0)
        if text == "''":
            found.append("'")
        elif text == "'" or text[0] in "{}#":
            raise ValueError(f"`{pattern}` is no pattern")
        elif text.startswith("'"):
            found.append(text[1:-1].replace("''", "'"))
        elif match.group(1):
            if text[0] not in _WRITERS and text[0] not in "XxZzVO":
                raise ValueError(f"the pattern letter `{text[0]}` is not known")
            found.append(Letters(text[0], len(text)))
        else:
            found.append(text)
    return tuple(found)


def strftime(pattern: str) -> str | None:
    """The pattern for polars; None where it has no such thing. Raises ValueError for what cannot be written at all.

    >>> strftime("yyyy-MM-dd'T'HH:mm:ss.SSS")
    '%Y-%m-%dT%H:%M:%S.%3f'
    """
    made: list[str] = []
    for part in parts_of(pattern):
        if isinstance(part, str):
            made.append(part.replace("%", "%%"))
            continue
        if part.letter in "XxZzVO":
            raise ValueError(f"the time has no zone to write for `{part.letter}`")
        known = _STRFTIME.get(part.letter * part.count)
        if known is None:
            return None
        made.append(known)
    return "".join(made) or None


def write(pattern: str, value: datetime) -> str:
    """The time as the pattern says, one by one."""
    return "".join(
        part if isinstance(part, str) else _WRITERS[part.letter](value, part.count) for part in parts_of(pattern)
    )


def _number(get: Callable[[datetime], int]) -> Callable[[datetime, int], str]:
    return lambda value, count: str(get(value)).zfill(count)


def _year(get: Callable[[datetime], int]) -> Callable[[datetime, int], str]:
    return lambda value, count: f"{get(value) % 100:02d}" if count == 2 else str(get(value)).zfill(count)


def _named(names: tuple[str, ...], get: Callable[[datetime], int]) -> Callable[[datetime, int], str]:
    def written(value: datetime, count: int) -> str:
        name = names[get(value) - 1]
        return name if count == 4 else name[0] if count == 5 else name[:3]

    return written


def _month(value: datetime, count: int) -> str:
    return str(value.month).zfill(count) if count < 3 else _named(_MONTHS, lambda one: one.month)(value, count)


def _quarter(value: datetime, count: int) -> str:
    number = (value.month + 2) // 3
    return str(number).zfill(count) if count < 3 else f"Q{number}"


def _day_of_week(value: date) -> int:
    return value.isoweekday() % 7 + 1


def _week(value: datetime) -> tuple[int, int]:
    """Year and week that begin on Sunday and hold 1 January."""
    following = date(value.year + 1, 1, 1) if value.year < 9999 else date(9999, 12, 31)
    if (following - value.date()).days < _day_of_week(following):
        return value.year + 1, 1
    first = _day_of_week(date(value.year, 1, 1))
    return value.year, (value.timetuple().tm_yday + first - 2) // 7 + 1


def _fraction(value: datetime, count: int) -> str:
    return f"{value.microsecond * 1000:09d}"[:count].ljust(count, "0")


def _nanos_of_day(value: datetime) -> int:
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 10**9 + value.microsecond * 1000


_WRITERS: dict[str, Callable[[datetime, int], str]] = {
    "y": _year(lambda one: one.year),
    "u": _year(lambda one: one.year),
    "Y": _year(lambda one: _week(one)[0]),
    "w": _number(lambda one: _week(one)[1]),
    "W": _number(lambda one: (one.day + _day_of_week(one.replace(day=1)) - 2) // 7 + 1),
    "M": _month,
    "L": _month,
    "Q": _quarter,
    "q": _quarter,
    "d": _number(lambda one: one.day),
    "D": _number(lambda one: one.timetuple().tm_yday),
    "E": _named(_DAYS, lambda one: one.isoweekday()),
    "e": _number(_day_of_week),
    "F": _number(lambda one: (one.day - 1) % 7 + 1),
    "G": lambda _value, count: "Anno Domini" if count == 4 else "A" if count == 5 else "AD",
    "a": lambda value, _count: "AM" if value.hour < 12 else "PM",
    "H": _number(lambda one: one.hour),
    "k": _number(lambda one: one.hour or 24),
    "K": _number(lambda one: one.hour % 12),
    "h": _number(lambda one: one.hour % 12 or 12),
    "m": _number(lambda one: one.minute),
    "s": _number(lambda one: one.second),
    "S": _fraction,
    "n": _number(lambda one: one.microsecond * 1000),
    "N": _number(_nanos_of_day),
    "A": _number(lambda one: _nanos_of_day(one) // 10**6),
}

#: letter -> the field that it reads
_FIELDS = {
    "y": "year", "u": "year", "M": "month", "L": "month", "d": "day", "D": "yearday", "H": "hour", "k": "hour24",
    "h": "hour12", "K": "hour11", "m": "minute", "s": "second", "S": "fraction", "a": "half",
}  # fmt: skip
_OFFSETS = {
    "X": r"Z|[+-]\d{2}(?:\d{2})?", "XX": r"Z|[+-]\d{4}", "XXX": r"Z|[+-]\d{2}:\d{2}", "x": r"[+-]\d{2}(?:\d{2})?",
    "xx": r"[+-]\d{4}", "xxx": r"[+-]\d{2}:\d{2}", "Z": r"[+-]\d{4}",
}  # fmt: skip


@lru_cache(maxsize=256)
def reader(pattern: str, simple: bool = False) -> str:
    """A regular expression (Rust's) with the fields as groups: year, month, day, hour, minute, second, fraction, ....

    `simple`: as SimpleDateFormat reads, which takes other counts of digits and looks at the beginning only.

    >>> reader("yyyy-MM")
    '^(?P<year>[0-9]{4})\\\\-(?P<month>[0-9]{2})$'
    """
    parts = parts_of(pattern)
    made = ["^"]
    seen: set[str] = set()
    for i, part in enumerate(parts):
        if isinstance(part, str):
            made.append(re.escape(part))
            continue
        adjacent = any(_is_number(one) for one in (*parts[i + 1 : i + 2], *parts[max(i - 1, 0) : i]))
        name, body = _field(part, simple and not adjacent)
        if simple:
            body = f"(?i:{body})"
        if name in seen:
            raise ValueError(f"`{pattern}` has {part.letter} twice")
        seen.add(name)
        made.append(f"(?P<{name}>{body})")
    return "".join(made) + ("" if simple else "$")


def _is_number(part: Part) -> bool:
    return isinstance(part, Letters) and part.letter in "yuMdHhkKmsSD" and (part.letter != "M" or part.count < 3)


def _field(part: Letters, loose: bool) -> tuple[str, str]:
    letter, count = part.letter, part.count
    if letter in "XxZ":
        body = _OFFSETS.get(letter * count)
        if body is None:
            raise ValueError(f"`{letter * count}` is not known")
        # SimpleDateFormat's X and Z read every form
        return "offset", r"Z|[+-]\d{2}:?(?:\d{2})?" if loose else body
    if letter in "ML" and count > 2:
        names = [name if count == 4 else name[:3] for name in _MONTHS]
        return "monthname", "|".join(names)
    if letter == "E":
        return "weekday", "|".join(name if count == 4 else name[:3] for name in _DAYS)
    if letter == "a":
        return "half", "AM|PM"
    if letter not in _FIELDS:
        raise ValueError(f"the pattern letter `{letter}` cannot be read")
    if letter == "S":
        return "fraction", r"[0-9]+" if loose else rf"[0-9]{{{count}}}"
    if letter in "yu":
        return ("year2", r"[0-9]{2}") if count == 2 else ("year", r"[0-9]{1,4}" if loose else r"[0-9]{4}")
    return _FIELDS[letter], r"[0-9]+" if loose else r"[0-9]{1,2}" if count == 1 else rf"[0-9]{{{count}}}"


def month_of(name: str) -> int:
    """The number of a month's name, short or long."""
    return next(i for i, one in enumerate(_MONTHS, 1) if one[:3].lower() == name[:3].lower())
