"""Rounds: rows that the log has and the table has not, written and committed with the offsets behind them.

The table says where it stands, also after a crash. Only then the log is told, as the position of the consumer
`lake:STREAM`: what lies behind it may be deleted there. Has no thread of its own; see `service`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from qanat.clock import now_ms
from qanat.errors import ArchiveError
from qanat.lake.files import Written
from qanat.lake.rows import sheets
from qanat.lake.table import LakeTable, Tables
from qanat.lake.types import table_schema
from qanat.log.base import Chunk, Log, StreamStatus, Transaction
from qanat.model.lake import Lake, consumer_of, is_archived
from qanat.model.streams import Stream
from qanat.observe.metrics import Metrics

#: State of the log: which log it is, so that no other one is archived into the same tables.
ORIGIN = "lake/origin"
#: Rows that are asked of the log at a time, and what a commit may hold of it, in bytes.
_READ = 1 << 16
_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Round:
    """What one commit took: rows, and whether the log has more."""

    rows: int
    more: bool


class Archiver:
    """Archives the streams of a log that ask for it. Of a log there may be one; not thread-safe."""

    def __init__(self, log: Log, tables: Tables, settings: Lake, metrics: Metrics | None = None) -> None:
        self._log, self._tables, self._settings, self._metrics = log, tables, settings, metrics
        self._open: dict[str, LakeTable] = {}
        self._turn = 0

    def prepare(self) -> None:
        """Let the log keep what is not archived. To be called before it deletes anything, and again for new streams.

        A stream that is no longer archived holds the log back no longer.
        """
        status = self._log.status()
        wanted = {name: one.stream for name, one in status.items() if is_archived(one.stream)}
        positions = {
            consumer_of(name): {(name, n): 0 for n in range(stream.partitions)}
            for name, stream in wanted.items()
            if not self._log.positions(consumer_of(name))
        }
        over = tuple(
            consumer_of(name) for name in status if name not in wanted and self._log.positions(consumer_of(name))
        )
        state = {ORIGIN: uuid.uuid4().hex.encode()} if wanted and self._log.state(ORIGIN) is None else {}
        if positions or over or state:
            self._log.submit(Transaction(positions=positions, state=state, forget=over)).result()

    def streams(self) -> list[str]:
        """The streams that are to be archived."""
        return [name for name, one in self._log.status().items() if is_archived(one.stream)]

    def archive(self, name: str) -> Round:
        """One commit of a stream, or none where there is nothing new. Raises `ArchiveError`, `LogError`."""
        status = self._log.status()[name]
        try:
            table = self.table(status)
            done = self._round(status, table)
        except BaseException:
            self._open.pop(name, None)  # whatever it stood at, look again
            raise
        self._say_lag(status, table)
        return done

    def table(self, status: StreamStatus) -> LakeTable:
        """The stream's table, made where there is none, with the columns that the stream has now."""
        stream = status.stream
        found = self._open.get(stream.name) or self._tables.mended(stream.name)
        origin = (self._log.state(ORIGIN) or b"").decode()
        if found is None:
            found = self._tables.create(stream.name, table_schema(stream), origin, int(self._settings.keep))
        found.refresh()
        self._check(found, origin, status)
        found.add_columns(table_schema(stream))
        self._open[stream.name] = found
        return found

    def _check(self, table: LakeTable, origin: str, status: StreamStatus) -> None:
        """Refuse a table that is not this log's, or knows rows that this log has never had."""
        name = status.stream.name
        hint = "another lake.url for this project; or, to go on here, put log.db back from the same time as the lake"
        if table.origin != origin:
            raise ArchiveError(f"{table.url} holds rows of another log", hint=hint)
        begun, told = self._version(name), self._log.positions(consumer_of(name))
        for number, end in table.positions(status.ends).items():
            if end < told.get((name, number), 0):
                raise ArchiveError(
                    f"{table.url} has {name}/{number} up to row {end}, and had it up to row {told[name, number]}",
                    hint="mount or copy the lake to where it was; to begin anew without what it had: "
                    "'archive' = 'false', qanat apply, then 'true' again",
                )
            if 0 < end <= begun.get(number, 0):
                raise ArchiveError(
                    f"{table.url} holds rows of {name} from before it was replayed",
                    hint="another lake.url for this project, or move that table away",
                )
            if end > status.ends[number]:
                raise ArchiveError(
                    f"{table.url} has {name}/{number} up to row {end}, the log up to {status.ends[number]}", hint=hint
                )

    def _version(self, stream: str) -> dict[int, int]:
        """At which offsets the rows of a stream that was replayed begin; see `qanat.control.actual.Version`."""
        data = self._log.state(f"version/{stream}")
        return {} if data is None else dict(msgspec.msgpack.decode(data)["starts"])

    def _round(self, status: StreamStatus, table: LakeTable) -> Round:
        stream = status.stream
        positions = table.positions(range(stream.partitions))
        chunks, more = self._take(stream, positions)
        if chunks:
            ends = {**positions}
            for chunk in chunks:
                ends[chunk.partition] = chunk.end
            written = self._write(stream, table, chunks)
            table.append(written, {n: end for n, end in ends.items() if end != positions[n]})
            positions = ends
            self._say(stream.name, written)
        self._tell(stream, positions)
        return Round(sum(chunk.rows.num_rows for chunk in chunks), more)

    def _take(self, stream: Stream, positions: dict[int, int]) -> tuple[list[Chunk], bool]:
        """Rows of all partitions, each time from another one on, until a commit has enough."""
        found: list[Chunk] = []
        rows = size = 0
        self._turn += 1
        for number in range(stream.partitions):
            partition = (number + self._turn) % stream.partitions
            offset = positions[partition]
            while chunks := self._log.read((stream.name, partition), offset, min(_READ, self._settings.rows)):
                found += chunks
                offset = chunks[-1].end
                rows += sum(chunk.rows.num_rows for chunk in chunks)
                size += sum(chunk.rows.get_total_buffer_size() for chunk in chunks)
                if rows >= self._settings.rows or size >= _BYTES:
                    return found, True
        return found, False

    def _write(self, stream: Stream, table: LakeTable, chunks: list[Chunk]) -> list[Written]:
        """Files that no version names yet. Where one of them fails, none is left.

        After a commit that seemed to fail they stay, since it may have gone through: vacuum knows.
        """
        written: list[Written] = []
        try:
            for sheet in sheets(stream, chunks):
                written.append(table.write(sheet.day, [sheet.rows], sheet.rows.schema))  # noqa: PERF401 - see below
        except BaseException:
            table.discard(written)
            raise
        return written

    def _tell(self, stream: Stream, positions: dict[int, int]) -> None:
        """Let the log know what is archived."""
        consumer = consumer_of(stream.name)
        places = {(stream.name, number): end for number, end in positions.items()}
        if self._log.positions(consumer) != places:
            self._log.submit(Transaction(positions={consumer: places})).result()

    def _say(self, stream: str, written: Iterable[Written]) -> None:
        if self._metrics is not None:
            files = list(written)
            rows, size = sum(one.rows for one in files), sum(one.size for one in files)
            self._metrics.lake_committed(stream, rows, len(files), size, now_ms())

    def _say_lag(self, status: StreamStatus, table: LakeTable) -> None:
        if self._metrics is None:
            return
        name = status.stream.name
        rows, oldest = behind(self._log, table.positions(range(status.stream.partitions)), name)
        seconds = 0.0 if oldest is None else max(0.0, (now_ms() - oldest) / 1000)
        self._metrics.lake_lag(name, rows, seconds)


def behind(log: Log, positions: dict[int, int], stream: str) -> tuple[int, int | None]:
    """Rows of a stream that are not archived, and when the oldest of them came (ms)."""
    status = log.status()[stream]
    rows, arrived = 0, []
    for number, end in status.ends.items():
        begin = max(positions.get(number, 0), status.starts.get(number, 0))
        if begin < end:
            rows += end - begin
            arrived += [chunk.at for chunk in log.read((stream, number), begin, 1)[:1]]
    return rows, min(arrived, default=None)
