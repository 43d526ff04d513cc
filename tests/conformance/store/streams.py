"""Streams and batches for the suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from qanat.model.streams import CHANGE, DELETED, ArrivalColumn, Column, Stream
from qanat.model.types import BIGINT, DOUBLE, STRING, TIMESTAMP
from qanat.stores.hot.rows import Batch, declared_schema, make_batch
from qanat.stores.hot.table import Table, open_table

DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Rows:
    """What the log's chunks look like to a store."""

    offset: int
    at: int
    rows: pa.RecordBatch


def readings(name: str, retention_ms: int | None = None) -> Table:
    """id, sensor, ts, v; by sensor."""
    columns = (Column("id", BIGINT), Column("sensor", STRING), Column("ts", TIMESTAMP), Column("v", DOUBLE))
    stream = Stream(name, columns, event_time=ArrivalColumn("ts", None), partitions=2)
    return open_table(stream, ("sensor",), retention_ms)


def meters(name: str) -> Table:
    """meter, v: the latest row of each meter."""
    stream = Stream(name, (Column("meter", STRING), Column("v", BIGINT)), key=("meter",), upsert=True)
    return open_table(stream)


def rows_of(table: Table, rows: Sequence[dict[str, object]]) -> pa.RecordBatch:
    """Rows of the declared columns; what is not said is NULL."""
    return pa.RecordBatch.from_pylist(list(rows), schema=declared_schema(table))


def batch_of(
    table: Table, rows: Sequence[dict[str, object]], offset: int = 0, partition: int = 0, at: int = 7
) -> Batch:
    """A batch that begins at `offset`."""
    return make_batch(table, partition, [Rows(offset, at, rows_of(table, rows))])


def changes(table: Table, rows: Sequence[tuple[str, int | None]], offset: int = 0) -> Batch:
    """Rows of `meters`; None deletes the meter."""
    batch = rows_of(table, [{"meter": meter, "v": value} for meter, value in rows])
    gone = pa.array([DELETED if value is None else None for _, value in rows], pa.int8())
    return make_batch(table, 0, [Rows(offset, 7, batch.append_column(CHANGE, gone))])


def reading(number: int, sensor: str | None, time: int, value: float | None = 0.5) -> dict[str, object]:
    """A row of `readings`."""
    return {"id": number, "sensor": sensor, "ts": pa.scalar(time, pa.timestamp("ms")), "v": value}
