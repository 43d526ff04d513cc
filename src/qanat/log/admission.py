"""From a transaction to what a driver stores: checked, cast to the declared schema. Pure; the same for all drivers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from qanat.errors import LogError, RowsError, UnknownStreamError
from qanat.log.base import Append, Place, Transaction
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, Stream
from qanat.model.types import TINYINT

_LARGEST = 2**63 - 1
#: SQLite holds no larger value; one append or one state has to fit.
MAX_BYTES = 1_000_000_000 - 4096


@dataclass(frozen=True, slots=True)
class Known:
    """A declared stream as a driver knows it: `number` within the log, `version` of its schema."""

    stream: Stream
    number: int
    version: int
    schema: pa.Schema

    @classmethod
    def of(cls, stream: Stream, number: int, version: int) -> Known:
        """With the schema that the declaration gives."""
        return cls(stream, number, version, declared_schema(stream))


@dataclass(frozen=True, slots=True)
class Entry:
    """One append, ready to be stored. `rows` has the stream's schema, `data` is the same in Arrow IPC."""

    append: Append
    known: Known
    data: pa.Buffer
    count: int

    @property
    def place(self) -> Place:
        """Where it goes."""
        return self.append.stream, self.append.partition


@dataclass(frozen=True, slots=True)
class Request:
    """A transaction whose rows are ready to be stored; `bytes` is what it adds to a queue."""

    transaction: Transaction
    entries: tuple[Entry, ...]
    bytes: int


def declared_schema(stream: Stream) -> pa.Schema:
    """The Arrow schema that a stream's rows are stored in."""
    columns = [(column.name, column.type) for column in stream.columns]
    return schema_of([*columns, (CHANGE, TINYINT)] if stream.upsert else columns)


def prepare(transaction: Transaction, find: Callable[[str], Known]) -> Request:
    """Check and encode. Raises `LogError` where the transaction can never be stored."""
    entries = tuple(_entry(append, find(append.stream)) for append in transaction.appends)
    for key, value in transaction.state.items():
        if value is not None and len(value) > MAX_BYTES:
            raise LogError(f"state {key!r} has {len(value)} bytes; {MAX_BYTES} is the most", hint="split it")
    for offsets in transaction.positions.values():
        for place, offset in offsets.items():
            if not 0 <= offset <= _LARGEST:
                raise LogError(f"{offset} is no position on {place[0]}/{place[1]}")
    state = sum(len(value) for value in transaction.state.values() if value is not None)
    return Request(transaction, entries, sum(entry.data.size for entry in entries) + state)


def find_stream(streams: Mapping[str, Known], name: str) -> Known:
    """The stream of that name, or `UnknownStreamError`."""
    known = streams.get(name)
    if known is None:
        raise UnknownStreamError(
            f"there is no stream {name}",
            hint=f"declare it first; there are: {', '.join(sorted(streams)) or 'none'}",
        )
    return known


def check_partition(known: Known, partition: int) -> None:
    """Raise `LogError` where the stream has no such partition."""
    if not 0 <= partition < known.stream.partitions:
        raise LogError(f"stream {known.stream.name} has {known.stream.partitions} partitions, no {partition}")


def _entry(append: Append, known: Known) -> Entry:
    check_partition(known, append.partition)
    if any(time is not None and abs(time) > _LARGEST for time in (append.at, append.min_time, append.max_time)):
        raise LogError(f"an append to {append.stream} has a time beyond 64 bits")
    rows = conform(append.rows, known)
    data = rows.serialize()
    if data.size > MAX_BYTES:
        raise LogError(
            f"an append to {append.stream} has {data.size} bytes; {MAX_BYTES} is the most",
            hint="append in smaller batches",
        )
    return Entry(append, known, data, rows.num_rows)


def conform(rows: pa.RecordBatch, known: Known) -> pa.RecordBatch:
    """The rows in the stream's schema: columns by name, missing nullable ones NULL, types cast where nothing is lost.

    Raises `RowsError` that names the column.
    """
    schema, name = known.schema, known.stream.name
    required = [column.name for column in known.stream.columns if not column.type.nullable]
    for column in required:
        if column in rows.schema.names and rows.column(column).null_count:
            raise RowsError(f"column {column} of {name} is NOT NULL; the rows have NULL in it")
    if rows.schema.equals(schema):
        return rows
    unknown = set(rows.schema.names) - set(schema.names)
    if unknown or len(set(rows.schema.names)) != rows.num_columns:
        wrong = ", ".join(sorted(unknown)) or "one column twice"
        raise RowsError(f"rows for {name} have {wrong}; its columns are {', '.join(schema.names)}")
    nullable = {column.name: column.type.nullable for column in known.stream.columns}
    columns = [_column(rows, field, name, nullable.get(field.name, True)) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(rows: pa.RecordBatch, field: pa.Field, stream: str, nullable: bool) -> pa.Array:
    place = rows.schema.get_field_index(field.name)
    if place < 0:
        if not nullable:
            raise RowsError(f"rows for {stream} have no column {field.name}, which is NOT NULL")
        return pa.nulls(rows.num_rows, field.type)
    column = rows.column(place)
    if column.type.equals(field.type):
        return column
    if _is_text(column.type) and not _is_text(field.type):
        raise RowsError(f"column {field.name} of {stream} is {field.type}; {column.type} cannot be stored in it")
    try:
        return column.cast(field.type)
    except pa.ArrowException as error:
        raise RowsError(
            f"column {field.name} of {stream} is {field.type}; {column.type} cannot be stored in it: {error}"
        ) from error


def _is_text(kind: pa.DataType) -> bool:
    """Whether values are text: a cast from text would guess what they mean."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
