"""Parsed JSON values -> Arrow columns, strictly, and with the reason where a value does not fit. The exact path.

A column whose values all have the plain Python type is handed to Arrow at once; only otherwise is each value looked at.
"""

from __future__ import annotations

import decimal
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from qanat.codec.texts import TEXT_KINDS, Misfit, column_of, exact, value_of
from qanat.model.arrow import to_arrow
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

Convert = Callable[[Any], Any]

_BITS = {
    Kind.TINYINT: 8,
    Kind.SMALLINT: 16,
    Kind.INT: 32,
    Kind.BIGINT: 64,
    Kind.INTERVAL_DAY: 64,
    Kind.INTERVAL_YEAR: 32,
}
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_FLOAT_MAX = 3.4028235677973366e38  # from here on, a double rounds to infinity as a float
_NONE = type(None)
_AS_THEY_ARE = {Kind.STRING: str, Kind.BOOLEAN: bool, Kind.DOUBLE: float}
_PLAIN: dict[Kind, frozenset[type]] = {
    Kind.BOOLEAN: frozenset({bool, _NONE}),
    Kind.STRING: frozenset({str, _NONE}),
    Kind.DOUBLE: frozenset({float, int, _NONE}),
    **{kind: frozenset({int, _NONE}) for kind in _BITS},
}


def column_array(column: Column, values: list[Any], reasons: dict[int, str]) -> pa.Array:
    """The column; where a value does not fit, NULL, and why in `reasons` (by row), unless there is a reason already."""
    arrow = to_arrow(column.type)
    kinds = set(map(type, values))
    if column.type.nullable or _NONE not in kinds:
        try:
            return _plain_array(kinds, values, column.type, arrow)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
            pass
    return _exact_array(column, values, arrow, reasons)


def _plain_array(kinds: set[type], values: list[Any], sql_type: Type, arrow: pa.DataType) -> pa.Array:
    if kinds <= _PLAIN.get(sql_type.kind, frozenset()):
        if sql_type.kind is Kind.DOUBLE and int in kinds:
            values = [None if one is None else float(one) for one in values]
        return pa.array(values, arrow)
    if sql_type.kind in TEXT_KINDS and kinds <= _PLAIN[Kind.STRING]:
        return column_of(pa.array(values, pa.string()), sql_type)
    raise pa.ArrowInvalid("not plain")


def _exact_array(column: Column, values: list[Any], arrow: pa.DataType, reasons: dict[int, str]) -> pa.Array:
    convert, simple = converter(column.type), _AS_THEY_ARE.get(column.type.kind)
    out: list[Any] = []
    for row, value in enumerate(values):
        if type(value) is simple:
            out.append(value)
            continue
        try:
            out.append(convert(value))
        except Misfit as misfit:
            out.append(None)
            reasons.setdefault(row, f"column {column.name}{misfit}")
    return pa.array(out, arrow)


def converter(sql_type: Type) -> Convert:
    """Value -> what Arrow takes; raises `Misfit` whose text begins with the path inside the column."""
    inner = _inner_converter(sql_type)

    def convert(value: Any) -> Any:
        if value is None:
            if sql_type.nullable:
                return None
            raise Misfit(f": expected {sql_type}, found null")
        return inner(value)

    return convert


def _inner_converter(sql_type: Type) -> Convert:
    match sql_type.kind:
        case Kind.ARRAY:
            return _array_converter(sql_type)
        case Kind.MAP:
            return _map_converter(sql_type)
        case Kind.ROW:
            return _row_converter(sql_type)
        case _:
            return _scalar_converter(sql_type)


def _scalar_converter(sql_type: Type) -> Convert:
    check = _CHECKS[sql_type.kind]

    def convert(value: Any) -> Any:
        try:
            return check(value, sql_type)
        except Misfit as misfit:
            more = f" ({misfit})" if str(misfit) else ""
            raise Misfit(f": expected {sql_type.with_nullable(True)}{more}, found {found(value)}") from None

    return convert


def _array_converter(sql_type: Type) -> Convert:
    assert sql_type.element is not None
    element = converter(sql_type.element)

    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise Misfit(f": expected {sql_type.with_nullable(True)}, found {found(value)}")
        return [_at(f"[{place}]", element, one) for place, one in enumerate(value)]

    return convert


def _map_converter(sql_type: Type) -> Convert:
    assert sql_type.element is not None
    assert sql_type.key is not None
    element, key = converter(sql_type.element), _key_converter(sql_type.key)

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise Misfit(f": expected {sql_type.with_nullable(True)}, found {found(value)}")
        return [(_at(f"[{name}]", key, name), _at(f"[{name}]", element, one)) for name, one in value.items()]

    return convert


def _key_converter(sql_type: Type) -> Convert:
    if sql_type.kind is Kind.STRING:
        return converter(sql_type)
    inside = converter(sql_type)

    def convert(name: str) -> Any:
        if sql_type.kind in TEXT_KINDS or sql_type.kind is Kind.DECIMAL:
            return inside(name)
        try:
            return inside(json.loads(name))
        except ValueError as error:
            if isinstance(error, Misfit):
                raise
            raise Misfit(f": expected the key as {sql_type.with_nullable(True)}, found {found(name)}") from None

    return convert


def _row_converter(sql_type: Type) -> Convert:
    fields = [(name, converter(field)) for name, field in sql_type.fields]

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise Misfit(f": expected {sql_type.with_nullable(True)}, found {found(value)}")
        return {name: _at(f".{name}", field, value.get(name)) for name, field in fields}

    return convert


def _at(place: str, convert: Convert, value: Any) -> Any:
    try:
        return convert(value)
    except Misfit as misfit:
        raise Misfit(f"{place}{misfit}") from None


def found(value: Any) -> str:
    """What was found, for the reason: its JSON kind and the value, cut."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean {str(value).lower()}"
        case int() if abs(value) >= 10**40:
            return "a number of more than 40 digits"
        case int() | float() | decimal.Decimal():
            return f"number {value}"[:60]
        case str():
            text = json.dumps(value[:40], ensure_ascii=False)
            return f"string {text}" + ("..." if len(value) > 40 else "")
        case dict():
            return "an object"
        case _:
            return "an array"


def _boolean(value: Any, _: Type) -> Any:
    if type(value) is not bool:
        raise Misfit("")
    return value


def _integer(value: Any, sql_type: Type) -> int:
    if type(value) in (float, decimal.Decimal):
        if not (abs(value) < 2**53 and value == int(value)):
            raise Misfit("")
        value = int(value)
    elif type(value) is not int:
        raise Misfit("")
    half = 1 << (_BITS[sql_type.kind] - 1)
    if not -half <= value < half:
        raise Misfit("out of range")
    return int(value)


def _float(value: Any, sql_type: Type) -> float:
    if type(value) is str and value in _FLOATS:
        return _FLOATS[value]
    if type(value) not in (float, int, decimal.Decimal):
        raise Misfit("")
    number = float(value)
    if math.isinf(number) or (sql_type.kind is Kind.FLOAT and abs(number) >= _FLOAT_MAX):
        raise Misfit("out of range")
    return number


def _decimal(value: Any, sql_type: Type) -> decimal.Decimal:
    match value:
        case bool() | None | list() | dict():
            raise Misfit("")
        case str():
            return value_of(value, sql_type)  # type: ignore[no-any-return]
        case _:
            return exact(decimal.Decimal(value if type(value) is int else str(value)), sql_type)


def _string(value: Any, _: Type) -> str:
    if type(value) is not str:
        raise Misfit("")
    return value


def _text(value: Any, sql_type: Type) -> Any:
    if type(value) is not str:
        raise Misfit("")
    return value_of(value, sql_type)


def _null(_: Any, __: Type) -> Any:
    raise Misfit("")


_CHECKS: dict[Kind, Callable[[Any, Type], Any]] = {
    Kind.NULL: _null,
    Kind.BOOLEAN: _boolean,
    Kind.FLOAT: _float,
    Kind.DOUBLE: _float,
    Kind.DECIMAL: _decimal,
    Kind.STRING: _string,
    **dict.fromkeys(_BITS, _integer),
    **dict.fromkeys(TEXT_KINDS, _text),
}


def batch_of(
    columns: Sequence[Column], values: Sequence[list[Any]], rows: int
) -> tuple[pa.RecordBatch, dict[int, str]]:
    """Columns of values as a batch, bad rows still in it (as NULLs), and why they are bad, by row."""
    reasons: dict[int, str] = {}
    arrays = [column_array(column, one, reasons) for column, one in zip(columns, values, strict=True)]
    schema = pa.schema([pa.field(column.name, to_arrow(column.type)) for column in columns])
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([]))), reasons
    return pa.RecordBatch.from_arrays(arrays, schema=schema), reasons
