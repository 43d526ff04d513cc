"""Java's format strings (`%05.2f`, `%2$s`): java.util.Formatter for texts, numbers and BOOLEANs."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Context, Decimal

from qanat.sql.embedded.kernels.floats import java_text

_FIELD = re.compile(r"%(?:(\d+)\$)?([-#+ 0,(]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])")
_WIDE = Context(prec=400, rounding=ROUND_HALF_UP)


def printf(form: str | None, *values: object) -> str | None:
    """The text; None where format and values do not fit.

    >>> printf("%05.2f|%,d|%x", 3.14159, 1234567, 255)
    '03.14|1,234,567|ff'
    """
    if form is None:
        return None
    made: list[str] = []
    at = following = 0
    try:
        for match in _FIELD.finditer(form):
            if "%" in form[at : match.start()]:
                return None
            made.append(form[at : match.start()])
            at = match.end()
            index, flags, width, precision, letter = match.groups()
            if letter in "%n":
                text = "%" if letter == "%" else "\n"
            else:
                following += index is None
                place = int(index) if index else following
                text = _converted(values[place - 1], flags, precision, letter, int(width or 0))
            made.append(text.ljust(int(width or 0)) if "-" in flags else text.rjust(int(width or 0)))
    except (ValueError, IndexError):
        return None
    return None if "%" in form[at:] else "".join([*made, form[at:]])


def _converted(value: object, flags: str, precision: str | None, letter: str, width: int) -> str:
    kind = letter.lower()
    if kind == "s":
        text = _plain(value)
        text = text if precision is None else text[: int(precision)]
    elif kind == "b":
        text = _plain(value) if isinstance(value, bool) else str(value is not None).lower()
    elif value is None:
        text = "null"
    elif kind == "c":
        text = chr(value) if isinstance(value, int) and not isinstance(value, bool) else _refuse()
    else:
        text = _number(value, flags, precision, kind)
        if "0" in flags and "-" not in flags:
            sign = text[0] if text[:1] in ("-", "+", " ") else ""
            text = sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.upper() if letter.isupper() else text


def _plain(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return java_text(repr(value), value) if isinstance(value, float) else str(value)


def _refuse() -> str:
    raise ValueError("the value does not fit")


def _number(value: object, flags: str, precision: str | None, kind: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return _refuse()
    if kind in "dxo":
        if not isinstance(value, int) or precision is not None:
            return _refuse()
        if kind == "d":
            return _signed(format(abs(value), "," if "," in flags else ""), value < 0, flags)
        bits = 32 if -(2**31) <= value < 2**31 else 64
        return format(value & ((1 << bits) - 1), kind)
    if isinstance(value, int) or kind not in "feg":
        return _refuse()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return _signed("NaN" if value != value else "Infinity", value < 0, flags)
    digits = 6 if precision is None else int(precision)
    exact = abs(Decimal(repr(value)) if isinstance(value, float) else value)
    return _signed(_positive(exact, digits, kind, "," in flags), value < 0, flags)


def _positive(value: Decimal, digits: int, kind: str, grouped: bool) -> str:
    if kind == "g":
        digits = digits or 1
        whole = _WIDE.create_decimal(value)
        shown = Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal(whole)
        if shown == 0 or Decimal("0.0001") <= shown < Decimal(10) ** digits:
            return _positive(value, max(digits - 1 - (shown.adjusted() if shown else 0), 0), "f", grouped)
        return _positive(value, digits - 1, "e", grouped)
    if kind == "f":
        return format(value.quantize(Decimal(1).scaleb(-digits), context=_WIDE), ",f" if grouped else "f")
    shown = Context(prec=digits + 1, rounding=ROUND_HALF_UP).create_decimal(value)
    mantissa = shown.scaleb(-shown.adjusted()) if shown else Decimal(0)
    exponent = shown.adjusted() if shown else 0
    return f"{mantissa.quantize(Decimal(1).scaleb(-digits))}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _signed(text: str, negative: bool, flags: str) -> str:
    if negative:
        return f"({text})" if "(" in flags else "-" + text
    return ("+" if "+" in flags else " " if " " in flags else "") + text
