"""Floating numbers as Java writes and reads them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

#: What Double.parseDouble takes, hexadecimal numbers aside.
JAVA_NUMBER = r"^[+-]?(?:NaN|Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fFdD]?)$"


def texts(found: Sequence[pl.Series]) -> pl.Series:
    """A column of FLOAT or DOUBLE as text."""
    values = [
        None if one is None else java_text(text, one)
        for text, one in zip(found[0].cast(pl.String), found[0], strict=True)
    ]
    return pl.Series(found[0].name, values, dtype=pl.String)


def parse(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Texts as numbers, NULL where they are none."""
    trimmed = text.str.strip_chars()
    number = trimmed.str.extract(JAVA_NUMBER, 0).str.strip_chars_end("fFdD")
    return pl.when(trimmed.str.contains(JAVA_NUMBER)).then(
        pl.when(trimmed.str.ends_with("NaN")).then(pl.lit(float("nan")))
        .when(trimmed.str.ends_with("Infinity") & trimmed.str.starts_with("-")).then(pl.lit(float("-inf")))
        .when(trimmed.str.ends_with("Infinity")).then(pl.lit(float("inf")))
        .otherwise(number.cast(pl.Float64, strict=False))
    ).cast(dtype)  # fmt: skip


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
    if value in (5e-324, -5e-324):
        digits = "49"  # the shortest text of two digits, in Java
    if -3 < point <= 7:
        padded = "0" * (1 - point) + digits if point < 1 else digits.ljust(point, "0")
        cut = max(point, 1)
        return sign + padded[:cut] + "." + (padded[cut:] or "0")
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{point - 1}"
