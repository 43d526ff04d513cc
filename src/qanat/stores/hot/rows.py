"""Rows of the log as a hot store keeps them: with their key, their time and their place. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, DELETED
from qanat.stores.hot import table as names
from qanat.stores.hot.table import Table
from qanat.stores.hot.texts import key_texts


class Piece(Protocol):
    """Stored rows one after the other, from `offset` on; `at`: when they came (ms). The log's chunks are such."""

    @property
    def offset(self) -> int:
        """Of the first row."""
        ...

    @property
    def at(self) -> int:
        """The time of arrival, ms."""
        ...

    @property
    def rows(self) -> pa.RecordBatch:
        """With the stream's columns, as they were when the rows came."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one partition from the offset `start` to `end`, which is the batch's number.

    `rows`: the declared columns and those of `table.KEY` to `table.OFFSET`; of an upsert stream the last row of each
    key only, with `table.DELETED`. There may be fewer rows than offsets, and none.
    """

    partition: int
    start: int
    end: int
    rows: pa.Table

    def after(self, position: int) -> Batch:
        """What is left from the offset `position` on."""
        if position <= self.start:
            return self
        left = self.rows.filter(pc.greater_equal(self.rows[names.OFFSET], position))
        return Batch(self.partition, min(position, self.end), self.end, left)


def make_batch(table: Table, partition: int, pieces: Sequence[Piece]) -> Batch:
    """The rows of some pieces, which follow one another, as one batch. There has to be one."""
    rows = pa.Table.from_batches([_with_place(table, partition, piece) for piece in pieces])
    if table.stream.upsert:
        rows = _last_of_each(rows)
    last = pieces[-1]
    return Batch(partition, pieces[0].offset, last.offset + int(last.rows.num_rows), rows)


def stored_schema(table: Table) -> pa.Schema:
    """The columns of a batch."""
    schema = declared_schema(table)
    extra = {names.KEY: pa.string(), names.TIME: pa.int64(), names.PARTITION: pa.int32(), names.OFFSET: pa.int64()}
    if table.stream.upsert:
        extra[names.DELETED] = pa.bool_()
    for name, kind in extra.items():
        schema = schema.append(pa.field(name, kind))
    return schema


def declared_schema(table: Table) -> pa.Schema:
    """The columns of an answer."""
    return schema_of((column.name, column.type) for column in table.columns)


def _with_place(table: Table, partition: int, piece: Piece) -> pa.RecordBatch:
    count = int(piece.rows.num_rows)
    columns = [_column(piece.rows, field) for field in declared_schema(table)]
    by_name = dict(zip([column.name for column in table.columns], columns, strict=True))
    columns += [
        key_texts([by_name[name] for name in table.key], count),
        _times(table, by_name, piece.at, count),
        pa.array(np.full(count, partition, np.int32)),
        pa.array(np.arange(piece.offset, piece.offset + count)),
    ]
    if table.stream.upsert:
        columns.append(_gone(piece.rows))
    return pa.RecordBatch.from_arrays(columns, schema=stored_schema(table))


def _column(rows: pa.RecordBatch, field: pa.Field) -> pa.Array:
    """A column, NULL throughout where the rows are older than it."""
    place = rows.schema.get_field_index(field.name)
    return pa.nulls(rows.num_rows, field.type) if place < 0 else rows.column(place).cast(field.type)


def _gone(rows: pa.RecordBatch) -> pa.Array:
    place = rows.schema.get_field_index(CHANGE)
    if place < 0:
        return pa.array(np.zeros(rows.num_rows, np.bool_))
    return pc.fill_null(pc.equal(rows.column(place), DELETED), False)


def _times(table: Table, columns: dict[str, pa.Array], at: int, count: int) -> pa.Array:
    """Event times in ms; the time of arrival where there is none."""
    event_time = table.stream.event_time
    if event_time is None:
        return pa.array(np.full(count, at, np.int64))
    column = columns[event_time.name]
    if event_time.per_second is None:
        column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False)
        times = column.cast(pa.int64())
    elif event_time.per_second == 1000:
        times = column.cast(pa.int64())
    else:
        factor = 1000 / event_time.per_second
        times = pc.floor(pc.multiply(column.cast(pa.float64()), factor)).cast(pa.int64())
    return pc.fill_null(times, at)


def _last_of_each(rows: pa.Table) -> pa.Table:
    """The last row of each key, in the order of the log."""
    place = pa.array(np.arange(rows.num_rows))
    keys = pa.table({"key": rows[names.KEY], "place": place})
    last = keys.group_by("key").aggregate([("place", "max")])["place_max"]
    return rows.take(pa.array(np.sort(last.to_numpy())))
