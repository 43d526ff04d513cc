"""The Log port: append-only streams with partitions, and one transaction for everything.

Drivers are named by URL in `open_log` (`qanat.log`): `sqlite:///path/to/file`, `memory://`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from qanat.model.streams import Stream

#: (stream, partition)
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Append:
    """Rows to be added to one partition. `min_time`/`max_time`: event times of the rows (ms), None where unknown.

    `at`: the time of arrival (ms), kept with the rows; retention by age and the order of replay do not depend on it.
    """

    stream: str
    partition: int
    rows: pa.RecordBatch
    at: int
    min_time: int | None = None
    max_time: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Stored rows as they were appended, or the rest of them from the offset that was asked for.

    `seq` is the log-wide number of the append: it grows by at least one with every append to any stream, and gives all
    streams together one order. `offset` is that of the first row here, `row` its place within the append (0 unless the
    read began in the middle).
    """

    stream: str
    partition: int
    offset: int
    seq: int
    row: int
    at: int
    rows: pa.RecordBatch

    @property
    def end(self) -> int:
        """The offset after the last row."""
        return self.offset + int(self.rows.num_rows)


@dataclass(frozen=True, slots=True)
class Transaction:
    """What becomes visible together, or not at all.

    `positions`: consumer -> place -> next offset to read. `state`: key -> bytes; None deletes the key.
    `expect`: consumer -> place -> offset that must be stored now (fencing: a second engine that runs the same pipeline
    fails instead of writing twice). `forget`: consumers whose stored positions are dropped before `positions` are set;
    they no longer hold back retention.
    """

    appends: Sequence[Append] = ()
    positions: Mapping[str, Mapping[Place, int]] = field(default_factory=dict)
    state: Mapping[str, bytes | None] = field(default_factory=dict)
    expect: Mapping[str, Mapping[Place, int]] = field(default_factory=dict)
    forget: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where the appends of a transaction went: one base offset per append, in their order; `seq` of the last append."""

    offsets: tuple[int, ...]
    seq: int


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream as the log holds it: first and end offset per partition, rows, bytes, newest event time (ms)."""

    stream: Stream
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    rows: int
    bytes: int
    max_time: int | None


class Log(Protocol):
    """Ordering: rows of one partition keep the order in which their transactions were submitted; `seq` orders all.

    Durability: the future of `submit` completes after fsync. Idempotency: none; a transaction submitted twice is stored
    twice, unless `expect` forbids it. Readers see whole transactions only. Thread-safe.

    Errors: `UnknownStreamError`, `LogFullError` (nothing of the transaction is stored), `BackpressureError` (raised by
    `submit` at once when its queue is full), `LogLockedError`, `LogCorruptError`.
    """

    def create(self, stream: Stream) -> None:
        """Declare a stream. The same declaration again does nothing; added nullable columns and changed retention are
        taken over; anything else raises `LogError` that says what differs."""
        ...

    def submit(self, transaction: Transaction) -> Future[Receipt]:
        """Queue a transaction; many are committed with one fsync. Callbacks of the future run on the log's thread."""
        ...

    def read(self, place: Place, offset: int, max_rows: int) -> list[Chunk]:
        """Rows from `offset` on, at least one chunk where there is one, not many more than `max_rows` rows in all (the
        last chunk is not cut). An offset that retention has deleted reads from the first one still there."""
        ...

    def seq(self) -> int:
        """The number of the newest committed append of any stream; 0 where there is none."""
        ...

    def status(self) -> dict[str, StreamStatus]:
        """All streams."""
        ...

    def positions(self, consumer: str) -> dict[Place, int]:
        """Stored positions of one consumer."""
        ...

    def state(self, key: str) -> bytes | None:
        """What a transaction stored under `key`."""
        ...

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` (quick, any thread) after each commit of this process; returns the call that ends it."""
        ...

    def close(self) -> None:
        """Commit what is queued and close. Further calls raise `LogError`."""
        ...


class Maintained(Protocol):
    """Logs that keep retention and compaction themselves."""

    def maintain(self, now_ms: int) -> Mapping[str, int]:
        """Delete by age and size, compact by key; returns rows deleted per stream. Never deletes rows that a
        consumer with a stored position on that stream has not read."""
        ...


class Listed(Protocol):
    """Logs that can say who reads them and where event times lie."""

    def consumers(self) -> list[str]:
        """Everybody who has stored positions, by name."""
        ...

    def offset_at(self, place: Place, time_ms: int) -> int:
        """An offset before which no row of the partition has an event time of `time_ms` or later, as far to the end as
        the log knows: an append whose event times are unknown may hold any."""
        ...


class Replaceable(Protocol):
    """Logs that can swap all rows of a stream for others in one transaction."""

    def replace(self, stream: str, rows: Iterable[Append], then: Callable[[Mapping[int, int]], Transaction]) -> Receipt:
        """Store `rows` in place of all that `stream` holds, and with them the transaction that `then` makes of the new
        ends per partition once all rows are taken.

        Offsets go on: the first new row gets the offset after the last old one. Readers see the old rows until the
        commit, and all the new ones after it. Whatever `rows` or `then` raise, or a crash, leaves the old version.
        `rows` may read this log and must not write it. Other transactions wait meanwhile.
        """
        ...
