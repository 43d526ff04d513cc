"""`qanat tail`: the rows of a stream as they arrive, read beside the process that writes them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qanat.cli.options import Data, Json, Project
from qanat.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from qanat.log.base import Chunk, Log, StreamStatus

_BATCH = 10_000
#: Seconds between two looks where no commit was noticed.
_LOOK = 1.0


def tail(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream.")],
    begin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="beginning, end, -N (the last N rows), an offset, or a time such as 2026-11-21T10:00:00.",
        ),
    ] = "-10",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more rows, or end.")] = True,
    directory: Project = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Print the rows of a stream, and those that arrive."""
    from qanat.cli.output import Grid, for_people, write_json
    from qanat.cli.project import open_log_to_read

    log = open_log_to_read(directory, data)
    try:
        write = write_json if as_json or not for_people() else Grid().write
        _tail(log, stream, begin, follow, write)
    finally:
        log.close()


def _tail(log: Log, stream: str, begin: str, follow: bool, write: Callable[[pa.RecordBatch], None]) -> None:
    reading = _Reading(log, stream, begin)
    changed = threading.Event()
    unwatch = log.watch(changed.set) if follow else _nothing
    try:
        while True:
            for rows in reading.new_rows():
                write(rows)
            if not follow:
                return
            changed.wait(_LOOK)
            changed.clear()
    finally:
        unwatch()


def _nothing() -> None:
    """There is nothing to end."""


class _Reading:
    """What of a stream was not printed yet."""

    def __init__(self, log: Log, stream: str, begin: str) -> None:
        status = log.status().get(stream)
        if status is None:
            raise _unknown(log, stream)
        self._log, self._status = log, status
        self._since: int | None = None
        self._skip = 0
        self._offsets = self._start(begin, status)

    def _start(self, begin: str, status: StreamStatus) -> dict[int, int]:
        starts, ends = dict(status.starts), dict(status.ends)
        match begin:
            case "beginning":
                return starts
            case "end":
                return ends
            case _ if re.fullmatch(r"\d+", begin):
                return {partition: max(int(begin), start) for partition, start in starts.items()}
            case _ if re.fullmatch(r"-\d+", begin):
                return self._last(int(begin[1:]), starts, ends)
            case _:
                self._since = _instant(begin)
                return starts

    def _last(self, count: int, starts: dict[int, int], ends: dict[int, int]) -> dict[int, int]:
        """The last `count` rows of all partitions: so many of each, less those that are older than the newest."""
        offsets = {partition: max(starts[partition], end - count) for partition, end in ends.items()}
        self._skip = max(0, sum(ends[p] - offsets[p] for p in ends) - count)
        return offsets

    def new_rows(self) -> Iterator[pa.RecordBatch]:
        """Everything there is now, in the order of the log across partitions."""
        while chunks := self._read():
            for chunk in sorted(chunks, key=lambda chunk: (chunk.seq, chunk.row)):
                skip = min(self._skip, chunk.rows.num_rows)
                self._skip -= skip
                rows = self._wanted(chunk).slice(skip) if skip else self._wanted(chunk)
                if rows.num_rows:
                    yield rows

    def _read(self) -> list[Chunk]:
        """The next rows of every partition, up to the newest append that all of them were read to."""
        found: list[Chunk] = []
        for partition, offset in self._offsets.items():
            chunks = self._log.read((self._status.stream.name, partition), offset, _BATCH)
            if chunks:
                self._offsets[partition] = chunks[-1].end
            found += chunks
        return found

    def _wanted(self, chunk: Chunk) -> pa.RecordBatch:
        """Rows at or after the time that was asked for: by event time where the stream has one, else by arrival."""
        if self._since is None:
            return chunk.rows
        column = self._status.stream.event_time
        if column is None:
            return chunk.rows if chunk.at >= self._since else chunk.rows.slice(0, 0)
        return _from_time(chunk.rows, column.name, column.per_second, self._since)


def _from_time(rows: pa.RecordBatch, name: str, per_second: int | None, since: int) -> pa.RecordBatch:
    import pyarrow as pa
    import pyarrow.compute as pc

    times = rows.column(name)
    if per_second is None:
        bound = pa.scalar(since, pa.timestamp("ms")).cast(pa.timestamp(times.type.unit))
        return rows.filter(pc.greater_equal(times.cast(bound.type), bound))
    return rows.filter(pc.greater_equal(times, since * per_second / 1000))


def _instant(text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--from {text!r} is not understood",
            hint="beginning, end, -100 (the last 100 rows), 5000 (an offset), 2026-11-21T10:00:00 (a time, UTC)",
        ) from None
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)


def _unknown(log: Log, stream: str) -> ConfigError:
    import difflib

    names: Iterable[str] = sorted(log.status())
    close = difflib.get_close_matches(stream, names, 1, 0.5)
    hint = f"did you mean {close[0]}?" if close else f"the streams are: {', '.join(names) or 'none yet'}"
    return ConfigError(f"there is no stream {stream!r} in this log", hint=hint)
