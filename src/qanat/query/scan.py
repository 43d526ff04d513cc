"""Streams of the log as DuckDB sees them: lazy, scanned again for each use, and all as they were at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from qanat.errors import LogError
from qanat.log.archive import OFFSET, PARTITION
from qanat.log.base import Chunk, Log, StreamStatus
from qanat.log.upserts import latest_rows
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, Stream
from qanat.query.as_of import NOW, AsOf
from qanat.query.lazy import LazyRows

_ROWS = 1 << 16


class MovedError(LogError):
    """What is being read was deleted or replaced meanwhile: whoever asks again gets an answer."""


@dataclass(slots=True)
class StreamScan(LazyRows):
    """One stream, to the end it had in `status`.

    `begins`: offsets to begin from, by partition (else its first one). `wanted`: the columns that matter (None: all);
    others come as NULL. `placed`: changes as they are stored, with where each row stands, instead of the latest rows.
    `check` is called between reads and may raise.
    """

    log: Log
    status: StreamStatus
    failures: list[Exception] = field(default_factory=list)
    begins: Mapping[int, int] = field(default_factory=dict)
    as_of: AsOf = NOW
    wanted: frozenset[str] | None = None
    placed: bool = False
    check: Callable[[], None] = lambda: None

    @property
    def schema(self) -> pa.Schema:
        """The physical columns as declared now, and those of `placed`."""
        return shown_schema(self.status.stream, placed=self.placed)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, partition by partition; of a stream with a key the latest row of each, unless `placed`."""
        stream = self.status.stream
        if stream.upsert and not self.placed:
            stored = schema_of((column.name, column.type) for column in stream.columns)
            stored = stored.append(pa.field(CHANGE, pa.int8()))
            batches = [aligned(chunk.rows, stored) for chunk in self._chunks()]
            rows = latest_rows(pa.Table.from_batches(batches, stored), stream)
            yield from rows.cast(self.schema).to_batches(_ROWS)
            return
        schema = self.schema
        for chunks in self._reads():
            for alike in _alike(chunks):
                yield self._shown(alike, schema)

    def _shown(self, chunks: list[Chunk], schema: pa.Schema) -> pa.RecordBatch:
        """Chunks of one schema as one batch."""
        stored = chunks[0].rows if len(chunks) == 1 else pa.concat_batches([chunk.rows for chunk in chunks])
        rows = aligned(stored, schema, self.wanted)
        if not self.placed:
            return rows
        offsets = np.concatenate([np.arange(chunk.offset, chunk.end) for chunk in chunks])
        partition = pa.scalar(chunks[0].partition, pa.int32())
        places = {PARTITION: pa.repeat(partition, rows.num_rows), OFFSET: pa.array(offsets, pa.int64())}
        columns = [places.get(name, column) for name, column in zip(rows.schema.names, rows.columns, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _chunks(self) -> Iterator[Chunk]:
        for chunks in self._reads():
            yield from chunks

    def _reads(self) -> Iterator[list[Chunk]]:
        """What each read of the log gave, without the rows that came later."""
        for partition, end in sorted(self.status.ends.items()):
            place = self.status.stream.name, partition
            end = min(end, self.as_of.end(place, end))
            offset = max(self.begins.get(partition, 0), self.status.starts.get(partition, 0))
            while offset < end:
                self.check()
                chunks = self.log.read(place, offset, _ROWS)
                if not chunks and not self._compacted:
                    raise _moved(place[0])
                if not chunks:
                    break
                self._check_place(chunks[0], offset)
                yield [_before(one, end) for one in chunks if one.offset < end and self.as_of.holds(one.at)]
                offset = chunks[-1].end
        self._check_compaction()

    @property
    def _compacted(self) -> bool:
        """Whether rows may be missing in between."""
        return self.status.stream.compact and bool(self.status.stream.key)

    def _check_place(self, found: Chunk, offset: int) -> None:
        """Rows follow each other without a gap, unless compaction makes gaps."""
        if found.offset > offset and (not self._compacted or found.offset >= self.status.ends[found.partition]):
            raise _moved(found.stream)

    def _check_compaction(self) -> None:
        """A row that was superseded and compacted away while we read is not to be missing."""
        if not self._compacted:
            return
        stream = self.status.stream.name
        now = self.log.status()[stream]
        came = sum(now.ends.values()) - sum(self.status.ends.values())
        if now.rows < self.status.rows + came:
            raise _moved(stream)


def _moved(stream: str) -> MovedError:
    return MovedError(f"rows of {stream} were deleted or replaced while they were read", hint="ask again")


def shown_schema(stream: Stream, *, placed: bool = False) -> pa.Schema:
    """The columns of a stream as a query has them: instants in microseconds, which is what DuckDB computes with."""
    fields = [pa.field(one.name, _shown_type(one.type)) for one in schema_of((c.name, c.type) for c in stream.columns)]
    if placed:
        changes = [pa.field(CHANGE, pa.int8())] if stream.upsert else []
        fields += [*changes, pa.field(PARTITION, pa.int32()), pa.field(OFFSET, pa.int64())]
    return pa.schema(fields)


def _shown_type(kind: pa.DataType) -> pa.DataType:
    whole = pa.types.is_timestamp(kind) and (kind.unit != "ns" or kind.tz is not None)
    return pa.timestamp("us", kind.tz) if whole else kind


def _alike(chunks: list[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks in runs of one schema: columns may have come in between."""
    run: list[Chunk] = []
    for chunk in chunks:
        if run and not run[0].rows.schema.equals(chunk.rows.schema):
            yield run
            run = []
        run.append(chunk)
    if run:
        yield run


def _before(chunk: Chunk, end: int) -> Chunk:
    if chunk.end <= end:
        return chunk
    rows = chunk.rows.slice(0, end - chunk.offset)
    return Chunk(chunk.stream, chunk.partition, chunk.offset, chunk.seq, chunk.row, chunk.at, rows)


def aligned(rows: pa.RecordBatch, schema: pa.Schema, wanted: frozenset[str] | None = None) -> pa.RecordBatch:
    """Rows as `schema` has them: columns that were declared later are NULL in rows that are older."""
    if wanted is None and rows.schema.equals(schema):
        return rows
    names = set(rows.schema.names) if wanted is None else set(rows.schema.names) & wanted
    columns = [_column(rows, one, names) for one in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(rows: pa.RecordBatch, wanted: pa.Field, names: set[str]) -> pa.Array:
    if wanted.name not in names:
        return pa.nulls(rows.num_rows, wanted.type)
    column = rows.column(wanted.name)
    if column.type.equals(wanted.type):
        return column
    return column.cast(wanted.type, safe=not pa.types.is_timestamp(wanted.type))
