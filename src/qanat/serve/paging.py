"""Pages of a stream's rows in the order of the log, onwards or backwards, over log and archive. Reads in a thread.

A page begins at positions (the next offset of each partition) and ends at positions; rows that come in meanwhile lie
behind them, so that no page shows a row twice or leaves one out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from qanat.gateway.filters import EVERYTHING, Filter
from qanat.log.archive import Archive, Cut
from qanat.log.base import Chunk, Log, StreamStatus
from qanat.model.arrow import schema_of
from qanat.model.streams import CHANGE, DELETED

#: Rows that one request looks at; a page whose conditions few rows meet ends there, with fewer rows than asked for.
SCANNED = 500_000
_FIRST_STEP, _STEP = 1 << 10, 1 << 14
#: The column that says what a row of an upsert stream does to its key.
OPERATION = "__op"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows. `columns` None is all."""

    limit: int
    backwards: bool = False
    columns: Sequence[str] | None = None
    filter: Filter = EVERYTHING


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order; `positions` is where the next page begins, `done` whether there is none now."""

    rows: pa.Table
    positions: Mapping[int, int]
    done: bool


class Places:
    """One stream in log and archive, as it was when this was made. Raises `UnknownStreamError`, `ArchiveError`."""

    def __init__(self, log: Log, archive: Archive | None, status: StreamStatus) -> None:
        self._log, self._archive, self.status = log, archive, status
        self._cut: Cut | None = None if archive is None else archive.cut(status.stream.name)

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.status.stream.name

    @property
    def is_archived(self) -> bool:
        """Whether it is kept in the archive, too."""
        return self._cut is not None

    @property
    def ends(self) -> dict[int, int]:
        """The offset after the newest row of each partition."""
        return dict(self.status.ends)

    @property
    def starts(self) -> dict[int, int]:
        """The first offset of each partition that can be read."""
        cut = {} if self._cut is None else self._cut.ends
        return {number: 0 if cut.get(number, 0) else start for number, start in self.status.starts.items()}

    def starts_at(self, since: int | None) -> dict[int, int]:
        """As `starts`, without what is known to be older than an event time (ms)."""
        find = getattr(self._log, "offset_at", None)
        if since is None or find is None:
            return self.starts
        starts = self.starts
        return {number: max(start, self._first(number, start, since, find)) for number, start in starts.items()}

    def _first(self, partition: int, start: int, since: int, find: Any) -> int:
        """The archive knows no offset by time: what it alone has is read from its start."""
        if start < self.status.starts.get(partition, 0):
            return start
        return min(int(find((self.name, partition), since)), self.status.ends[partition])

    def read(self, partition: int, offset: int, max_rows: int) -> list[Chunk]:
        """As `Log.read`, from the archive where only that has the row."""
        place = self.name, partition
        cut = self._cut
        if cut is not None and self._archive is not None:
            only_there = offset < self.status.starts.get(partition, 0) and offset < cut.ends.get(partition, 0)
            if only_there:
                return self._archive.read(cut, place, offset, max_rows)
        return self._log.read(place, offset, max_rows)

    def onwards(self, partition: int, offset: int, end: int) -> Iterator[Chunk]:
        """Chunks from `offset` on, before `end`."""
        while offset < end:
            chunks = self.read(partition, offset, _STEP)
            if not chunks:
                return
            for chunk in chunks:
                if chunk.offset >= end:
                    return
                yield _cut(chunk, chunk.offset, end)
            offset = chunks[-1].end

    def backwards(self, partition: int, end: int, start: int) -> Iterator[Chunk]:
        """Chunks before `end` down to `start`, the newest first; each in its own order."""
        step = _FIRST_STEP
        while end > start:
            low = max(start, end - step)
            yield from reversed(list(self.onwards(partition, low, end)))
            end, step = low, min(step * 2, _STEP)


def _cut(chunk: Chunk, start: int, end: int) -> Chunk:
    """The rows of a chunk between two offsets."""
    if start <= chunk.offset and chunk.end <= end:
        return chunk
    skipped = max(0, start - chunk.offset)
    rows = chunk.rows.slice(skipped, min(end, chunk.end) - chunk.offset - skipped)
    return Chunk(chunk.stream, chunk.partition, chunk.offset + skipped, chunk.seq, chunk.row + skipped, chunk.at, rows)


def read_page(places: Places, positions: Mapping[int, int] | None, wanted: Wanted) -> Page:
    """The page that begins at `positions`; None is the first row, or reading backwards the last one."""
    since = None if wanted.filter.times is None else wanted.filter.times.since
    starts, ends = places.starts_at(since), places.ends
    reader: _Reader
    if wanted.backwards:
        reader = _Backwards(places, positions or ends, starts, wanted)
    else:
        reader = _Onwards(places, positions or starts, ends, wanted)
    reader.run()
    rows = shown(reader.taken, places.status, wanted.columns)
    return Page(rows, reader.at, reader.is_done)


class _Reader(ABC):
    """Takes matching rows, chunk by chunk, until there are enough or enough was looked at."""

    def __init__(self, places: Places, begin: Mapping[int, int], last: Mapping[int, int], wanted: Wanted) -> None:
        self._places, self._last, self._wanted = places, last, wanted
        self.at: dict[int, int] = {number: begin.get(number, 0) for number in places.ends}
        self.taken: list[pa.RecordBatch] = []
        self._count = self._seen = 0

    def run(self) -> None:
        """Read."""
        for chunk in self._chunks():
            room = self._wanted.limit - self._count
            if room <= 0 or self._seen >= SCANNED:
                return
            self._take(chunk, room)
            self._seen += int(chunk.rows.num_rows)

    @abstractmethod
    def _chunks(self) -> Iterable[Chunk]: ...

    @abstractmethod
    def _take(self, chunk: Chunk, room: int) -> None: ...

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """Whether nothing is left."""

    def _keep(self, chunk: Chunk, places: Any) -> None:
        if len(places):
            self.taken.append(chunk.rows.take(pa.array(places)))
            self._count += len(places)


class _Onwards(_Reader):
    def _chunks(self) -> Iterable[Chunk]:
        parts = [self._places.onwards(number, at, self._last[number]) for number, at in self.at.items()]
        return merge(*parts, key=lambda chunk: (chunk.seq, chunk.row))

    def _take(self, chunk: Chunk, room: int) -> None:
        found = self._wanted.filter.places(chunk.rows)
        self._keep(chunk, found[:room])
        self.at[chunk.partition] = chunk.end if len(found) <= room else chunk.offset + int(found[room])

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return all(at >= self._last[number] for number, at in self.at.items())


class _Backwards(_Reader):
    def _chunks(self) -> Iterable[Chunk]:
        parts = [self._places.backwards(number, at, self._last[number]) for number, at in self.at.items()]
        return merge(*parts, key=lambda chunk: (-chunk.seq, -chunk.row))

    def _take(self, chunk: Chunk, room: int) -> None:
        found = self._wanted.filter.places(chunk.rows)[::-1]
        self._keep(chunk, found[:room])
        self.at[chunk.partition] = chunk.offset if len(found) <= room else chunk.offset + int(found[room]) + 1

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return all(at <= self._last[number] for number, at in self.at.items())


def shown(taken: Sequence[pa.RecordBatch], status: StreamStatus, columns: Sequence[str] | None) -> pa.Table:
    """The rows with the declared columns, and of an upsert stream with what each does (`upsert`, `delete`)."""
    stream = status.stream
    schema = schema_of((column.name, column.type) for column in stream.columns)
    if stream.upsert:
        schema = schema.append(pa.field(OPERATION, pa.string()))
    table = pa.Table.from_batches([_fitted(rows, schema) for rows in taken], schema)
    return table if columns is None else table.select(list(columns))


def _fitted(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    names = set(rows.schema.names)
    columns = []
    for field in schema:
        if field.name == OPERATION:
            gone = pc.fill_null(pc.equal(rows.column(CHANGE), DELETED), False)
            columns.append(pc.if_else(gone, "delete", "upsert"))
        elif field.name in names:
            columns.append(rows.column(field.name).cast(field.type))
        else:
            columns.append(pa.nulls(rows.num_rows, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
