"""What the log of a project holds: streams, plans, and where pipelines stand. Reads only, also beside a running one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from qanat.log.base import Log, Place, StreamStatus
from qanat.sql.embedded.connectors.streams import offset_of
from qanat.sql.embedded.state import unpack
from qanat.sql.embedded.stored_plans import StoredPlan, load_plans


@dataclass(frozen=True, slots=True)
class Commit:
    """The last commit of a pipeline. `feeds`: positions by the feed's name; `rate`: rows/s it has reached, if known."""

    feeds: Mapping[str, dict[str, Any]]
    positions: Mapping[Place, int]
    watermarks: tuple[int, ...] | None
    rate: float | None
    whole: Mapping[str, Any]

    @property
    def clock(self) -> int | None:
        """The watermark where the pipeline stands; None where it has none."""
        clocks = [int(at["clock"]) for at in self.feeds.values() if not (at["idle"] or at["finished"])]
        return min(clocks, default=None)


class Version(msgspec.Struct, frozen=True):
    """Of a stream that was replayed: how often it was written anew (from 2 on), and at which offsets that begins."""

    number: int
    starts: dict[int, int]


@dataclass(frozen=True, slots=True)
class Actual:
    """`offset_at`: see `log.base.Listed`; `row`: sequence number and arrival (ms) of the first row from an offset on,
    None where there is none; `offset_of_seq`: the offset of the first row with that sequence number or a higher one."""

    streams: Mapping[str, StreamStatus] = field(default_factory=dict)
    plans: Mapping[str, StoredPlan] = field(default_factory=dict)
    commits: Mapping[str, Commit] = field(default_factory=dict)
    versions: Mapping[str, Version] = field(default_factory=dict)
    offset_at: Callable[[Place, int], int] = lambda _place, _time: 0
    row: Callable[[Place, int], tuple[int, int] | None] = lambda _place, _offset: None
    offset_of_seq: Callable[[Place, int], int] = lambda _place, _seq: 0


def read_actual(log: Log, declared: Iterable[str]) -> Actual:
    """What the log says of streams, and of pipelines: of those `declared` and of all others it knows."""
    plans = load_plans(log)
    listed = consumers_of(log)
    names = {*declared, *plans, *(one for one in listed if not one.endswith("@snapshot"))}
    commits = {name: found for name in sorted(names) if (found := read_commit(log, name)) is not None}
    status = log.status()

    def offset_at(place: Place, time_ms: int) -> int:
        ask = getattr(log, "offset_at", None)
        return int(ask(place, time_ms)) if ask is not None else status[place[0]].starts.get(place[1], 0)

    def row(place: Place, offset: int) -> tuple[int, int] | None:
        chunks = log.read(place, offset, 1)
        return (chunks[0].seq, chunks[0].at) if chunks else None

    def offset_of_seq(place: Place, seq: int) -> int:
        known = status[place[0]]
        return _first(log, place, known.starts.get(place[1], 0), known.ends.get(place[1], 0), seq)

    versions = {name: known for name in status if (known := read_version(log, name)) is not None}
    return Actual(status, plans, commits, versions, offset_at, row, offset_of_seq)


def read_version(log: Log, stream: str) -> Version | None:
    """The version of a stream; None for one that was never replayed."""
    data = log.state(f"version/{stream}")
    return None if data is None else msgspec.msgpack.decode(data, type=Version)


def consumers_of(log: Log) -> list[str]:
    """Everybody with stored positions, where the log can say."""
    ask = getattr(log, "consumers", None)
    return list(ask()) if ask is not None else []


def _first(log: Log, place: Place, low: int, high: int, seq: int) -> int:
    """By halving: sequence numbers grow with offsets."""
    while low < high:
        middle = (low + high) // 2
        chunks = log.read(place, middle, 1)
        if chunks and chunks[0].seq < seq:
            low = max(chunks[0].end, middle + 1)
        else:
            high = middle
    return low


def read_commit(log: Log, name: str) -> Commit | None:
    """Where a pipeline stands; None before its first commit."""
    data = log.state(f"commit/{name}")
    if data is None:
        return None
    whole = unpack(data)
    feeds = {feed["name"]: feed["position"] for feed in whole["feeds"]}
    marks = whole.get("watermarks")
    return Commit(feeds, log.positions(name), None if marks is None else tuple(marks), whole.get("rate"), whole)


def feed_offset(position: Mapping[str, Any]) -> int:
    """The offset at which a feed over the log stands."""
    return offset_of(position["token"])
