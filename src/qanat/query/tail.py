"""The rows of one stream in the order of their commits, and then the new ones, also those of another process."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator
from heapq import merge
from typing import Literal

from qanat.errors import ConfigError, UnknownStreamError
from qanat.log.base import Chunk, Log, Place, StreamStatus

#: "beginning"; "end"; an offset (of every partition); -n: the last n rows of all partitions together; or a time: rows
#: that arrived at it or later (without a zone: UTC).
Start = Literal["beginning", "end"] | int | dt.datetime

_ROWS = 1 << 14
_POLL_SECONDS = 0.1


def tail(log: Log, stream: str, start: Start = "end", *, follow: bool | Callable[[], bool] = False) -> Iterator[Chunk]:
    """Chunks of `stream` in the order of `seq` over all partitions. The start is settled now, not at the first row.

    `follow` False: to the end of now. True: forever, asking the log ten times a second. A callable: it is called when
    nothing is new, waits as it likes, and returns whether to go on. Raises `UnknownStreamError`.
    """
    statuses = log.status()
    if stream not in statuses:
        known = ", ".join(sorted(statuses)) or "none"
        raise UnknownStreamError(f"no stream {stream}", hint=f"the streams are: {known}")
    return _follow(log, offsets_at(log, statuses[stream], start), _wait if follow is True else follow)


def parse_start(text: str) -> Start:
    """`beginning`, `end`, `1200`, `-10` or `2026-01-01 00:00:00`. Raises `ConfigError`."""
    match text:
        case "beginning" | "end":
            return text
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        hint = "beginning, end, an offset, -10 for the last ten rows, or a time such as 2026-01-01T00:00:00"
        raise ConfigError(f"no place to start from: {text!r}", hint=hint) from None


def _wait() -> bool:
    time.sleep(_POLL_SECONDS)
    return True


def _follow(log: Log, offsets: dict[Place, int], again: Callable[[], bool] | Literal[False]) -> Iterator[Chunk]:
    while True:
        upto = log.seq()
        yield from _until(log, offsets, upto)
        if again is False:
            return
        while log.seq() == upto:
            if not again():
                return


def _until(log: Log, offsets: dict[Place, int], upto: int) -> Iterator[Chunk]:
    """What was committed up to the append number `upto`; so nothing can come late between two partitions' chunks."""
    parts = [_read(log, place, offset, upto) for place, offset in offsets.items()]
    for chunk in merge(*parts, key=lambda one: one.seq):
        offsets[chunk.stream, chunk.partition] = chunk.end
        yield chunk


def _read(log: Log, place: Place, offset: int, upto: int) -> Iterator[Chunk]:
    while chunks := log.read(place, offset, _ROWS):
        for chunk in chunks:
            if chunk.seq > upto:
                return
            yield chunk
        offset = chunks[-1].end


def offsets_at(log: Log, status: StreamStatus, start: Start) -> dict[Place, int]:
    """Where each partition is to be read from, for a reader that begins at `start`."""
    name = status.stream.name
    ends = {(name, partition): end for partition, end in status.ends.items()}
    match start:
        case "beginning":
            return dict.fromkeys(ends, 0)
        case "end":
            return ends
        case dt.datetime():
            zoned = start if start.tzinfo else start.replace(tzinfo=dt.UTC)
            at = int(zoned.timestamp() * 1000)
            first = {place: status.starts.get(place[1], 0) for place in ends}
            return {place: _first_at(log, place, first[place], end, at) for place, end in ends.items()}
        case int() if start >= 0:
            return dict.fromkeys(ends, start)
        case int():
            return _last(log, status, ends, -start)
        case _:
            raise ConfigError(f"no place to start from: {start!r}")


def _first_at(log: Log, place: Place, low: int, high: int, at: int) -> int:
    """The first offset that arrived at `at` or later, by halving: arrivals grow with offsets."""
    while low < high:
        middle = (low + high) // 2
        chunks = log.read(place, middle, 1)
        if chunks and chunks[0].at < at:
            low = max(chunks[0].end, middle + 1)
        else:
            high = middle
    return low


def _last(log: Log, status: StreamStatus, ends: dict[Place, int], count: int) -> dict[Place, int]:
    """Offsets after which the partitions together hold the newest `count` rows."""
    tails = [
        chunk
        for place, end in ends.items()
        for chunk in _read(log, place, max(status.starts.get(place[1], 0), end - count), 1 << 62)
        if chunk.offset < end
    ]
    offsets = dict(ends)
    for chunk in sorted(tails, key=lambda one: one.seq, reverse=True):
        rows = min(count, chunk.rows.num_rows)
        if rows == 0:
            break
        offsets[chunk.stream, chunk.partition] = chunk.end - rows
        count -= rows
    return offsets
