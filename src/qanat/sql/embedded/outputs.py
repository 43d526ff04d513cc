"""Rows of pipelines as appends to the log: results, late rows, dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from qanat.codec.base import BadRow
from qanat.codec.json import encode_lines
from qanat.log.base import Append
from qanat.log.partitions import partition_rows
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, DELETED, Stream, dead_letter_stream, late_stream
from qanat.sql.embedded.flow import DELETE, UPDATE_BEFORE, Ints, LateRows, instants
from qanat.sql.embedded.skipped import Suspect

#: 9999-12-31T23:59:59.999Z, the last instant that every reader of timestamps can print.
_LAST = 253_402_300_799_999


class StreamOutput:
    """Appends to a stream of the log."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._columns = [column.name for column in stream.columns]
        self._arrow = schema_of((c.name, c.type) for c in stream.columns)

    def appends(self, frames: Sequence[pl.DataFrame], at: int) -> list[Append]:
        """One append per partition that gets rows."""
        if not frames:
            return []
        frame = pl.concat(frames) if len(frames) > 1 else frames[0]
        columns, schema = self._columns, self._arrow
        if CHANGE in frame.columns:
            frame = _upserts(frame)
            if not frame.height:
                return []
            columns, schema = [*columns, CHANGE], schema.append(pa.field(CHANGE, pa.int8()))
        rows = to_rows(frame.rename(dict(zip(frame.columns, columns, strict=True))), schema)
        if self._stream.partitions == 1 or not self._stream.key:
            return [self._append(0, rows, frame, at)]
        target = partition_rows(rows, self._stream.key, self._stream.partitions)
        found = []
        for partition in np.unique(target).tolist():
            mine = np.flatnonzero(target == partition)
            found.append(self._append(partition, rows.take(pa.array(mine)), frame[mine], at))
        return found

    def _append(self, partition: int, rows: pa.RecordBatch, frame: pl.DataFrame, at: int) -> Append:
        low, high = self._span(frame)
        return Append(self._stream.name, partition, rows, at, low, high)

    def _span(self, frame: pl.DataFrame) -> tuple[int | None, int | None]:
        source = self._stream.event_time
        if source is None:
            return None, None
        column = frame.to_series(self._columns.index(source.name))
        if source.per_second is None:
            times: Ints = instants(column)
        else:
            times = column.fill_null(0).cast(pl.Int64).to_numpy() * 1000 // source.per_second
        return int(times.min()), int(times.max())


def _upserts(frame: pl.DataFrame) -> pl.DataFrame:
    """A changelog as upserts: without -U, and marked where the key is gone."""
    kind = pl.col(CHANGE)
    gone = pl.when(kind == int(DELETE)).then(pl.lit(DELETED, dtype=pl.Int8))
    return frame.filter(kind != int(UPDATE_BEFORE)).with_columns(gone.alias(CHANGE))


def to_rows(frame: pl.DataFrame, schema: pa.Schema) -> pa.RecordBatch:
    """A frame as one record batch; types that Arrow readers all know (no views)."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    table = pa.table(
        [
            column.cast(field.type) if pa.types.is_map(field.type) else column
            for column, field in zip(table.columns, schema, strict=True)
        ],
        names=schema.names,
    )
    return table.combine_chunks().to_batches()[0]


def late_rows(pipeline: str, parts: Sequence[LateRows], at: int) -> Append:
    """Law 4: rows for the late side stream, in the order of their events: whichever operator left them out, the order
    does not tell how the input was cut."""
    order = np.argsort(np.concatenate([part.event for part in parts]), kind="stable")
    time, watermark = (
        np.concatenate(times)[order] for times in zip(*((p.time, p.watermark) for p in parts), strict=True)
    )
    lines = [line for part in parts for line in _lines(part.frame)]
    columns = {
        "event_time": _instants(time),
        "watermark": _instants(watermark),
        "pipeline": pa.array([pipeline] * len(order)),
        "operator": pa.array([part.operator for part in parts for _ in part.event]).take(order),
        "reason": pa.array([part.reason for part in parts for _ in part.event]).take(order),
        "row": pa.array(lines).take(order),
    }
    return _append(late_stream(), columns, at, int(time.min()), int(time.max()))


def _lines(frame: pl.DataFrame) -> list[str]:
    return encode_lines(frame.to_arrow(compat_level=pl.CompatLevel.oldest())).decode().split("\n")[:-1]


def dead_rows(feed: str, bad: Sequence[tuple[BadRow, str]], at: int) -> Append:
    """Law 7: rows of a file that could not be decoded."""
    count = len(bad)
    columns = {
        "arrived": _instants(np.full(count, at, dtype=np.int64)),
        "stream": pa.array([feed.split("#")[0]] * count),
        "reason": pa.array([row.reason for row, _ in bad]),
        "data": pa.array([bytes(row.data) for row, _ in bad], pa.binary()),
        "source": pa.array(["file"] * count),
        "origin": pa.array([origin for _, origin in bad]),
    }
    return _append(dead_letter_stream(), columns, at, at, at)


def aside_row(pipeline: str, suspect: Suspect, row: pa.RecordBatch, at: int) -> Append:
    """Law 7: a row of the log that a pipeline cannot compute with, as JSON."""
    (stream, partition), offset = suspect.place, suspect.offset
    columns = {
        "arrived": _instants(np.array([at], dtype=np.int64)),
        "stream": pa.array([stream]),
        "reason": pa.array([suspect.reason]),
        "data": pa.array([encode_lines(pa.Table.from_batches([row])).rstrip(b"\n")], pa.binary()),
        "source": pa.array(["sql"]),
        "origin": pa.array([pipeline]),
        "partition": pa.array([partition]),
        "offset": pa.array([offset]),
    }
    return _append(dead_letter_stream(), columns, at, at, at)


def _append(stream: Stream, columns: dict[str, pa.Array], at: int, low: int, high: int) -> Append:
    schema = schema_of((c.name, c.type) for c in stream.columns)
    count = len(next(iter(columns.values())))
    arrays = [columns.get(f.name, pa.nulls(count, f.type)).cast(f.type) for f in schema]
    return Append(stream.name, 0, pa.RecordBatch.from_arrays(arrays, schema=schema), at, low, high)


def _instants(times: Ints) -> pa.Array:
    clipped = np.clip(times, 0, _LAST)
    return pa.array(clipped).cast(pa.timestamp("ms", tz="UTC"))
