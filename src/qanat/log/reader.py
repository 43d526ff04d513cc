"""Reading the SQLite file, in the writing process and in any other: every call sees the newest commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import pyarrow as pa

from qanat.errors import LogCorruptError, LogError
from qanat.log import checksums, layout
from qanat.log.admission import Known
from qanat.log.base import Chunk, Place, StreamStatus
from qanat.log.chunks import Stored, decode_rows, take_chunks
from qanat.log.declarations import decode_stream

_IDLE_CONNECTIONS = 8


class Reader:
    """A pool of reading connections: one per thread that reads at the moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._idle: list[sqlite3.Connection] = [layout.connect_reader(path)]
        self._schemas: dict[int, pa.Schema] = {}
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for the time of one read. Raises `LogError` after `close`; SQLite's errors become ours."""
        with self._lock:
            self.check_open()
            found = self._idle.pop() if self._idle else None
        found = found or layout.connect_reader(self._path)
        try:
            with layout.translated(self._path, "read"):
                yield found
        finally:
            with self._lock:
                keep = not self._closed and len(self._idle) < _IDLE_CONNECTIONS
                if keep:
                    self._idle.append(found)
            if not keep:
                found.close()

    def check_open(self) -> None:
        """Raise `LogError` after `close`."""
        if self._closed:
            raise LogError(f"the log {self._path} is closed")

    def close(self) -> None:
        """Close what is idle now, and the others when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def read(self, known: Known, partition: int, offset: int, max_rows: int) -> list[Chunk]:
        """`Log.read` of a stream that is known to be there."""
        with self.connection() as connection:
            place = known.stream.name, partition
            cursor = connection.execute(layout.READ_BATCHES, (known.number, partition, offset))
            try:
                batches = self._batches(cursor, connection, place, known)
                whole = batches if known.stream.compact else _contiguous(batches, self._path)
                return take_chunks(whole, offset, max_rows)
            finally:
                cursor.close()  # lets go of the snapshot, which would hold up the checkpoint

    def batches(self, known: Known, partition: int, end: int, max_rows: int) -> Iterator[Stored]:
        """All appends before `end`; no snapshot is held longer than it takes to read `max_rows` rows."""
        offset = 0
        while offset < end:
            with self.connection() as connection:
                cursor = connection.execute(layout.READ_BATCHES, (known.number, partition, offset))
                found, rows = [], 0
                for stored in self._batches(cursor, connection, (known.stream.name, partition), known):
                    if stored.end > offset:
                        found.append(stored)
                        rows += stored.rows.num_rows
                    if rows >= max_rows:
                        break
                cursor.close()
            if not found:
                return
            yield from (stored for stored in found if stored.offset < end)
            offset = found[-1].end

    def batch(self, known: Known, seq: int) -> tuple[Stored, int]:
        """One append and its bytes."""
        with self.connection() as connection:
            partition, *row = connection.execute(layout.READ_BATCH, (seq,)).fetchone()
            (stored,) = self._batches([tuple(row)], connection, (known.stream.name, partition), known)
            return stored, len(row[-2])

    def _batches(
        self, found: Iterable[Any], connection: sqlite3.Connection, place: Place, known: Known
    ) -> Iterator[Stored]:
        for seq, offset, span, at, version, kept, data, stored in found:
            checksum = checksums.of_batch(seq, known.number, place[1], offset, span, at, kept, data)
            checksums.check(checksum, stored, f"rows {offset} to {offset + span - 1} of {place[0]}/{place[1]}")
            rows = decode_rows(data, self._schema(connection, version))
            yield Stored(place, seq, offset, span, at, kept, rows)

    def _schema(self, connection: sqlite3.Connection, version: int) -> pa.Schema:
        found = self._schemas.get(version)
        if found is None:
            (data,) = connection.execute(layout.READ_VERSION, (version,)).fetchone()
            found = self._schemas[version] = pa.ipc.read_schema(pa.py_buffer(data))
        return found

    def streams(self) -> dict[str, Known]:
        """All declared streams, by name."""
        with self.connection() as connection:
            return {known.stream.name: known for known in self._streams(connection)}

    def _streams(self, connection: sqlite3.Connection) -> list[Known]:
        try:
            rows = connection.execute(layout.READ_STREAMS).fetchall()
            return [Known.of(decode_stream(data), number, version) for number, version, data in rows]
        except msgspec.MsgspecError as error:
            raise LogCorruptError(f"a declaration in {self._path} is not readable: {error}") from error

    def seq(self) -> int:
        """`Log.seq`."""
        return int(self._one(layout.READ_SEQ)[0])

    def state(self, key: str) -> bytes | None:
        """`Log.state`."""
        with self.connection() as connection:
            found = connection.execute(layout.READ_STATE, (key,)).fetchone()
        if found is None:
            return None
        value = bytes(found[0])
        checksums.check(checksums.of_state(key, value), found[1], f"the state {key!r} in {self._path}")
        return value

    def positions(self, consumer: str) -> dict[Place, int]:
        """`Log.positions`."""
        with self.connection() as connection:
            rows = connection.execute(layout.READ_POSITIONS, (consumer,)).fetchall()
        return {place: offset for _, place, offset in map(self._position, rows)}

    def _position(self, row: tuple[str, str, int, int, int | None]) -> tuple[str, Place, int]:
        consumer, stream, partition, offset, stored = row
        found = checksums.of_position(consumer, stream, partition, offset)
        checksums.check(found, stored, f"the position of {consumer} on {stream}/{partition} in {self._path}")
        return consumer, (stream, partition), offset

    def all_positions(self) -> dict[str, dict[Place, int]]:
        """Positions of all consumers."""
        found: dict[str, dict[Place, int]] = {}
        with self.connection() as connection:
            rows = connection.execute(layout.READ_ALL_POSITIONS).fetchall()
        for consumer, place, offset in map(self._position, rows):
            found.setdefault(consumer, {})[place] = offset
        return found

    def offset_at(self, known: Known, partition: int, time_ms: int) -> int:
        """`Listed.offset_at`."""
        with self.connection() as connection:
            (offset,) = connection.execute(layout.OFFSET_AT, (known.number, partition, time_ms)).fetchone()
        return int(offset)

    def ends(self) -> dict[Place, int]:
        """The next offset of every partition."""
        return {(name, n): end for name, found in self.status().items() for n, end in found.ends.items()}

    def status(self) -> dict[str, StreamStatus]:
        """`Log.status`, from one snapshot."""
        with self.connection() as connection, _snapshot(connection):
            streams = self._streams(connection)
            rows = connection.execute(layout.READ_PARTITIONS).fetchall()
        parts: dict[int, list[tuple[int, ...]]] = {}
        for number, *part in rows:
            parts.setdefault(number, []).append(tuple(part))
        return {known.stream.name: _status(known, parts.get(known.number, [])) for known in streams}

    def check_ends(self) -> None:
        """Raise `LogCorruptError` where the rows of a partition do not reach its end."""
        with self.connection() as connection:
            rows = connection.execute(layout.LAST_BATCHES).fetchall()
        for stream, partition, end, count, last in rows:
            if (last is None and count) or (last is not None and last > end):
                raise checksums.missing(f"the end of {stream}/{partition} (offset {end}) in {self._path}")

    @contextmanager
    def data_version(self) -> Iterator[Callable[[], int]]:
        """A call that gives another number after each commit of another process; it holds a connection."""
        connection = layout.connect_reader(self._path)

        def look() -> int:
            with layout.translated(self._path, "read"):
                return int(connection.execute("PRAGMA data_version").fetchone()[0])

        with closing(connection):
            yield look

    def _one(self, sql: str) -> tuple[int, ...]:
        with self.connection() as connection:
            found: tuple[int, ...] = connection.execute(sql).fetchone()
            return found


def _contiguous(batches: Iterator[Stored], path: Path) -> Iterator[Stored]:
    """The appends, which follow each other without a gap."""
    end: int | None = None
    for stored in batches:
        if end is not None and stored.offset != end:
            raise checksums.missing(f"{stored.place[0]}/{stored.place[1]} from row {end} on in {path}")
        end = stored.end
        yield stored


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _status(known: Known, parts: list[tuple[int, ...]]) -> StreamStatus:
    """`parts`: partition, start, end, rows, bytes, newest time."""
    times = [part[5] for part in parts if part[5] is not None]
    return StreamStatus(
        known.stream,
        {part[0]: part[1] for part in parts},
        {part[0]: part[2] for part in parts},
        sum(part[3] for part in parts),
        sum(part[4] for part in parts),
        max(times, default=None),
    )
