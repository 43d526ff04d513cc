"""Rows of a stream as alerts: key, state and JSON of each. Pure; decides nothing and reads no log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from qanat.codec.json import encode_lines
from qanat.errors import ConfigError
from qanat.log.base import Chunk
from qanat.model.arrow import to_arrow
from qanat.model.sinks import Sink
from qanat.model.streams import CHANGE, DELETED, Stream
from qanat.model.types import Kind
from qanat.notify.messages import text_of

#: What a row of a key's alert says where no column says more.
_RAISED = "raised"
#: Rows that are written as JSON at a time: often only the first of many is wanted now.
_BLOCK = 256
#: Kinds that a key or a state cannot be of: their text is no name.
_NESTED = frozenset({Kind.ARRAY, Kind.MAP, Kind.ROW, Kind.BYTES})


@dataclass(frozen=True, slots=True)
class Alert:
    """One row. `state` None: it says that nothing is raised; `row`: JSON without what is not the stream's own."""

    offset: int
    at: int
    key: str
    state: str | None
    row: bytes


def check_columns(name: str, sink: Sink, stream: Stream) -> None:
    """Raises `ConfigError` where the sink names columns that the stream has not, or that name nothing."""
    kinds = {column.name: column.type.kind for column in stream.columns}
    for key, column in [*(("key", one) for one in sink.key), *([("state", sink.state)] if sink.state else [])]:
        if column not in kinds:
            raise ConfigError(
                f"sink {name}: {key}: {stream.name} has no column {column!r}", hint=f"it has {', '.join(kinds)}"
            )
        if kinds[column] in _NESTED:
            raise ConfigError(
                f"sink {name}: {key}: {column} is {kinds[column].value}", hint="a text, number or BOOLEAN"
            )


def read_alerts(chunk: Chunk, sink: Sink) -> Iterator[Alert]:
    """The rows of a chunk, in order. A deleted row of an upsert stream says that its key is cleared."""
    for first in range(0, chunk.rows.num_rows, _BLOCK):
        yield from _read_block(chunk.rows.slice(first, _BLOCK), chunk.offset + first, chunk.at, sink)


def _read_block(rows: pa.RecordBatch, offset: int, at: int, sink: Sink) -> Iterator[Alert]:
    gone = [False] * rows.num_rows
    if CHANGE in rows.schema.names:
        gone = [value == DELETED for value in rows.column(CHANGE).to_pylist()]
        rows = rows.drop_columns([CHANGE])
    lines = encode_lines(rows).split(b"\n")
    keys = _texts(lines, sink.key)
    states = _texts(lines, (sink.state,) if sink.state else ())
    for place in range(rows.num_rows):
        state = _RAISED if not sink.state else _state_of(states[place][0], sink)
        yield Alert(
            offset + place,
            at,
            "/".join(text.replace("%", "%25").replace("/", "%2F") for text in map(text_of, keys[place])),
            None if gone[place] else state,
            lines[place],
        )


def _texts(lines: list[bytes], columns: tuple[str, ...]) -> list[list[Any]]:
    """The values of these columns, as JSON has them."""
    if not columns:
        return [[] for _ in lines]
    rows = [orjson.loads(line) for line in lines if line]
    return [[row[column] for column in columns] for row in rows]


def _state_of(value: Any, sink: Sink) -> str | None:
    """NULL, FALSE and the words of `cleared` say that nothing is raised."""
    if value is None or value is False or text_of(value) in sink.cleared:
        return None
    return text_of(value)


def example_row(stream: Stream) -> pa.RecordBatch:
    """A row that fits the stream, for a message that tests a target: names as texts, zeros, the year 1970."""
    values: dict[Kind, object] = {Kind.BOOLEAN: True, Kind.BYTES: b"", Kind.ARRAY: [], Kind.MAP: []}
    arrays = []
    for column in stream.columns:
        kind = to_arrow(column.type)
        if column.type.kind is Kind.STRING:
            arrays.append(pa.array([column.name], kind))
        elif column.type.kind in values:
            arrays.append(pa.array([values[column.type.kind]], kind))
        elif column.type.kind is Kind.ROW:
            arrays.append(pa.nulls(1, kind))
        else:
            whole = pa.array([0], pa.int32() if kind.bit_width <= 32 else pa.int64())
            arrays.append(whole.cast(kind))
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in stream.columns])
