"""Payloads that are one bare value: a number, a truth value, a text or bytes, for one column of the stream.

All payloads of a call go through one Arrow cast; where that does not take them, one by one with a reason. Numbers are
written as in JSON or CSV (21.5, -3, +4, 1e3, NaN for FLOAT and DOUBLE), with white space around them at most.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qanat.codec.base import Decode, Decoded
from qanat.codec.objects import settle
from qanat.codec.texts import TEXT_KINDS, Misfit
from qanat.codec.values import column_array, found
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import Column
from qanat.model.types import Kind

_SPACE = " \t\r\n"
_INTEGER, _NUMBER = r"[+-]?[0-9]{1,18}", r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?"
_WHOLE, _REAL = re.compile(r"[+-]?[0-9]{1,400}"), re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")
_SPECIAL = frozenset({"NaN", "Infinity", "-Infinity"})
_TRUE, _FALSE = ("true", "on", "1"), ("false", "off", "0")
_WHOLE_KINDS = frozenset({Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT})

#: What may hold a bare value of each format.
NUMBER_KINDS = _WHOLE_KINDS | {Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL}
BOOLEAN_KINDS = frozenset({Kind.BOOLEAN})
TEXT_LIKE = frozenset({Kind.STRING, *TEXT_KINDS} - {Kind.BYTES})
BYTES_KINDS = frozenset({Kind.BYTES})

_Bulk = Callable[[pa.Array, Column], pa.Array]
_One = Callable[[bytes, Column], Any]


def number_decoder(name: str) -> Decode:
    """For the column `name`, of one of `NUMBER_KINDS`."""
    return _decoder(name, _numbers, _number)


def boolean_decoder(name: str) -> Decode:
    """true and false, on and off, 1 and 0, in capitals or not."""
    return _decoder(name, _booleans, _boolean)


def text_decoder(name: str) -> Decode:
    """UTF-8 as it is; for a column of another kind than STRING, a time or date as SQL writes it."""
    return _decoder(name, _texts, _text)


def bytes_decoder(name: str) -> Decode:
    """The payload itself."""
    return _decoder(name, lambda payloads, _: payloads, lambda payload, _: payload)


def _decoder(name: str, bulk: _Bulk, one: _One) -> Decode:
    def decode(payloads: Sequence[bytes], columns: Sequence[Column]) -> Decoded:
        home = next(column for column in columns if column.name == name)
        bad: dict[int, str] = {}
        try:
            values = bulk(pa.array(list(payloads), pa.binary()), home)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values = _one_by_one(payloads, home, one, bad)
        arrays = [values if column is home else column_array(column, [None] * len(payloads), bad) for column in columns]
        schema = schema_of((column.name, column.type) for column in columns)
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        return settle(batch, bad, range(len(payloads)), {}, payloads)

    return decode


def _one_by_one(payloads: Sequence[bytes], column: Column, one: _One, bad: dict[int, str]) -> pa.Array:
    values: list[Any] = []
    for place, payload in enumerate(payloads):
        try:
            values.append(one(payload, column))
        except Misfit as misfit:
            values.append(None)
            bad[place] = f"column {column.name}: {misfit}"
    if column.type.kind is Kind.BYTES:
        return pa.array(values, pa.binary())
    nullable = Column(column.name, column.type.with_nullable(True))  # what is not there has its reason already
    return column_array(nullable, values, bad)


# --- all at once -----------------------------------------------------------------------------------------------------


def _trimmed(payloads: pa.Array) -> pa.Array:
    return pc.utf8_trim(payloads.cast(pa.string()), _SPACE)


def _numbers(payloads: pa.Array, column: Column) -> pa.Array:
    texts, kind = _trimmed(payloads), column.type.kind
    if kind is Kind.DECIMAL:
        raise pa.ArrowInvalid("rounds in another way")
    _require(texts, _INTEGER if kind in _WHOLE_KINDS else _NUMBER)
    texts = pc.utf8_ltrim(texts, "+")
    if kind is not Kind.FLOAT:
        return _finite(texts.cast(to_arrow(column.type)))
    return _finite(texts.cast(pa.float64()).cast(pa.float32()))


def _finite(numbers: pa.Array) -> pa.Array:
    """-0 is 0, as in JSON, and only -0.0 a negative zero: the exact path knows."""
    if pa.types.is_floating(numbers.type):
        values = numbers.to_numpy(zero_copy_only=False)
        if not np.isfinite(values).all() or ((values == 0) & np.signbit(values)).any():
            raise pa.ArrowInvalid("out of range, or to be looked at")
    return numbers


def _booleans(payloads: pa.Array, _: Column) -> pa.Array:
    texts = pc.ascii_lower(_trimmed(payloads))
    true, false = pc.is_in(texts, pa.array(_TRUE)), pc.is_in(texts, pa.array(_FALSE))
    if pc.all(pc.or_(true, false)).as_py() is False:
        raise pa.ArrowInvalid("neither")
    return true


def _texts(payloads: pa.Array, column: Column) -> pa.Array:
    if column.type.kind is not Kind.STRING:
        raise pa.ArrowInvalid("the exact path")
    return payloads.cast(pa.string())


def _require(texts: pa.Array, pattern: str) -> None:
    if pc.all(pc.match_substring_regex(texts, f"^(?:{pattern})$")).as_py() is False:
        raise pa.ArrowInvalid("not plain")


# --- one by one ------------------------------------------------------------------------------------------------------


def _decoded(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise Misfit(f"not UTF-8: byte {error.start}") from None


def _number(payload: bytes, column: Column) -> Any:
    text = _decoded(payload).strip(_SPACE)
    if column.type.kind in (Kind.FLOAT, Kind.DOUBLE) and text in _SPECIAL:
        return text
    if _WHOLE.fullmatch(text):
        number = decimal.Decimal(text)
        return int(number) if abs(number) < 2**63 else number
    if _REAL.fullmatch(text) and len(text) <= 400:
        return decimal.Decimal(text)
    raise Misfit(f"expected a number, found {_shown(text)}")


def _boolean(payload: bytes, _: Column) -> bool:
    text = _decoded(payload).strip(_SPACE)
    if text.lower() not in _TRUE + _FALSE:
        raise Misfit(f"expected true or false, on or off, 1 or 0, found {_shown(text)}")
    return text.lower() in _TRUE


def _text(payload: bytes, _: Column) -> str:
    return _decoded(payload)


def _shown(text: str) -> str:
    return found(text).removeprefix("string ") if text else "nothing"
