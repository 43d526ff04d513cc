"""Which part of the log a rebuild has to read, and whether the log still has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qanat.clock import MAX_TIME, MIN_TIME
from qanat.control.actual import Actual, Commit, feed_offset
from qanat.control.history import Need, need_of
from qanat.log.base import Place
from qanat.model.streams import Stream
from qanat.sql.embedded.rebuild import Span
from qanat.sql.embedded.runner import scan_name
from qanat.sql.fingerprint import fingerprint
from qanat.sql.plan import Pipeline, Scan
from qanat.sql.tree import walk


@dataclass(frozen=True, slots=True)
class Reach:
    """`span`: what to read (None: nothing can be read again); `places`: of its feeds; `rows` of it; `missing`: what the
    log no longer has, in words; `truncated`: whether retention has deleted rows of a stream."""

    span: Span | None
    rows: int = 0
    missing: str = ""
    truncated: bool = False
    places: Mapping[str, Place] = field(default_factory=dict)


def reach_of(pipeline: Pipeline, commit: Commit, actual: Actual, since: int | None = MAX_TIME) -> Reach:
    """What a rebuild of the pipeline up to its last commit reads.

    `since`: results of this event time (ms) or later are wanted as well; None: all of them.
    """
    scans = [node for node in walk(pipeline.root) if isinstance(node, Scan)]
    events: dict[str, int] = {}
    places: dict[str, Place] = {}
    for number, scan in enumerate(scans):
        stream = scan.table.stream
        if stream is None:
            name = scan_name(scan, number, 0)
            if name not in commit.feeds:
                return Reach(None, missing=f"{scan.table.name} lies outside the log and was not read before")
            events[name] = int(commit.feeds[name]["consumed"])
        else:
            places |= {scan_name(scan, number, n): (stream.name, n) for n in range(stream.partitions)}
    ends = _ends(places, commit, actual)
    first = _first_time(pipeline, scans, commit, since)
    starts = {name: _start(place, ends[name], first, actual) for name, place in places.items()}
    needed = since != MAX_TIME or bool(fingerprint(pipeline).states)
    if not needed:
        starts = dict(ends)
    need = need_of(pipeline.root)
    streams = {scan.table.stream.name: scan.table.stream for scan in scans if scan.table.stream is not None}
    cut = {place for place in places.values() if _kept_from(place, actual) > _began(place, actual)}
    lacking = [
        place
        for place in sorted(cut)
        if needed and _lacks(streams[place[0]], place, first, actual, since is None or need.ms is None)
    ]
    rows = sum(ends[name] - starts[name] for name in places) + sum(events.values())
    missing = _missing(lacking[0][0], need, since) if lacking else ""
    return Reach(Span(starts, ends, events), rows, missing, bool(cut), places)


def _kept_from(place: Place, actual: Actual) -> int:
    known = actual.streams.get(place[0])
    return 0 if known is None else known.starts.get(place[1], 0)


def _began(place: Place, actual: Actual) -> int:
    """The first offset that a partition ever had: of its newest version."""
    version = actual.versions.get(place[0])
    return 0 if version is None else version.starts.get(place[1], 0)


def _ends(places: Mapping[str, Place], commit: Commit, actual: Actual) -> dict[str, int]:
    """Where the old operators stood. A stream that they did not read is cut at the same point of the log's order."""
    known = {name: feed_offset(commit.feeds[name]) for name in places if name in commit.feeds}
    by_place = dict(commit.positions)
    unread = [actual.row(place, offset) for place, offset in by_place.items() if place[0] in actual.streams]
    seqs = [row[0] for row in unread if row is not None]
    found = {}
    for name, place in places.items():
        if name in known or place in by_place:
            found[name] = known.get(name, by_place.get(place, 0))
        elif place[0] not in actual.streams:
            found[name] = 0
        elif seqs:
            found[name] = actual.offset_of_seq(place, min(seqs))
        else:
            found[name] = actual.streams[place[0]].ends.get(place[1], 0)
    return found


def _first_time(pipeline: Pipeline, scans: list[Scan], commit: Commit, since: int | None) -> int | None:
    """The event time (ms) from which on rows are needed; None: from the beginning."""
    need = need_of(pipeline.root)
    if since is None or need.ms is None or need.sessions or commit.clock is None or commit.clock <= MIN_TIME:
        return None
    # a longer delay of the watermark, if that is what changed, opens windows again
    delays = [scan.table.watermark.delay_ms for scan in scans if scan.table.watermark is not None]
    return min(commit.clock, since) - need.ms - max(delays, default=0)


def _start(place: Place, end: int, first: int | None, actual: Actual) -> int:
    kept = _kept_from(place, actual)
    if first is None or place[0] not in actual.streams:
        return min(kept, end)
    return min(max(kept, actual.offset_at(place, first)), end)


def _lacks(stream: Stream, place: Place, first: int | None, actual: Actual, everything: bool) -> bool:
    """Whether rows that are needed may have been deleted from a place that has lost some."""
    if first is not None:
        # an append that is older than all that is needed is still there, so what is needed is, too
        return actual.offset_at(place, first) <= _kept_from(place, actual)
    if stream.compact and stream.key and stream.retention_ms is None and stream.retention_bytes is None:
        return False  # compaction leaves the last row of every key
    return everything


def _missing(stream: str, need: Need, since: int | None) -> str:
    if since is None:
        return f"retention has deleted rows of {stream}: results that were made of them would be gone"
    if need.ms is None:
        return f"its state depends on every row that {stream} ever had, and retention has deleted some"
    if since != MAX_TIME:
        return f"retention has deleted rows of {stream} that results from then on are made of"
    return f"retention has deleted rows of {stream} that windows still open have in them"
