"""Texts. Positions count characters from 1 except where Java counts UTF-16 units; what polars has no vectorised form
for runs row by row in Python."""

from __future__ import annotations

import polars as pl

from qanat.errors import DataError
from qanat.model.types import Kind
from qanat.sql.embedded.kernels.base import Kernel, constant, is_constant, row_by_row
from qanat.sql.embedded.kernels.patterns import find
from qanat.sql.embedded.kernels.printf import printf
from qanat.sql.expressions import Call


def from_utf16(units: bytes) -> str:
    """The text of UTF-16 units; half a character is `?`, as where Java writes it as UTF-8."""
    return units.decode("utf-16-le", "surrogatepass").encode("utf-8", "replace").decode()


def _pad(text: str, length: int, pad: str, left: bool) -> str | None:
    if length < 0 or not pad:
        return None
    if not (text + pad).isascii():
        # Java's lengths are those of UTF-16
        whole, units = text.encode("utf-16-le"), pad.encode("utf-16-le")
        missing = max(length * 2 - len(whole), 0)
        more = (units * (missing // len(units) + 1))[:missing]
        cut = whole[: length * 2]
        return from_utf16(more + cut if left else cut + more)
    missing = max(length - len(text), 0)
    filling = (pad * (missing // len(pad) + 1))[:missing]
    return filling + text[:length] if left else text[:length] + filling


def _substring(text: str, start: int, length: int | None = None) -> str | None:
    if length is not None and length < 0:
        return None
    if start < -len(text):
        return ""
    begin = start - 1 if start > 0 else len(text) + start if start < 0 else 0
    return text[begin:] if length is None else text[begin : begin + length]


def _fast_substring(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    bounds = [constant(one) for one in call.args[1:] if is_constant(one)]
    if len(bounds) < len(call.args) - 1 or not all(isinstance(one, int) for one in bounds):
        return row_by_row(_substring)(call, args, guard)
    start, length = (*(int(str(one)) for one in bounds), None)[:2]
    if start is None or start < 0 or (length is not None and length < 0):
        return row_by_row(_substring)(call, args, guard)
    return args[0].str.slice(max(start - 1, 0), length)


def _part(text: str, separator: str, index: int) -> str | None:
    parts = (text.split(separator) if separator else [text]) if text else []
    return parts[index] if 0 <= index < len(parts) else None


def _split(text: str, separator: str) -> list[str]:
    if not text:
        return []
    if separator:
        return text.split(separator)
    units = text.encode("utf-16-le")
    return [from_utf16(units[i : i + 2]) for i in range(0, len(units), 2)]


def _fast_split(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    """SPLIT and SPLIT_INDEX; a constant separator of one character or more goes over the column."""
    whole = call.function == "SPLIT"
    if not is_constant(call.args[1]) or not constant(call.args[1]):
        return row_by_row(_split if whole else _part)(call, args, guard)
    parts = args[0].str.split(str(constant(call.args[1])))
    # no text has no parts
    found = pl.when(args[0] == "").then(parts.list.head(0)).otherwise(parts)
    if whole:
        return found
    index = pl.when(args[2] >= 0).then(args[2].cast(pl.Int64))
    return found.list.get(index, null_on_oob=True)


def _to_map(text: str, between: str = ",", inside: str = "=") -> list[dict[str, str | None]]:
    found: dict[str, str | None] = {}
    for part in _java_split(text, between, 0) if text else []:
        key, *value = _java_split(part, inside, 2)
        found[key] = value[0] if value else None
    return [{"key": key, "value": value} for key, value in found.items()]


def _java_split(text: str, separator: str, limit: int) -> list[str]:
    regex = find(separator)
    if regex is None:
        raise DataError(f"STR_TO_MAP: `{separator}` is no regular expression")
    parts = regex.pattern.split(text, max(limit - 1, 0)) if regex.groups == 0 else [text]
    while limit == 0 and len(parts) > 1 and not parts[-1]:
        parts.pop()
    return [one or "" for one in parts]


def _trim(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    where = str(constant(call.args[2]))
    return _stripped(args[0], args[1], where)


def _stripped(text: pl.Expr, characters: pl.Expr, where: str) -> pl.Expr:
    strip = {"BOTH": text.str.strip_chars, "LEADING": text.str.strip_chars_start, "TRAILING": text.str.strip_chars_end}
    # polars takes an empty set for all white space, and NULL for the same
    found = strip[where](pl.when(characters == "").then(pl.lit("\0")).otherwise(characters))
    return pl.when(characters == "").then(text).when(characters.is_not_null()).then(found)


def _ends(where: str) -> Kernel:
    return lambda _call, args, _: _stripped(args[0], args[1] if len(args) > 1 else pl.lit(" "), where)


def _joined(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    separator = args[0]
    first = [pl.when(one.is_null()).then(pl.lit(None, dtype=pl.String)).otherwise(separator + one) for one in args[1:]]
    whole = pl.concat_str(first, ignore_nulls=True)
    return pl.when(separator.is_null()).then(None).otherwise(whole.str.slice(separator.str.len_chars()))


def _left(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    count = pl.when(args[1] < 0).then(pl.lit(0, dtype=pl.Int32)).otherwise(args[1])
    found = args[0].str.head(count) if call.function == "LEFT" else args[0].str.tail(count)
    return pl.when(args[1].is_not_null()).then(found)


def _capitals(text: str) -> str:
    """INITCAP: ASCII letters and digits make words."""
    made: list[str] = []
    start = True
    for one in text:
        known = one.isascii() and one.isalnum()
        made.append((one.upper() if start else one.lower()) if known else one)
        start = not known
    return "".join(made)


def _replace(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    if is_constant(call.args[1]) and is_constant(call.args[2]) and constant(call.args[1]):
        return args[0].str.replace_all(str(constant(call.args[1])), str(constant(call.args[2])), literal=True)
    return row_by_row(str.replace)(call, args, guard)


def _overlay(text: str, new: str, start: int, length: int | None = None) -> str:
    if start <= 0 or start > len(text):
        return text
    size = len(new) if length is None else length
    rest = text[start - 1 + size :] if 0 < size <= len(text) - start else ""
    return text[: start - 1] + new + rest


def _translate(text: str, old: str, new: str) -> str:
    table: dict[int, str] = {}
    for i, one in enumerate(old):
        table.setdefault(ord(one), new[i : i + 1])
    return text.translate(table)


def _instr(text: str, part: str, start: int = 1, nth: int = 1) -> int:
    if nth <= 0:
        raise DataError(f"INSTR: the occurrence counts from 1, found {nth}")
    if start == 0:
        return 0
    at = start - 2 if start > 0 else len(text) + start + 1
    for _ in range(nth):
        at = text.find(part, at + 1) if start > 0 else text.rfind(part, 0, max(at - 1 + len(part), 0))
        if at < 0:
            return 0
    return at + 1


def _locate(part: str, text: str, start: int = 1) -> int:
    return text.find(part, max(start - 1, 0)) + 1


def _first_byte(text: str) -> int:
    first = text.encode()[0] if text else 0
    return first - 256 if first > 127 else first


def _is_decimal(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    if call.args[0].type.kind is not Kind.STRING:
        return args[0].is_not_null()
    return args[0].str.contains(r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$").fill_null(False)


def _of_all(test: str) -> Kernel:
    rows = row_by_row(lambda text: bool(getattr(text, test)()))
    return lambda call, args, guard: rows(call, args, guard).fill_null(False)


def _choice(index: int | None, *values: str | None) -> str | None:
    return values[index - 1] if index is not None and 1 <= index <= len(values) else None


#: Kernels that may raise for a row.
RAISES = ("INSTR", "STR_TO_MAP")

KERNELS: dict[str, Kernel] = {
    "||": lambda _call, args, _: args[0] + args[1],
    "CONCAT": lambda _call, args, _: pl.concat_str(args),
    "CONCAT_WS": _joined,
    "UPPER": lambda _call, args, _: args[0].str.to_uppercase(),
    "LOWER": lambda _call, args, _: args[0].str.to_lowercase(),
    "INITCAP": row_by_row(_capitals),
    "TRIM": _trim,
    "LTRIM": _ends("LEADING"),
    "RTRIM": _ends("TRAILING"),
    "BTRIM": _ends("BOTH"),
    "CHAR_LENGTH": lambda _call, args, _: args[0].str.len_chars().cast(pl.Int32),
    "SUBSTRING": _fast_substring,
    "LEFT": _left,
    "RIGHT": _left,
    "REPLACE": _replace,
    "OVERLAY": row_by_row(_overlay),
    "TRANSLATE": row_by_row(_translate),
    "REVERSE": row_by_row(lambda text: text[::-1]),
    "REPEAT": row_by_row(lambda text, count: text * max(count, 0)),
    "LPAD": row_by_row(lambda text, length, pad: _pad(text, length, pad, True)),
    "RPAD": row_by_row(lambda text, length, pad: _pad(text, length, pad, False)),
    "SPLIT": _fast_split,
    "SPLIT_INDEX": _fast_split,
    "STR_TO_MAP": row_by_row(_to_map),
    "ELT": row_by_row(_choice, nulls=True),
    "POSITION": row_by_row(_locate),
    "INSTR": row_by_row(_instr),
    "LOCATE": row_by_row(_locate),
    "STARTSWITH": lambda _call, args, _: args[0].str.starts_with(args[1]),
    "ENDSWITH": lambda _call, args, _: args[0].str.ends_with(args[1]),
    "ASCII": row_by_row(_first_byte),
    "CHR": row_by_row(lambda number: "" if number < 0 else chr(number & 0xFF)),
    "PRINTF": lambda call, args, guard: row_by_row(lambda *row: printf(*row), nulls=True)(call, args, guard),
    "IS_ALPHA": _of_all("isalpha"),
    "IS_DIGIT": _of_all("isdecimal"),
    "IS_DECIMAL": _is_decimal,
}
