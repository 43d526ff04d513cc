"""Texts as times: Flink's standard forms, and patterns. A pattern is read by one regular expression over the column,
whose groups are put together; NULL where the text does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from qanat.sql.embedded.kernels.base import refuse
from qanat.sql.timeformat import month_of, parts_of, reader

Unit = Literal["ms", "us", "ns"]

_STANDARD = (
    r"^(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})"
    r"(?: (?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{1,2}):(?P<second>[0-9]{1,2})(?:\.(?P<fraction>[0-9]{0,9}))?)?$"
)
_PLAIN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,9})?$"
_DAY = r"^\s*(?P<year>[0-9]{1,4})(?:-(?P<month>[0-9]{1,2})(?:-(?P<day>[0-9]{1,2})(?: .*)?)?)?\s*$"
_CLOCK = (
    r"^\s*(?P<hour>[0-9]{1,2})(?::(?P<minute>[0-9]{1,2})"
    r"(?::(?P<second>[0-9]{1,2})(?:\.(?P<fraction>[0-9]{0,9}))?)?)?\s*$"
)


def standard(text: pl.Expr, unit: Unit) -> pl.Expr:
    """`2026-01-31 23:59:59.123`, with or without fraction, or only the day."""
    return _parsed(text, _STANDARD, unit, "smart", (_PLAIN, "%Y-%m-%d %H:%M:%S%.f"))


def day(text: pl.Expr) -> pl.Expr:
    """`2026-01-31`, `2026-1-31 ...`, `2026-01`, `2026` as DATE."""
    return _assembled(text, _DAY, "ms", "strict").cast(pl.Date)


def clock(text: pl.Expr) -> pl.Expr:
    """`23:59:59.123`, `23:59`, `23` as TIME."""
    return _assembled(text, _CLOCK, "ns", "strict").dt.time()


def read(text: pl.Expr, pattern: str, simple: bool = False) -> pl.Expr:
    """By a pattern of Java's, or else in the standard form, as Flink does; `simple`: as SimpleDateFormat reads, which
    lets 32 January be 1 February."""
    try:
        regex = reader(pattern, simple)
    except ValueError:
        return pl.when(text.is_not_null()).then(pl.lit(None, dtype=pl.Datetime("ms")))
    form = _strptime(pattern)
    # polars reads second 60, Java does not
    digits = reader(pattern).replace("(?P<second>[0-9]{2})", "(?P<second>[0-5][0-9])")
    plain = None if form is None else (digits, form)
    if simple:
        return _parsed(text, regex, "ms", "lenient", plain)
    return _parsed(text, regex, "ms", "smart", plain, fallback=True)


_STRPTIME = {"yyyy": "%Y", "uuuu": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}


def _strptime(pattern: str) -> str | None:
    """The pattern for polars, where it holds a whole date and time in plain digits."""
    made: list[str] = []
    for part in parts_of(pattern):
        if isinstance(part, str):
            made.append(part.replace("%", "%%"))
        elif part.letter * part.count == "SSS" and made and made[-1].endswith("."):
            made[-1] = made[-1][:-1] + "%.3f"
        else:
            made.append(_STRPTIME.get(part.letter * part.count, "?"))
    form = "".join(made)
    whole = all(form.count(one) == 1 for one in ("%Y", "%m", "%d", "%H", "%M", "%S"))
    return form if whole and "?" not in form else None


def _parsed(
    text: pl.Expr, regex: str, unit: Unit, mode: str, plain: tuple[str, str] | None, fallback: bool = False
) -> pl.Expr:
    """`plain`: a regular expression and a format of polars' that read most texts fast; others go by `regex`, and if
    there is a `fallback` by the standard form."""

    def compute(found: Sequence[pl.Series]) -> pl.Series:
        (texts,) = found
        made = pl.Series(texts.name, [None], dtype=pl.Datetime(unit)).new_from_index(0, len(texts))
        if plain is not None:
            easy = texts.str.contains(plain[0])
            made = pl.select(
                pl.when(easy).then(texts.str.to_datetime(plain[1], time_unit=unit, strict=False))
            ).to_series()
        rest = (texts.is_not_null() & made.is_null()).arg_true()
        if not len(rest):
            return made.alias(texts.name)
        column = pl.col("t")
        slow = _assembled(column, regex, unit, mode)
        if fallback:
            slow = pl.coalesce(slow, _assembled(column.str.strip_chars(), _STANDARD, unit, "smart"))
        # lazily, so that the groups are found once
        others = pl.LazyFrame({"t": texts.gather(rest)}).select(slow).collect().to_series()
        return made.scatter(rest, others).alias(texts.name)

    return pl.map_batches([text], compute, return_dtype=pl.Datetime(unit))


def has_offset(pattern: str) -> bool:
    """Whether the pattern reads an offset from UTC."""
    try:
        return "?P<offset>" in reader(pattern, True)
    except ValueError:
        return False


def refuse_text(text: pl.Expr, found: pl.Expr, name: str, guard: pl.Expr | None) -> pl.Expr:
    """The times, after an error for a text that is none."""
    return refuse(found.is_null() & text.is_not_null(), found, text, name + ": `{}` is not a time", guard)


def _assembled(text: pl.Expr, regex: str, unit: Unit, mode: str) -> pl.Expr:
    names = [name for name in _NAMES if f"?P<{name}>" in regex]
    groups = text.str.extract_groups(regex)
    fits = text.str.contains(regex)
    given = {name: groups.struct.field(name) for name in names}

    def number(name: str, default: int) -> pl.Expr:
        if name not in given:
            return pl.lit(default, dtype=pl.Int64)
        return given[name].cast(pl.Int64, strict=False).fill_null(default)

    year = number("year", 1970)
    if "year2" in given:
        year = number("year2", 0) + 2000
    month = number("month", 1)
    if "monthname" in given:
        month = (
            given["monthname"]
            .str.slice(0, 3)
            .str.to_lowercase()
            .replace_strict({name: month_of(name) for name in _MONTHS}, default=None, return_dtype=pl.Int64)
        )
    date, valid = _date(year, month, number("day", 1), mode)
    if "yearday" in given:
        date, valid = pl.date(year, 1, 1) + pl.duration(days=number("yearday", 1) - 1), number("yearday", 1) <= 366
    seconds, in_range = _seconds(number, given, mode)
    offset = _offset(given["offset"]) if "offset" in given and mode == "lenient" else pl.lit(0, dtype=pl.Int64)
    per_second = 10 ** {"ms": 3, "us": 6, "ns": 9}[unit]
    ticks = (seconds - offset) * per_second + _fraction(given, {"ms": 3, "us": 6, "ns": 9}[unit], mode)
    found = date.cast(pl.Datetime(unit)) + ticks.cast(pl.Duration(unit))
    return pl.when(fits & valid & in_range).then(found)


_NAMES = (
    "year", "year2", "month", "monthname", "day", "yearday", "hour", "hour24", "hour12", "hour11", "minute", "second",
    "fraction", "half", "offset",
)  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _date(year: pl.Expr, month: pl.Expr, day_: pl.Expr, mode: str) -> tuple[pl.Expr, pl.Expr]:
    """The day, and whether there is one. In `smart` mode 31 June is 30 June, in `lenient` mode 1 July."""
    months = year * 12 + month - 1
    inside = month.is_between(1, 12) & day_.is_between(1, 31) & year.is_between(1, 9999)
    if mode == "lenient":
        first = pl.date(months // 12, months % 12 + 1, 1)
        return first + pl.duration(days=day_ - 1), months.is_between(12, 119_999)
    safe = pl.date(pl.when(inside).then(year).otherwise(1970), pl.when(inside).then(month).otherwise(1), 1)
    last = safe.dt.month_end().dt.day().cast(pl.Int64)
    if mode == "strict":
        return safe + pl.duration(days=day_ - 1), inside & (day_ <= last)
    return safe + pl.duration(days=pl.min_horizontal(day_, last) - 1), inside


def _seconds(number: object, given: dict[str, pl.Expr], mode: str) -> tuple[pl.Expr, pl.Expr]:
    assert callable(number)
    hour: pl.Expr = number("hour", 0)
    if "hour24" in given:
        hour = number("hour24", 24) % 24
    for name in ("hour12", "hour11"):
        if name in given:
            after = given["half"].str.to_uppercase() == "PM" if "half" in given else pl.lit(False)
            hour = number(name, 0) % 12 + pl.when(after).then(12).otherwise(0)
    minute, second = number("minute", 0), number("second", 0)
    total = (hour * 60 + minute) * 60 + second
    if mode == "lenient":
        return total, pl.lit(True)
    inside = hour.is_between(0, 23) & minute.is_between(0, 59) & second.is_between(0, 59)
    return total, inside | (total == 86_400) & (hour == 24) if mode == "smart" else inside


def _fraction(given: dict[str, pl.Expr], digits: int, mode: str) -> pl.Expr:
    if "fraction" not in given:
        return pl.lit(0, dtype=pl.Int64)
    text = given["fraction"].fill_null("")
    if mode == "lenient":
        # SimpleDateFormat takes the number for milliseconds
        return text.cast(pl.Int64, strict=False).fill_null(0)
    return text.str.pad_end(digits, "0").str.slice(0, digits).cast(pl.Int64, strict=False).fill_null(0)


def _offset(text: pl.Expr) -> pl.Expr:
    digits = text.str.replace_all(r"[^0-9]", "").str.pad_end(4, "0")
    seconds = digits.str.slice(0, 2).cast(pl.Int64) * 3600 + digits.str.slice(2, 2).cast(pl.Int64) * 60
    return pl.when(text == "Z").then(0).when(text.str.starts_with("-")).then(-seconds).otherwise(seconds)
