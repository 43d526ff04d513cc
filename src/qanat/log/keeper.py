"""Retention and compaction of the SQLite log, in steps short enough that appends do not wait long."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qanat.log import checksums, layout
from qanat.log.admission import Known
from qanat.log.cache import TailCache
from qanat.log.ledger import Ledger
from qanat.log.reader import Reader
from qanat.log.retention import Compacted, Held, doomed, superseded
from qanat.log.writer import Writer

_APPENDS_PER_STEP = 200
_ROWS_PER_READ = 200_000


@dataclass(frozen=True, slots=True)
class _Rewrite:
    """What is left of one append; without `rows` it goes altogether."""

    seq: int
    lost_rows: int
    lost_bytes: int
    kept: bytes
    count: int
    data: pa.Buffer | None
    checksum: int


class Keeper:
    """One `maintain` at a time; the caller sees to that. Only this deletes or changes appends that are stored."""

    def __init__(self, reader: Reader, writer: Writer, cache: TailCache) -> None:
        self._reader, self._writer, self._cache = reader, writer, cache
        self._compacted = Compacted()

    def expire(self, known: Known, now_ms: int) -> int:
        """Delete what is too old or too much; returns the rows deleted."""
        if known.stream.retention_ms is None and known.stream.retention_bytes is None:
            return 0
        total = 0
        while gone := self._writer.call(lambda c: self._expire_some(c, known, now_ms), _Forget(self._cache, known)):
            total += sum(gone.values())
        return total

    def _expire_some(self, connection: sqlite3.Connection, known: Known, now_ms: int) -> Counter[int]:
        ledger = self._writer.ledger
        partitions = range(known.stream.partitions)
        floors = {n: ledger.floor((known.stream.name, n)) for n in partitions}
        (size,) = connection.execute(layout.READ_SIZE, (known.number,)).fetchone()
        cursors = [connection.execute(layout.OLDEST_BATCHES, (known.number, n)) for n in partitions]
        held = [(Held(*row) for row in cursor) for cursor in cursors]
        victims = list(islice(doomed(known.stream, held, floors, size, now_ms), _APPENDS_PER_STEP))
        for cursor in cursors:
            cursor.close()
        connection.executemany(layout.DELETE_BATCH, ((victim.seq,) for victim in victims))
        gone: Counter[int] = Counter()
        for partition, group in groupby(sorted(victims, key=attrgetter("partition")), attrgetter("partition")):
            lost = list(group)
            gone[partition] = sum(victim.rows for victim in lost)
            layout.shrink(connection, known, partition, gone[partition], sum(victim.bytes for victim in lost))
        return gone

    def compact(self, known: Known) -> int:
        """Delete rows that a later row of the same key in the same partition replaces; returns how many."""
        if not (known.stream.compact and known.stream.key):
            return 0
        status = self._reader.status()[known.stream.name]
        ledger = Ledger(positions=self._reader.all_positions())
        total = 0
        for partition, end in status.ends.items():
            floor = ledger.floor((known.stream.name, partition))
            if self._compacted.is_due((known.stream.name, partition), status.rows, end, floor):
                total += self._compact_partition(known, partition, end, floor)
        return total

    def _compact_partition(self, known: Known, partition: int, end: int, floor: int | None) -> int:
        batches = self._reader.batches(known, partition, end, _ROWS_PER_READ)
        losing = superseded(batches, known.stream.key, floor)
        total = 0
        work = iter(losing.items())
        while some := dict(islice(work, _APPENDS_PER_STEP)):
            rewrites = [self._rewrite(known, seq, places) for seq, places in some.items()]
            size = sum(rewrite.data.size for rewrite in rewrites if rewrite.data is not None)
            step = _Step(self._writer.ledger, known, partition, floor, rewrites)
            total += sum(self._writer.call(step, _Forget(self._cache, known), size).values())
        return total

    def _rewrite(self, known: Known, seq: int, places: npt.NDArray[np.int32]) -> _Rewrite:
        stored, size = self._reader.batch(known, seq)
        before = stored.rows.num_rows
        if not len(places):
            return _Rewrite(seq, before, size, b"", 0, None, 0)
        data = stored.rows.take(pa.array(np.searchsorted(stored.places(), places))).serialize()
        kept = places.tobytes()
        checksum = checksums.of_batch(
            seq, known.number, stored.place[1], stored.offset, stored.span, stored.at, kept, data
        )
        return _Rewrite(seq, before - len(places), size - data.size, kept, len(places), data, checksum)


@dataclass(frozen=True, slots=True)
class _Step:
    """Store a part of one partition's compaction; rows deleted by partition."""

    ledger: Ledger
    known: Known
    partition: int
    floor: int | None
    rewrites: list[_Rewrite]

    def __call__(self, connection: sqlite3.Connection) -> Counter[int]:
        now = self.ledger.floor((self.known.stream.name, self.partition))
        if now is not None and (self.floor is None or now < self.floor):
            return Counter()  # a consumer came or went back in the meantime and may want what was chosen
        for rewrite in self.rewrites:
            if rewrite.data is None:
                connection.execute(layout.DELETE_BATCH, (rewrite.seq,))
            else:
                row = (rewrite.count, rewrite.data.size, rewrite.kept, rewrite.data, rewrite.checksum, rewrite.seq)
                connection.execute(layout.REWRITE_BATCH, row)
        rows, size = sum(r.lost_rows for r in self.rewrites), sum(r.lost_bytes for r in self.rewrites)
        layout.shrink(connection, self.known, self.partition, rows, size)
        return Counter({self.partition: rows})


@dataclass(frozen=True, slots=True)
class _Forget:
    """Let the cache forget the partitions in which rows were deleted."""

    cache: TailCache
    known: Known

    def __call__(self, gone: Mapping[int, int]) -> None:
        for partition in gone:
            self.cache.drop((self.known.stream.name, partition))
