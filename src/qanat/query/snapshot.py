"""The streams that a query names, at one moment: how far each is archived, and what the log has from there on.

The cut comes first, then the log; so what is archived meanwhile is read from the log, and once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qanat.log.archive import Archive, Bounds, Cut
from qanat.log.base import Log, StreamStatus
from qanat.model.streams import Stream
from qanat.model.types import Kind, Type
from qanat.query.as_of import AsOf
from qanat.query.conditions import Condition, Domain
from qanat.query.constants import Values
from qanat.query.reading import Reading
from qanat.query.scan import StreamScan

_WHOLE = frozenset({Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT})
_TIMES = frozenset({Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ})
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Moment:
    """Streams as they are now: `statuses` of all, `cuts` of those that are named and archived."""

    statuses: Mapping[str, StreamStatus]
    cuts: Mapping[str, Cut]


def look(log: Log, archive: Archive | None, wanted: Callable[[str], bool]) -> Moment:
    """Now. `wanted`: whether a stream is named."""
    named = [name for name in (archive.streams() if archive is not None else ()) if wanted(name)]
    cuts: dict[str, Cut] = {}
    for _ in range(_TRIES):
        before, cuts = cuts, {}
        for name in named:
            cut = archive.cut(name) if archive is not None else None
            if cut is not None:
                cuts[name] = cut
        statuses = log.status()
        cuts = {name: cut for name, cut in cuts.items() if name in statuses}
        if not any(_gap(cut, statuses[name]) for name, cut in cuts.items()) or before == cuts:
            break  # where the cut has not moved in between, what lies in the gap was never archived
    return Moment(statuses, cuts)


def _gap(cut: Cut, status: StreamStatus) -> bool:
    """Whether retention has passed the cut: rows may be in the archive only that came there after the cut."""
    return any(status.starts.get(place, 0) > cut.ends.get(place, 0) for place in status.ends)


def bounds_of(reading: Reading, stream: Stream, values: Values) -> Bounds:
    """What the rows of a stream that a statement needs have in common. Of an upsert stream only keys bound: a row that
    is left out for another reason might be the one that hides an older one."""
    domains = {column.name.casefold(): domain for column in stream.columns if (domain := domain_of(column.type))}
    found = reading.conditions(stream.name, domains, values)
    names = {column.name.casefold(): column.name for column in stream.columns}
    keys = {key.casefold() for key in stream.key}
    equal = {
        names[name]: condition.among
        for name, condition in found.items()
        if condition.among is not None and (not stream.upsert or name in keys)
    }
    if stream.upsert or stream.event_time is None:
        return Bounds(equal=equal)
    condition = found.get(stream.event_time.name.casefold(), Condition())
    factor = 1000 / (stream.event_time.per_second or 1_000_000)
    since = None if condition.low is None else int(condition.low * factor // 1) - 1
    until = None if condition.high is None else int(-(-condition.high * factor // 1)) + 1
    return Bounds(since, until, equal)


def domain_of(kind: Type) -> Domain | None:
    """How values of a type are compared, where that is understood."""
    if kind.kind is Kind.STRING:
        return Domain.TEXT
    return Domain.WHOLE if kind.kind in _WHOLE else Domain.TIME if kind.kind in _TIMES else None


def scan_of(log: Log, status: StreamStatus, cut: Cut | None, bounds: Bounds, options: Mapping[str, Any]) -> StreamScan:
    """The rows that the log has: from the cut on, and from where the event times asked for may begin."""
    stream = status.stream
    begins = dict(cut.ends) if cut is not None else {}
    ask = getattr(log, "offset_at", None)
    if bounds.since is not None and ask is not None:
        for partition, end in status.ends.items():
            if begins.get(partition, 0) < end:
                first = int(ask((stream.name, partition), bounds.since))
                begins[partition] = max(begins.get(partition, 0), min(first, end))
    return StreamScan(log, status, begins=begins, placed=stream.upsert and cut is not None, **options)


def covers(scan: StreamScan, as_of: AsOf) -> bool:
    """Whether the log can have a row that the scan would give."""
    name = scan.status.stream.name
    return any(
        max(scan.begins.get(n, 0), scan.status.starts.get(n, 0)) < min(end, as_of.end((name, n), end))
        for n, end in scan.status.ends.items()
    )
