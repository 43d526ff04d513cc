"""Cells: what a person writes in a case -> values of a column's type, and values -> what a person reads. Pure.

Rows that were expected and rows that were found take the same way, over Arrow, so that what is equal looks equal:
`1` and `1.0` are one DOUBLE, `10:00` with the case's date and `2026-01-01 10:00:00` one TIMESTAMP.
"""

from __future__ import annotations

import base64
import decimal
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa

from qanat.codec.json import encode_lines
from qanat.codec.texts import Misfit, timestamp_texts
from qanat.codec.values import converter
from qanat.model.arrow import to_arrow
from qanat.model.types import TIMESTAMP_LTZ, Kind, Type
from qanat.trial.cases import Written

#: How text that is not UTF-8 is written in a column of BYTES.
_BASE64 = "base64:"
_FULL = re.compile(
    r"(?:(\d{4}-\d\d-\d\d)(?:[ T]|$))?(?:(\d\d:\d\d)(:\d\d(?:\.\d{1,9})?)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)
_TIMES = (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
_INTEGERS = (Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT)
_FLOATS = (Kind.FLOAT, Kind.DOUBLE)
_NESTED = (Kind.ARRAY, Kind.MAP, Kind.ROW)
#: Kinds whose cells stand at the right of their column.
NUMBERS = (*_INTEGERS, *_FLOATS, Kind.DECIMAL)


def read_cell(value: object, kind: Type, date: str | None) -> Any:
    """A cell as the value that `column_array` takes. Raises `Misfit` with what was expected and found."""
    if isinstance(value, Written):
        if value in ("", "NULL"):
            return None
        value = _read_text(str(value), kind)
    return _adapt(value, kind, date)


def _read_text(text: str, kind: Type) -> object:
    """The JSON value that a text in a table stands for, by the type of its column."""
    match kind.kind:
        case Kind.STRING | Kind.BYTES if not text.startswith('"'):
            return text
        case Kind.BOOLEAN if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case kind_ if kind_ in _INTEGERS or kind_ in _FLOATS:
            return _number(text)
        case Kind.STRING | Kind.BYTES | Kind.ARRAY | Kind.MAP | Kind.ROW:
            try:
                return json.loads(text, parse_float=decimal.Decimal)
            except ValueError as error:
                raise Misfit(f"expected {kind} as JSON, found {text} ({error})") from None
        case _:
            return text


def _number(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return text
    return number if number.is_finite() else text


def _adapt(value: Any, kind: Type, date: str | None) -> Any:
    """Times in full, bytes as base64, as the codec wants them."""
    match value:
        case None:
            return None
        case str() if kind.kind in _TIMES:
            return time_text(value, date, zoned=kind.kind is Kind.TIMESTAMP_LTZ)
        case str() if kind.kind is Kind.BYTES:
            binary = value.startswith(_BASE64)
            return value.removeprefix(_BASE64) if binary else base64.b64encode(value.encode()).decode()
        case list() if kind.element is not None and kind.kind is Kind.ARRAY:
            return [_adapt(one, kind.element, date) for one in value]
        case dict() if kind.element is not None and kind.kind is Kind.MAP:
            return {key: _adapt(one, kind.element, date) for key, one in value.items()}
        case dict() if kind.kind is Kind.ROW:
            types = dict(kind.fields)
            if unknown := set(value) - set(types):
                raise Misfit(f"{kind} has no field {sorted(unknown)[0]}")
            return {key: _adapt(one, types[key], date) for key, one in value.items()}
        case _:
            return value


def time_text(text: str, date: str | None, *, zoned: bool) -> str:
    """A time as a person writes it, in full: `10:00` -> `2026-01-01 10:00:00`. Raises `Misfit`."""
    match = _FULL.fullmatch(text)
    day, minutes, seconds, zone = match.groups() if match else (None, None, None, None)
    if match is None or (day is None and minutes is None) or (zone and not zoned):
        raise Misfit(f"expected a time such as 2026-01-31 10:00:00, found {text!r}")
    if day is None and date is None:
        raise Misfit(f"{text!r} has no date; write it in full, or give the case a date: 2026-01-31")
    return f"{day or date} {minutes or '00:00'}{seconds or ':00'}" + ((zone or "Z") if zoned else "")


def time_ms(text: str, date: str | None) -> int:
    """A time as a person writes it, as milliseconds since 1970 (UTC). Raises `Misfit`."""
    return int(converter(TIMESTAMP_LTZ)(time_text(text, date, zoned=True)))


def looks_like_time(value: object) -> bool:
    """Whether a text is a time as `time_text` takes it."""
    match = _FULL.fullmatch(value) if isinstance(value, str) else None
    return match is not None and (match[1] is not None or match[2] is not None)


def values_of(column: pa.Array, kind: Type) -> list[Any]:
    """Cells of a column of a stream as plain values that can be compared, each type in one form."""
    if kind.kind in _TIMES:
        return [None if text is None else text.rstrip("Z") for text in timestamp_texts(column, "SQL").to_pylist()]
    if kind.kind is Kind.BYTES:
        return [None if data is None else _bytes_text(data) for data in column.to_pylist()]
    if kind.kind in (*_NESTED, Kind.DATE, Kind.TIME, Kind.INTERVAL_DAY):
        lines = encode_lines(pa.RecordBatch.from_arrays([column], ["v"])).splitlines()
        return [orjson.loads(line)["v"] for line in lines]
    return list(column.to_pylist())


def _bytes_text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _BASE64 + base64.b64encode(data).decode()
    return text if not text.startswith(_BASE64) else _BASE64 + base64.b64encode(data).decode()


def arrow_of(values: Sequence[Any], kind: Type) -> pa.Array:
    """Values of `read_cell` as Arrow. Raises `Misfit`."""
    convert = converter(kind.with_nullable(True))
    return pa.array([convert(value) for value in values], to_arrow(kind))


def show(value: Any, kind: Type | None, date: str | None) -> str:
    """A value of `values_of` as the text of a cell, which `read_cell` reads back as the same value."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case float():
            return _float_text(value)
        case str() if kind is not None and kind.kind in _TIMES and date is not None:
            return value.removeprefix(f"{date} ")
        case str() if kind is None or kind.kind in (Kind.STRING, Kind.BYTES):
            return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)
        case list() | dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def _is_plain(text: str) -> bool:
    """Whether a text can stand in a cell as it is."""
    odd = text.startswith('"') or "\\" in text or not text.isprintable()
    return bool(text) and text == text.strip() and text != "NULL" and not odd


def _float_text(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def as_yaml(value: Any, kind: Type | None, date: str | None) -> str:
    """A value of `values_of` as YAML in a flow mapping."""
    match value:
        case None:
            return "null"
        case str() if kind is not None and kind.kind in _TIMES:
            return show(value, kind, date)
        case str():
            plain = re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value.lower() not in ("true", "false", "null")
            return value if plain else json.dumps(value, ensure_ascii=False)
        case float():
            return _float_text(value) if math.isfinite(value) else f'"{_float_text(value)}"'
        case _:
            return show(value, kind, date)


def equal(left: Any, right: Any, tolerance: float) -> bool:
    """Whether two values of one type are the same; floats may differ by `tolerance`, relative or absolute."""
    match left, right:
        case (float(), float()):
            same = left == right or (math.isnan(left) and math.isnan(right))
            return same or math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)
        case (bool(), _) | (_, bool()):
            return left is right
        case (float() | int(), float() | int()):
            return left == right or equal(float(left), float(right), tolerance)
        case (list(), list()):
            return len(left) == len(right) and all(map(equal, left, right, [tolerance] * len(left)))
        case (dict(), dict()):
            return left.keys() == right.keys() and all(equal(left[key], right[key], tolerance) for key in left)
        case _:
            return bool(left == right)


def loose(value: object) -> Any:
    """A cell without a type (a column of a late row), written or found, in one form: times in full, numbers exact."""
    if isinstance(value, Written) and value in ("", "NULL"):
        return None
    if isinstance(value, Written) and value.startswith('"'):
        return str(json.loads(value))
    match value:
        case None | bool():
            return value
        case str() if value in ("true", "false"):
            return value == "true"
        case str() if looks_like_time(value) and len(value) > len("2026-01-01"):
            return time_text(str(value), None, zoned=True).rstrip("Z")
        case str():
            return _number(str(value))
        case float():
            return decimal.Decimal(repr(value))
        case list() | dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return value
