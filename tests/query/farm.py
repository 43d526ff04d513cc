"""A log and its lake beside each other, fed and archived step by step, and what queries over both must say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from qanat.lake import Archiver, DeltaArchive, Tables
from qanat.lake.upkeep import rewrite, rewrites
from qanat.log import open_log
from qanat.log.admission import declared_schema
from qanat.log.archive import Archive
from qanat.log.base import Append, Log, Transaction
from qanat.model.lake import Lake
from qanat.model.query import QuerySettings
from qanat.model.streams import Stream
from qanat.query import Query
from qanat.query.outside import Outside
from qanat.sql import compile_script

READINGS = """CREATE TABLE readings (
  sensor STRING, v DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('archive' = 'true', 'archive.sort' = 'sensor', 'partitions' = '2', 'retention' = '1 s')"""
#: 2026-01-01T00:00:00Z.
BEGIN = 1_767_225_600_000
DAY = 86_400_000


def stream_of(sql: str) -> Stream:
    """The stream of the only table."""
    (table,) = compile_script(sql).tables.values()
    assert table.stream is not None
    return table.stream


class Farm:
    """A log in a file, an archive in a folder, and queries over both."""

    def __init__(self, folder: Path, *tables: str | Stream) -> None:
        self.folder = folder
        self.log: Log = open_log(f"sqlite:///{folder}/log.db")
        declared = [stream_of(one) if isinstance(one, str) else one for one in tables or (READINGS,)]
        self.streams = {stream.name: stream for stream in declared}
        for stream in self.streams.values():
            self.log.create(stream)
        self.tables = Tables(folder / "lake")
        self.archiver = Archiver(self.log, self.tables, Lake())
        self.archiver.prepare()
        self.archive = DeltaArchive(self.tables, self.log)

    def query(
        self,
        *,
        archive: Archive | None = None,
        settings: QuerySettings | None = None,
        tables: Mapping[str, Outside] | None = None,
    ) -> Query:
        """Queries over log and lake."""
        return Query.over(self.log, archive=archive or self.archive, settings=settings, tables=tables)

    def redeclare(self, sql: str) -> None:
        """Change a stream."""
        stream = stream_of(sql)
        self.streams[stream.name] = stream
        self.log.create(stream)

    def feed(
        self, rows: Sequence[Mapping[str, Any]], stream: str = "readings", partition: int = 0, at: int = BEGIN
    ) -> None:
        """One append; event times are in the rows, times are ms since 1970."""
        declared = self.streams[stream]
        schema = declared_schema(declared)
        columns = [_column([row.get(one.name) for row in rows], one.type) for one in schema]
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        time = declared.event_time
        times = [row[time.name] for row in rows if row.get(time.name) is not None] if time is not None else []
        known = times if all(isinstance(one, int) for one in times) else []
        append = Append(stream, partition, batch, at, min(known, default=None), max(known, default=None))
        self.log.submit(Transaction([append])).result()

    def readings(self, first: int, last: int, *, step: int = 5, seconds: int = 1) -> None:
        """Rows `first` to before `last`, `seconds` apart, of three sensors, in two partitions."""
        for number, start in enumerate(range(first, last, step)):
            rows = [
                {"sensor": f"s{n % 3}", "v": float(n), "ts": BEGIN + n * seconds * 1000}
                for n in range(start, min(start + step, last))
            ]
            self.feed(rows, partition=number % 2, at=BEGIN + start * seconds * 1000)

    def archived(self) -> int:
        """Archive until there is nothing new; how many rows that were."""
        total = 0
        for name in self.archiver.streams():
            more = True
            while more:
                done = self.archiver.archive(name)
                total, more = total + done.rows, done.more
        return total

    def expired(self, now_ms: int = BEGIN + 1000 * DAY) -> int:
        """Retention; how many rows it deleted."""
        maintain: Any = self.log
        return sum(maintain.maintain(now_ms).values())

    def compacted(self, *, vacuum: bool = False) -> int:
        """Rewrite the files of all dates; how many dates that were."""
        done = 0
        for name in self.archiver.streams():
            table = self.archiver.table(self.log.status()[name])
            for chosen in rewrites(table.files(), 1 << 20, BEGIN, all_dates=True):
                rewrite(table, self.streams[name], chosen, 1 << 20)
                done += 1
            if vacuum:
                table.vacuum(0)
        return done

    def close(self) -> None:
        """Close the log."""
        self.log.close()


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind) and any(isinstance(value, int) for value in values):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)
