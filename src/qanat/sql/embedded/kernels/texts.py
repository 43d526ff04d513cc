"""Texts. Positions count characters from 1; what polars has no vectorised form for runs row by row in Python."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence

import orjson
import polars as pl

from qanat.sql.embedded.kernels.base import Kernel, constant, dtype_of
from qanat.sql.expressions import Call


def like_regex(pattern: str, escape: str | None = None) -> str:
    """A LIKE pattern as a regular expression.

    >>> like_regex("a%_c")
    '(?s)^a.*.c$'
    """
    parts: list[str] = []
    characters = iter(pattern)
    for one in characters:
        if escape and one == escape:
            parts.append(re.escape(next(characters, "")))
        else:
            parts.append({"%": ".*", "_": "."}.get(one) or re.escape(one))
    return "(?s)^" + "".join(parts) + "$"


def _like(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    escape = str(constant(call.args[2])) if len(call.args) > 2 else None
    return args[0].str.contains(like_regex(str(constant(call.args[1])), escape))


def _rows(function: Callable[..., object]) -> Kernel:
    """A kernel that calls `function` for every row without a NULL."""

    def kernel(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
        dtype = dtype_of(call.type)

        def compute(found: Sequence[pl.Series]) -> pl.Series:
            length = max(len(one) for one in found)
            lists = [(one.to_list() * length if len(one) == 1 else one.to_list()) for one in found]
            values = [None if None in row else function(*row) for row in zip(*lists, strict=True)]
            return pl.Series(found[0].name, values, dtype=dtype)

        return pl.map_batches(args, compute, return_dtype=dtype)

    return kernel


def _pad(text: str, length: int, pad: str, left: bool) -> str | None:
    if length < 0 or not pad:
        return None
    if len(text) >= length:
        return text[:length]
    missing = length - len(text)
    filling = (pad * (missing // len(pad) + 1))[:missing]
    return filling + text if left else text + filling


def _substring(text: str, start: int, length: int | None = None) -> str | None:
    if length is not None and length < 0:
        return None
    begin = start - 1 if start > 0 else 0 if start == 0 else max(len(text) + start, 0)
    return text[begin:] if length is None else text[begin : begin + length]


def _part(text: str, separator: str, index: int) -> str | None:
    parts = text.split(separator) if separator else [text]
    return parts[index] if 0 <= index < len(parts) else None


def _trim(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    where = str(constant(call.args[2]))
    text = args[0].str
    return {"BOTH": text.strip_chars, "LEADING": text.strip_chars_start, "TRAILING": text.strip_chars_end}[where](
        args[1]
    )


def _joined(_call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    separator = args[0]
    first = [pl.when(one.is_null()).then(pl.lit(None, dtype=pl.String)).otherwise(separator + one) for one in args[1:]]
    whole = pl.concat_str(first, ignore_nulls=True)
    return pl.when(separator.is_null()).then(None).otherwise(whole.str.slice(separator.str.len_chars()))


def _extract(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    group = constant(call.args[2]) if len(call.args) > 2 else 0
    return args[0].str.extract(str(constant(call.args[1])), int(str(group)))


def _left(call: Call, args: list[pl.Expr], _: pl.Expr | None) -> pl.Expr:
    count = pl.max_horizontal(args[1], pl.lit(0, dtype=pl.Int32))
    return args[0].str.head(count) if call.function == "LEFT" else args[0].str.tail(count)


_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]|\['([^']*)'\]")


def _json_value(call: Call, args: list[pl.Expr], guard: pl.Expr | None) -> pl.Expr:
    path = str(constant(call.args[1])).removeprefix("lax ").removeprefix("strict ")[1:]
    steps = [match.group(1) or match.group(3) or int(match.group(2)) for match in _STEP.finditer(path)]
    return _rows(lambda text, _path: _walk(text, steps))(call, args, guard)


def _walk(text: str, steps: list[str | int]) -> str | None:
    try:
        value = orjson.loads(text)
        for step in steps:
            value = value[step]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        return None
    if value is None or isinstance(value, dict | list):
        return None
    return value if isinstance(value, str) else orjson.dumps(value).decode()


KERNELS: dict[str, Kernel] = {
    "LIKE": _like,
    "||": lambda _call, args, _: args[0] + args[1],
    "CONCAT": lambda _call, args, _: pl.concat_str(args),
    "CONCAT_WS": _joined,
    "UPPER": lambda _call, args, _: args[0].str.to_uppercase(),
    "LOWER": lambda _call, args, _: args[0].str.to_lowercase(),
    "TRIM": _trim,
    "LTRIM": lambda _call, args, _: args[0].str.strip_chars_start(" "),
    "RTRIM": lambda _call, args, _: args[0].str.strip_chars_end(" "),
    "CHAR_LENGTH": lambda _call, args, _: args[0].str.len_chars().cast(pl.Int32),
    "SUBSTRING": _rows(_substring),
    "LEFT": _left,
    "RIGHT": _left,
    "REPLACE": _rows(lambda text, old, new: text.replace(old, new) if old else text),
    "REVERSE": lambda _call, args, _: args[0].str.reverse(),
    "SPLIT_INDEX": _rows(_part),
    "REGEXP_EXTRACT": _extract,
    "REGEXP_REPLACE": lambda call, args, _: args[0].str.replace_all(str(constant(call.args[1])), args[2]),
    "LPAD": _rows(lambda text, length, pad: _pad(text, length, pad, True)),
    "RPAD": _rows(lambda text, length, pad: _pad(text, length, pad, False)),
    "POSITION": _rows(lambda part, text: text.find(part) + 1),
    "STARTSWITH": lambda _call, args, _: args[0].str.starts_with(args[1]),
    "ENDSWITH": lambda _call, args, _: args[0].str.ends_with(args[1]),
    "MD5": _rows(lambda text: hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()),
    "SHA256": _rows(lambda text: hashlib.sha256(text.encode()).hexdigest()),
    "JSON_VALUE": _json_value,
}
