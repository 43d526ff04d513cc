"""Rows of the log as the files of a table have them: stored types, where each stood, sorted, apart by date. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.lake.dates import Days, dates_of
from qanat.lake.order import order_of
from qanat.lake.types import stored_schema, to_stored
from qanat.log.admission import declared_schema
from qanat.log.base import Chunk
from qanat.model.lake import sort_columns
from qanat.model.streams import Stream


@dataclass(frozen=True, slots=True)
class Sheet:
    """Sorted rows of one date (days since 1970), in stored types."""

    day: int
    rows: pa.Table


def sheets(stream: Stream, chunks: Sequence[Chunk]) -> Iterator[Sheet]:
    """The rows of the chunks, date by date. A column that was declared later is NULL in older rows."""
    declared = declared_schema(stream)
    rows = pa.Table.from_batches([aligned(chunk.rows, declared) for chunk in chunks], declared).combine_chunks()
    days = dates_of(rows, stream.event_time, _repeated(chunks, [chunk.at for chunk in chunks]))
    stored = _stored(stream, rows, chunks)
    order = _order(stream, rows, days)
    stored = stored.take(pa.array(order))
    if days.min() == days.max():
        yield Sheet(int(days[0]), stored)
        return
    found, starts = np.unique(days[order], return_index=True)
    for day, begin, end in zip(found.tolist(), starts, [*starts[1:], len(order)], strict=True):
        yield Sheet(day, stored.slice(begin, end - begin))


def sort_names(stream: Stream) -> list[str]:
    """By what the rows of a file are sorted."""
    names = [*sort_columns(stream)]
    if stream.event_time is not None and stream.event_time.name not in names:
        names.append(stream.event_time.name)
    return names


def aligned(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows with the columns of `schema`, NULL where they have none."""
    if rows.schema.equals(schema):
        return rows
    names = set(rows.schema.names)
    columns = [rows.column(one.name) if one.name in names else pa.nulls(rows.num_rows, one.type) for one in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _stored(stream: Stream, rows: pa.Table, chunks: Sequence[Chunk]) -> pa.Table:
    schema = stored_schema(stream)
    counts = np.array([chunk.rows.num_rows for chunk in chunks], dtype=np.int64)
    first = np.cumsum(counts) - counts
    offsets = np.arange(rows.num_rows) + np.repeat(np.array([chunk.offset for chunk in chunks]) - first, counts)
    columns = [to_stored(column, one.type) for column, one in zip(rows.columns, schema, strict=False)]
    places = [
        _repeated(chunks, [chunk.partition for chunk in chunks]).astype(np.int32),
        offsets.astype(np.int64),
        _repeated(chunks, [chunk.seq for chunk in chunks]),
        _repeated(chunks, [chunk.at for chunk in chunks]),
    ]
    return pa.Table.from_arrays([*columns, *(pa.chunked_array([pa.array(one)]) for one in places)], schema=schema)


def _repeated(chunks: Sequence[Chunk], values: Sequence[int]) -> npt.NDArray[np.int64]:
    """One value per chunk as one per row."""
    return np.repeat(np.array(values, dtype=np.int64), [chunk.rows.num_rows for chunk in chunks])


def _order(stream: Stream, rows: pa.Table, days: Days) -> npt.NDArray[np.int64]:
    columns = [rows.column(name) for name in sort_names(stream)]
    dates = [] if days.min() == days.max() else [pa.array(days)]
    return order_of([*dates, *columns], rows.num_rows)
