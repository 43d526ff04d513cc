"""Columns that a store has no type for, as JSON text and back, without loss; and keys as JSON text.

Times are whole numbers in the unit of their type, DECIMAL is text, BYTES base64, MAP a list of pairs, ROW an object. A
not-a-number or infinity inside is written NaN, Infinity, as Python does.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from qanat.errors import ConfigError
from qanat.model.arrow import to_arrow
from qanat.model.streams import Column
from qanat.stores.hot.table import Table


def plain(kind: pa.DataType) -> pa.DataType:
    """The type that JSON has something for, of the same shape: times as whole numbers, DECIMAL as text."""
    p = pa.types
    if p.is_list(kind):
        return pa.list_(plain(kind.value_type))
    if p.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if p.is_struct(kind):
        return pa.struct([pa.field(field.name, plain(field.type)) for field in kind])
    if p.is_timestamp(kind) or p.is_duration(kind):
        return pa.int64()
    if p.is_date32(kind) or p.is_time32(kind):
        return pa.int32()
    return pa.string() if p.is_decimal(kind) else kind


def to_texts(values: pa.Array) -> pa.Array:
    """Each value as JSON, NULL as NULL."""
    listed = values.cast(plain(values.type)).to_pylist()
    return pa.array([None if one is None else json.dumps(one, default=_base64) for one in listed], pa.string())


def from_texts(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """What `to_texts` made, as values of `kind` again."""
    shape = plain(kind)
    values = [None if one is None else _shaped(json.loads(one), shape) for one in texts.to_pylist()]
    return pa.array(values, shape).cast(kind)


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"no JSON for {type(value).__name__}")


def _shaped(value: Any, kind: pa.DataType) -> Any:
    """What JSON has no form of its own for: bytes, and the pairs of maps."""
    if value is None:
        return None
    p = pa.types
    if p.is_binary(kind):
        return base64.b64decode(value)
    if p.is_list(kind):
        return [_shaped(one, kind.value_type) for one in value]
    if p.is_map(kind):
        return [(_shaped(key, kind.key_type), _shaped(item, kind.item_type)) for key, item in value]
    if p.is_struct(kind):
        return {field.name: _shaped(value[field.name], field.type) for field in kind}
    return value


def key_texts(columns: Sequence[pa.Array], count: int) -> pa.Array:
    """The key of each of `count` rows as a JSON list. Equal keys, and only they, give equal texts; NULL is a key."""
    if not columns:
        return pa.array(["[]"] * count, pa.string())
    parts: list[Any] = [_fragments(column) for column in columns]
    joined = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, ",")
    return pc.binary_join_element_wise("[", joined, "]", "")


def _fragments(column: pa.Array) -> pa.Array:
    coded = column.dictionary_encode()
    listed = coded.dictionary.cast(plain(column.type)).to_pylist()
    texts = pa.array([orjson.dumps(one, default=_base64).decode() for one in listed], pa.string())
    return pc.fill_null(texts.take(coded.indices), "null")


def key_text(table: Table, key: Sequence[object]) -> str:
    """The text of one key. Raises `ConfigError` where the values do not fit the columns."""
    columns = table.key_columns
    if len(key) != len(columns):
        names = ", ".join(column.name for column in columns) or "nothing"
        raise ConfigError(f"the key of {table.name} is {names}; {len(key)} values were given")
    arrays = [_one(table, column, value) for column, value in zip(columns, key, strict=True)]
    text: str = key_texts(arrays, 1)[0].as_py()
    return text


def _one(table: Table, column: Column, value: object) -> pa.Array:
    try:
        return pa.array([value], to_arrow(column.type))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{value!r} is no {column.type}: no key of {table.name} has it in {column.name}") from error
