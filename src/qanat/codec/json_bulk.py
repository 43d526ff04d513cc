"""Many JSON objects at once, through Arrow's parser: exactly what `json_rows` accepts, or nothing.

`read_rows` gives None where anything is not plain; the caller then goes row by row. Arrow's parser alone is not strict
enough, nor safe: docs/design/codec.md lists what it lets through, and the guards here close each of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from qanat.codec.base import Rows
from qanat.codec.texts import TEXT_KINDS, column_of
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

_OPEN, _CLOSE = ord("{"), ord("}")
_BLOCK = 1 << 20
_LONG = 1000  # bytes; a shorter row cannot be nested deeper than orjson's limit of 1024
_NOT_NUMBERS = re.compile(rb"[:,\[\s-](?:NaN|Inf)")
_NULL_AFTER = re.compile(rb"}\s*null")
_NUMBERS = {
    Kind.BOOLEAN: pa.bool_(),
    Kind.TINYINT: pa.int8(),
    Kind.SMALLINT: pa.int16(),
    Kind.INT: pa.int32(),
    Kind.BIGINT: pa.int64(),
    Kind.DOUBLE: pa.float64(),
    Kind.STRING: pa.string(),
}


def bulk_schema(columns: Sequence[Column]) -> pa.Schema | None:
    """What Arrow is to read; None where a column has a type that only `json_rows` knows."""
    fields = []
    for column in columns:
        arrow = _bulk_type(column.type)
        if arrow is None:
            return None
        fields.append(pa.field(column.name, arrow))
    names = [column.name for column in columns]
    return pa.schema(fields) if fields and len(set(names)) == len(names) else None


def _bulk_type(sql_type: Type, *, row: bool = True, top: bool = True) -> pa.DataType | None:
    """`row`: whether it is a column, or a field of one; `top`: whether it is a column."""
    match sql_type.kind:
        case kind if kind in _NUMBERS:
            return _NUMBERS[kind]
        case Kind.FLOAT if top:
            return pa.float64()  # as the exact path does: a double first, then the nearest float
        case kind if kind in TEXT_KINDS and kind is not Kind.BYTES and row:
            return pa.string()
        case Kind.ARRAY if sql_type.element is not None and sql_type.element.nullable:
            element = _bulk_type(sql_type.element, row=False, top=False)
            return None if element is None else pa.list_(element)
        case Kind.ROW if sql_type.fields and all(field.nullable for _, field in sql_type.fields):
            fields = [(name, _bulk_type(field, row=row, top=False)) for name, field in sql_type.fields]
            return None if any(field is None for _, field in fields) else pa.struct(fields)
        case _:
            return None


def read_rows(rows: Rows, columns: Sequence[Column], schema: pa.Schema) -> pa.RecordBatch | None:
    """All rows, or None."""
    data = memoryview(rows.data)[int(rows.starts[0]) : int(rows.ends[-1])]
    block = bytes(data) if len(data) != len(rows.data) else rows.data
    if not _is_plain(rows, block):
        return None
    try:
        table = _parse(block, schema, int((rows.ends - rows.starts).max()))
        if table.num_rows != len(rows):
            return None
        batch = pa.RecordBatch.from_arrays(
            [_column(table.column(place), column) for place, column in enumerate(columns)],
            schema=schema_of((column.name, column.type) for column in columns),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    nulls = any(not column.type.nullable and batch.column(place).null_count for place, column in enumerate(columns))
    return None if nulls or any(map(_is_doubtful, batch.columns)) else batch


def _parse(block: bytes, schema: pa.Schema, longest: int) -> pa.Table:
    size = max(_BLOCK, 2 * longest)
    return pj.read_json(
        pa.BufferReader(block),
        read_options=pj.ReadOptions(use_threads=len(block) > 2 * size, block_size=size),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )


def _column(chunked: pa.ChunkedArray, column: Column) -> pa.Array:
    whole = chunked.chunk(0) if chunked.num_chunks == 1 else pa.concat_arrays(chunked.chunks)
    if column.type.kind is Kind.FLOAT:
        return _narrow(whole)
    return _converted(whole, column.type)


def _converted(array: pa.Array, sql_type: Type) -> pa.Array:
    """Texts as the times that they are, in ROWs, too."""
    if sql_type.kind in TEXT_KINDS:
        return column_of(array, sql_type)
    if sql_type.kind is not Kind.ROW or array.type.equals(to_arrow(sql_type)):
        return array
    fields = [_converted(array.field(place), field) for place, (_, field) in enumerate(sql_type.fields)]
    return pa.StructArray.from_arrays(fields, fields=list(to_arrow(sql_type)), mask=array.is_null())


def _narrow(doubles: pa.Array) -> pa.Array:
    floats = doubles.cast(pa.float32())
    if pc.any(pc.is_inf(floats)).as_py():
        raise pa.ArrowInvalid("beyond FLOAT")
    return floats


def _is_plain(rows: Rows, block: bytes) -> bool:
    """Whether Arrow's parser reads the block as RFC 8259 does, one object a row."""
    whole = np.frombuffer(rows.data, dtype=np.uint8)
    if not (rows.ends > rows.starts).all():
        return False
    if not ((whole[rows.starts] == _OPEN).all() and (whole[rows.ends - 1] == _CLOSE).all()):
        return False
    if block.count(b"}") != len(rows) and b"null" in block and _NULL_AFTER.search(block):
        return False
    if (b"N" in block or b"I" in block) and _NOT_NUMBERS.search(block):
        return False
    return not _is_deep(rows) and (block.isascii() or is_utf8(block))


def _is_doubtful(array: pa.Array) -> bool:
    """Numbers whose text has to be looked at. JSON's -0 is the integer 0 (so it is to Jackson), and only -0.0 is a
    negative zero; a number with hundreds of digits is beyond DOUBLE. Arrow tells neither."""
    if pa.types.is_floating(array.type):
        numbers = array.to_numpy(zero_copy_only=False)
        return bool(((np.signbit(numbers) & (numbers == 0)) | np.isinf(numbers)).any())
    if pa.types.is_list(array.type):
        return _is_doubtful(array.values)
    if pa.types.is_struct(array.type):
        return any(_is_doubtful(array.field(place)) for place in range(array.type.num_fields))
    return False


def _is_deep(rows: Rows) -> bool:
    long = np.flatnonzero(rows.ends - rows.starts > _LONG)
    for start, end in zip(rows.starts[long].tolist(), rows.ends[long].tolist(), strict=True):
        if rows.data.count(b"[", start, end) + rows.data.count(b"{", start, end) > _LONG:
            return True
    return False


def is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True
