"""Columns there and back: what of a stream's types Delta Lake lacks, and what it is stored as instead. No I/O.

| declared | stored |
| --- | --- |
| TIMESTAMP, TIMESTAMP_LTZ up to 6 digits | timestamp_ntz, timestamp (microseconds) |
| the same with 7 to 9 digits | long: nanoseconds since 1970 |
| TIME | integer: milliseconds of the day |
| INTERVAL DAY TO SECOND | long: milliseconds |
| everything else | the type of the same name |
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from qanat.log.admission import declared_schema
from qanat.log.archive import AT, DATE, OFFSET, PARTITION, SEQ
from qanat.model.streams import Stream

#: What every file holds besides the stream's columns. `DATE` is in the names of the folders, not in the files.
PLACES = pa.schema(
    [
        pa.field(PARTITION, pa.int32()),
        pa.field(OFFSET, pa.int64()),
        pa.field(SEQ, pa.int64()),
        pa.field(AT, pa.int64()),
    ]
)
#: Instants that have no place in microseconds; nobody can write them down in SQL either.
_LARGEST_MS = (2**63 - 1) // 1000


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The Arrow type that a column of the Arrow type `kind` is stored as."""
    p = pa.types
    if p.is_timestamp(kind):
        return pa.int64() if kind.unit == "ns" else pa.timestamp("us", kind.tz)
    if p.is_time(kind):
        return pa.int32()
    if p.is_duration(kind):
        return pa.int64()
    if p.is_list(kind):
        return pa.list_(pa.field("element", stored_type(kind.value_type)))
    if p.is_map(kind):
        return pa.map_(stored_type(kind.key_type), stored_type(kind.item_type))
    if p.is_struct(kind):
        return pa.struct([pa.field(one.name, stored_type(one.type)) for one in kind])
    return kind


def stored_schema(stream: Stream) -> pa.Schema:
    """What the files of a stream hold: its columns, `__op` where it has a key, and where each row stood."""
    fields = [pa.field(one.name, stored_type(one.type)) for one in declared_schema(stream)]
    return pa.schema([*fields, *PLACES])


def table_schema(stream: Stream) -> pa.Schema:
    """The schema of the Delta table: that of the files, and the date."""
    return stored_schema(stream).append(pa.field(DATE, pa.date32()))


def archived_schema(stream: Stream) -> pa.Schema:
    """The same as declared, as readers get it in the end."""
    return pa.schema([*declared_schema(stream), *PLACES, pa.field(DATE, pa.date32())])


def to_stored(column: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Values of the log as the stored type `kind` has them."""
    if column.type.equals(kind):
        return column
    if pa.types.is_timestamp(column.type) and column.type.unit == "ms" and pa.types.is_timestamp(kind):
        column = _within(column)
    return column.cast(kind)


def to_declared(column: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Stored values as the declared type `kind` has them."""
    return column if column.type.equals(kind) else column.cast(kind)


def _within(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Milliseconds for which there are microseconds: what lies beyond the year 294,000 is put at its end."""
    numbers = column.cast(pa.int64())
    ends = pc.min_max(numbers).as_py()
    if ends["min"] is None or (ends["min"] >= -_LARGEST_MS and ends["max"] <= _LARGEST_MS):
        return column
    low, high = pa.scalar(-_LARGEST_MS, pa.int64()), pa.scalar(_LARGEST_MS, pa.int64())
    return pc.min_element_wise(pc.max_element_wise(numbers, low, skip_nulls=False), high, skip_nulls=False).cast(
        column.type
    )
