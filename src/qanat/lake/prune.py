"""Which files may hold rows that are asked for: by date, by event time and by values of columns. Pure.

What a file says nothing about may be in it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from qanat.lake.dates import day_of
from qanat.lake.table import File
from qanat.log.archive import EVERYTHING, OFFSET, PARTITION, Bounds
from qanat.model.streams import Stream

_EPOCH = dt.datetime(1970, 1, 1)


def pruned(files: Iterable[File], stream: Stream, bounds: Bounds) -> list[File]:
    """The files that may hold rows within the bounds."""
    if bounds == EVERYTHING:
        return list(files)
    return [one for one in files if _within_times(one, stream, bounds) and _has_values(one, bounds.equal)]


def reaching(files: Iterable[File], partition: int, begin: int, end: int) -> list[File]:
    """The files that may hold offsets of a partition from `begin` to before `end`."""
    return [
        one for one in files if _between(one, PARTITION, partition, partition) and _between(one, OFFSET, begin, end - 1)
    ]


def _within_times(file: File, stream: Stream, bounds: Bounds) -> bool:
    source = stream.event_time
    if source is None:
        return True  # the folders are dates of arrival
    if bounds.since is not None and file.day < day_of(bounds.since):
        return False
    if bounds.until is not None and file.day > day_of(bounds.until):
        return False
    low, high = (_milliseconds(side.get(source.name), source.per_second) for side in (file.low, file.high))
    if low is None or high is None:
        return True
    # statistics may be cut to milliseconds, and bounds are whole ones
    return (bounds.since is None or high + 1 >= bounds.since) and (bounds.until is None or low <= bounds.until)


def _milliseconds(value: Any, per_second: int | None) -> int | None:
    if isinstance(value, dt.datetime):
        return (value.replace(tzinfo=None) - _EPOCH) // dt.timedelta(milliseconds=1)
    if isinstance(value, int):
        return value * 1000 // (per_second or 1_000_000_000)  # a TIMESTAMP of nine digits is stored in nanoseconds
    return None


def _has_values(file: File, equal: Mapping[str, Collection[object]]) -> bool:
    return all(_may_have(file, name, values) for name, values in equal.items())


def _may_have(file: File, name: str, values: Collection[object]) -> bool:
    low, high = file.low.get(name), file.high.get(name)
    if low is None or high is None:
        return True
    return any(not _comparable(value, low) or low <= value <= high for value in values)


def _comparable(value: object, low: object) -> bool:
    """Whether both are of one kind, so that comparing them says something."""
    if isinstance(value, bool | dt.datetime) or isinstance(low, dt.datetime):
        return False  # times have zones and precisions; their bounds are `since` and `until`
    return type(value) is type(low)


def _between(file: File, name: str, least: int, greatest: int) -> bool:
    low, high = file.low.get(name), file.high.get(name)
    return low is None or high is None or (low <= greatest and high >= least)
