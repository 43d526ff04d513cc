"""Windows over instants in a time zone: they are of local days and hours, as Flink's with TIMESTAMP_LTZ.

Rows and watermark are moved to local time before the window operator, and what comes out is moved back; the operator
itself knows no zones. Source of the rules: Flink's TimeWindowUtil.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from qanat.sql.embedded.flow import Batch, Context, Ints, State, instants, timestamps
from qanat.sql.plan import Field, Node, WindowAggregate, WindowJoin, WindowRank

_FIRST, _LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_DAY = 86_400_000
_LOCAL = "__local"
#: Watermarks beyond this are the ends of time and of no zone.
_FAR = 2**52


@dataclass(frozen=True, slots=True)
class Zone:
    """A time zone as arrays: `changes`, the instants (ms) at which its offset changes, and `offsets` (ms), one more:
    before the first change, after it, ..."""

    changes: Ints
    offsets: Ints

    def local(self, times: Ints) -> Ints:
        """Instants -> what a clock on the wall shows, as ms since 1970-01-01 00:00 of that clock."""
        found = times + self.offsets[np.searchsorted(self.changes, times, side="right")]
        return np.where(np.abs(times) < _FAR, found, times)

    def closed(self, watermark: Ints) -> Ints:
        """The largest local time whose timer has gone off at each watermark. A local time that comes twice, at the
        end of summer, goes off the second time."""
        place = np.searchsorted(self.changes, watermark, side="right")
        now = watermark + self.offsets[place]
        after = np.minimum(place + 1, len(self.offsets) - 1)
        change = self.changes[np.minimum(place, len(self.changes) - 1)] if len(self.changes) else watermark
        again = change + self.offsets[after]  # from here on local times come a second time
        comes_twice = (place < len(self.changes)) & (self.offsets[after] < self.offsets[place]) & (now >= again)
        return np.where(np.abs(watermark) < _FAR, np.where(comes_twice, again - 1, now), watermark)

    def instant(self, local: Ints) -> Ints:
        """Local times -> instants: the first of two, and behind the gap where there is none."""
        later = np.maximum(self.offsets[:-1], self.offsets[1:])
        found = local - self.offsets[np.searchsorted(self.changes + later, local, side="right")]
        return np.where(np.abs(local) < _FAR, found, local)


@lru_cache(maxsize=32)
def zone_named(name: str) -> Zone:
    """The zone as `zones.zone_of` names it: an IANA name, or an offset in minutes such as `+120`."""
    if name[:1] in "+-":
        return Zone(np.empty(0, dtype=np.int64), np.array([int(name) * 60_000]))
    zone = ZoneInfo(name)

    def offset(ms: int) -> int:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
        found = moment.astimezone(zone).utcoffset()
        return int(found.total_seconds() * 1000) if found is not None else 0

    changes: list[int] = []
    begin, end = (int(one.timestamp() * 1000) for one in (_FIRST, _LAST))
    offsets = [offset(begin)]
    for day in range(begin + _DAY, end, _DAY):
        now = offset(day)
        if now != offsets[-1]:
            low, high = day - _DAY, day
            while high - low > 1000:
                middle = (low + high) // 2000 * 1000
                low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
            changes.append(high)
            offsets.append(now)
    return Zone(np.array(changes, dtype=np.int64), np.array(offsets, dtype=np.int64))


class _Inner(Protocol):
    def process(self, batches: tuple[Batch, ...]) -> Batch: ...
    def snapshot(self) -> State: ...
    def restore(self, state: State) -> None: ...
    def held(self) -> int: ...
    def largest(self, count: int) -> list[tuple[str, int]]: ...


def in_local_time(node: Node) -> Node:
    """The node as the inner operator has it: its time is the column that `ZonedOperator` adds."""
    if isinstance(node, WindowAggregate) and node.zone is not None and node.window is not None:
        return replace(node, time=_LOCAL)
    return node


class ZonedOperator:
    """A window operator that is run in local time."""

    def __init__(self, inner: _Inner, node: WindowAggregate | WindowJoin | WindowRank, context: Context) -> None:
        assert node.zone is not None
        self._inner, self._context = inner, context
        self._zone = zone_named(node.zone)
        aggregate = isinstance(node, WindowAggregate)
        #: The time that is moved: an aggregate over rows that carry their window does not look at it.
        self._time = self._field(node) if isinstance(node, WindowAggregate) and node.window is not None else None
        #: The column that comes out in local time.
        self._made = node.schema[-1] if aggregate else None

    def _field(self, node: WindowAggregate) -> Field:
        return next(one for one in node.input.schema if one.name == node.time)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Run the inner operator in local time; late rows are told in instants."""
        known = len(self._context.late)
        made = self._inner.process(tuple(self._moved(batch) for batch in batches))
        for number in range(known, len(self._context.late)):
            late = self._context.late[number]
            # joins and ranks tell window_time, which is an instant; aggregates tell times of their own clock
            time = self._zone.instant(late.time) if self._made is not None else late.time
            self._context.late[number] = replace(late, time=time, watermark=self._zone.instant(late.watermark))
        track = np.minimum.reduce([batch.track for batch in batches])
        frame = made.frame
        if self._made is not None and frame.height:
            times_of = self._zone.instant(instants(frame[self._made.name]))
            frame = frame.with_columns(timestamps(times_of, self._made.type).alias(self._made.name))
        return replace(made, frame=frame, track=track)

    def _moved(self, batch: Batch) -> Batch:
        frame = batch.frame
        if self._time is not None and frame.height:
            local = self._zone.local(instants(frame[self._time.name]))
            frame = frame.with_columns(timestamps(local, self._time.type).alias(_LOCAL))
        return replace(batch, frame=frame, track=self._zone.closed(batch.track))

    def snapshot(self) -> State:
        """The inner operator's."""
        return self._inner.snapshot()

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._inner.restore(state)

    def held(self) -> int:
        """About how many bytes of state there are."""
        return self._inner.held()

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys that hold most."""
        return self._inner.largest(count)
