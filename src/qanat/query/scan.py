"""Streams of the log as DuckDB sees them: lazy, scanned again for each use, and all as they were at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from qanat.errors import LogError
from qanat.log.base import Log, StreamStatus
from qanat.log.upserts import latest_rows
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE

_ROWS = 1 << 16


@dataclass(slots=True)
class StreamScan:
    """One stream, from the first row to the end it had in `status`. Speaks Arrow's C stream protocol.

    What the log raises while DuckDB reads is kept in `failures`, since DuckDB would make text of it.
    """

    log: Log
    status: StreamStatus
    failures: list[Exception] = field(default_factory=list)

    @property
    def schema(self) -> pa.Schema:
        """The physical columns, as declared now."""
        return schema_of((column.name, column.type) for column in self.status.stream.columns)

    def __arrow_c_schema__(self) -> Any:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        reader = pa.RecordBatchReader.from_batches(self.schema, self._guarded())
        return reader.__arrow_c_stream__(requested_schema)

    def _guarded(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self.batches()
        except Exception as error:
            self.failures.append(error)
            raise

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, partition by partition; of a stream with a key the latest row of each."""
        if self.status.stream.upsert:
            yield from latest_rows(self._whole(), self.status.stream).to_batches()
        else:
            yield from self._stored(self.schema)

    def _whole(self) -> pa.Table:
        stored = self.schema.append(pa.field(CHANGE, pa.int8()))
        return pa.Table.from_batches(self._stored(stored), stored)

    def _stored(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for partition, end in sorted(self.status.ends.items()):
            place = self.status.stream.name, partition
            offset = self.status.starts.get(partition, 0)
            while offset < end:
                chunks = self.log.read(place, offset, _ROWS)
                if not chunks:
                    break
                if chunks[0].offset >= end:
                    raise LogError(
                        f"rows of {place[0]} were deleted or replaced while they were read", hint="ask again"
                    )
                for chunk in chunks:
                    if chunk.offset < end:
                        yield aligned(chunk.rows, schema)
                offset = chunks[-1].end


def aligned(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows as `schema` has them: columns that were declared later are NULL in rows that are older."""
    if rows.schema.equals(schema):
        return rows
    names = set(rows.schema.names)
    columns = [
        rows.column(one.name).cast(one.type) if one.name in names else pa.nulls(rows.num_rows, one.type)
        for one in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def scans(log: Log, statuses: Mapping[str, StreamStatus]) -> dict[str, StreamScan]:
    """A scan of every stream."""
    return {name: StreamScan(log, status) for name, status in statuses.items()}
