"""SESSION with GROUP BY: rows that follow each other within the gap belong together.

Open sessions are intervals; each micro-batch sorts them with its new rows and joins what touches. Where a session might
have closed between two rows that touch, the component is replayed row by row; docs/design/runtime.md has the argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from qanat.sql.embedded.flow import Batch, Context, Ints, State, empty_frame, fired_at, instants, no_rows
from qanat.sql.embedded.grouping import Grouping
from qanat.sql.embedded.groups import aggregate_groups
from qanat.sql.embedded.keys import KeyIndex
from qanat.sql.embedded.row_buffer import KEY, TIME, RowBuffer, sort_order
from qanat.sql.plan import Session, WindowAggregate

_SESSION = "__session"
_LATE = -1


@dataclass(frozen=True, slots=True)
class Sessions:
    """Open sessions as columns: number, key, first and last event time (ms). The window is [first, last + gap)."""

    number: Ints
    key: Ints
    first: Ints
    last: Ints

    def where(self, keep: npt.NDArray[np.bool_]) -> Sessions:
        """Those for which `keep` holds."""
        return Sessions(self.number[keep], self.key[keep], self.first[keep], self.last[keep])

    def plus(self, other: Sessions) -> Sessions:
        """Both."""
        pairs = zip(self.columns(), other.columns(), strict=True)
        return Sessions(*(np.concatenate(pair) for pair in pairs))

    def columns(self) -> tuple[Ints, Ints, Ints, Ints]:
        """The four columns."""
        return self.number, self.key, self.first, self.last


NO_SESSIONS = Sessions(no_rows(), no_rows(), no_rows(), no_rows())


@dataclass(frozen=True, slots=True)
class Settled:
    """`rows`: the session number of each new row (-1: late). `moved`: (old numbers, new numbers) of merged sessions.
    `open` are the sessions afterwards, `closed` those that had to close between two rows of the batch."""

    rows: Ints
    moved: tuple[Ints, Ints]
    open: Sessions
    closed: Sessions
    next_number: int


def settle(old: Sessions, keys: Ints, times: Ints, before: Ints, gap: int, next_number: int) -> Settled:
    """Assign rows (in order of arrival, judged by the watermarks `before`) to sessions."""
    count = len(old.number)
    key = np.concatenate([old.key, keys])
    first = np.concatenate([old.first, times])
    last = np.concatenate([old.last, times])
    order = sort_order(key, first)
    key, first, last = key[order], first[order], last[order]
    reach, holder = _reach(key, last)
    same = key[1:] == key[:-1]
    linked = same & (first[1:] <= reach[:-1] + gap)
    component = np.concatenate([[0], np.cumsum(~linked)]) if len(key) else no_rows()
    row = order - count  # < 0: an open session
    watermark = np.where(row >= 0, before[np.maximum(row, 0)] if len(before) else 0, np.iinfo(np.int64).min)
    suspect = (row >= 0) & (first + gap - 1 <= watermark)
    one, two = holder[:-1][linked], np.flatnonzero(linked) + 1
    later_is_two = row[two] > row[one]
    earlier = np.where(later_is_two, one, two)
    later = np.where(later_is_two, two, one)
    broken = last[earlier] + gap - 1 <= watermark[later]
    suspect[two[broken]] = True
    flagged = np.zeros(int(component[-1]) + 1 if len(component) else 0, dtype=np.bool_)
    flagged[component[suspect]] = True
    clean = ~flagged[component] if len(component) else np.zeros(0, dtype=np.bool_)
    made = _Made(np.full(len(times), _LATE, dtype=np.int64), next_number)
    made.take_clean(component[clean], row[clean], key[clean], first[clean], last[clean], old)
    for number in np.flatnonzero(flagged):
        made.replay(np.flatnonzero(component == number), row, key, first, last, watermark, old, gap)
    return made.settled()


def _reach(key: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Per key the largest `last` so far, and the place where it stands."""
    if not len(key):
        return last, last
    low = int(last.min())
    span = int(last.max()) - low + 1
    if (int(key.max()) + 1) * span < 2**63:
        code = np.maximum.accumulate(key * span + (last - low))
        reach = code - key * span + low
    else:
        reach = pl.DataFrame({"k": key, "l": last}).select(pl.col("l").cum_max().over("k")).to_series().to_numpy()
    record = np.ones(len(key), dtype=np.bool_)
    record[1:] = (key[1:] != key[:-1]) | (last[1:] >= reach[:-1])
    return reach, np.maximum.accumulate(np.where(record, np.arange(len(key)), 0))


class _Made:
    """Collects what `settle` finds."""

    def __init__(self, rows: Ints, next_number: int) -> None:
        self._rows = rows
        self._next = next_number
        self._open: list[Sessions] = [NO_SESSIONS]
        self._closed: list[Sessions] = [NO_SESSIONS]
        self._from: list[Ints] = [no_rows()]
        self._to: list[Ints] = [no_rows()]

    def take_clean(self, component: Ints, row: Ints, key: Ints, first: Ints, last: Ints, old: Sessions) -> None:
        """Components that are one session each. Arrays are in sorted order."""
        if not len(component):
            return
        starts = np.flatnonzero(np.concatenate([[True], component[1:] != component[:-1]]))
        which = np.cumsum(np.concatenate([[False], component[1:] != component[:-1]]))
        is_old = row < 0
        kept = np.full(len(starts), np.iinfo(np.int64).max)
        numbers = old.number[row[is_old] + len(old.number)]
        np.minimum.at(kept, which[is_old], numbers)
        fresh = kept == np.iinfo(np.int64).max
        kept[fresh] = self._next + np.arange(int(fresh.sum()))
        self._next += int(fresh.sum())
        self._rows[row[~is_old]] = kept[which[~is_old]]
        targets = kept[which[is_old]]
        self._from.append(numbers[numbers != targets])
        self._to.append(targets[numbers != targets])
        self._open.append(Sessions(kept, key[starts], first[starts], np.maximum.reduceat(last, starts)))

    def replay(  # the arguments are the sorted columns of `settle`
        self,
        places: Ints,
        row: Ints,
        key: Ints,
        first: Ints,
        last: Ints,
        watermark: Ints,
        old: Sessions,
        gap: int,
    ) -> None:
        """One component row by row, as Flink would."""
        open_: list[list[int]] = []  # [number, first, last]
        closed: list[list[int]] = []
        for place in places[np.argsort(row[places], kind="stable")].tolist():
            if row[place] < 0:
                open_.append([int(old.number[row[place] + len(old.number)]), int(first[place]), int(last[place])])
                continue
            now, time = int(watermark[place]), int(first[place])
            closed += [s for s in open_ if s[2] + gap - 1 <= now]
            open_ = [s for s in open_ if s[2] + gap - 1 > now]
            touching = [s for s in open_ if s[1] <= time + gap and time <= s[2] + gap]
            if not touching and time + gap - 1 <= now:
                continue  # late
            if not touching:
                touching = [[self._next, time, time]]
                open_ += touching
                self._next += 1
            self._rows[row[place]] = self._merge(touching, open_, time)
        who = int(key[places[0]])
        self._open.append(_sessions(open_, who))
        self._closed.append(_sessions(closed, who))

    def _merge(self, touching: list[list[int]], open_: list[list[int]], time: int) -> int:
        target = min(touching)
        for other in touching:
            target[1], target[2] = min(target[1], other[1], time), max(target[2], other[2], time)
            if other is not target:
                open_.remove(other)
                self._from.append(np.array([other[0]]))
                self._to.append(np.array([target[0]]))
                self._rows[self._rows == other[0]] = target[0]
        return target[0]

    def settled(self) -> Settled:
        """Everything found."""
        open_, closed = NO_SESSIONS, NO_SESSIONS
        for part in self._open:
            open_ = open_.plus(part)
        for part in self._closed:
            closed = closed.plus(part)
        moved = (np.concatenate(self._from), np.concatenate(self._to))
        return Settled(self._rows, moved, open_, closed, self._next)


def _sessions(rows: list[list[int]], key: int) -> Sessions:
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return Sessions(table[:, 0], np.full(len(table), key), table[:, 1], table[:, 2])


class SessionAggregateOperator:
    """Runs one `WindowAggregate` over sessions."""

    def __init__(self, node: WindowAggregate, context: Context) -> None:
        if not isinstance(node.window, Session):
            raise TypeError("sessions only")
        self._context = context
        self._node = node
        self._gap = node.window.gap
        self._partition = list(node.window.partition)
        self._grouping = Grouping(node)
        self._keys = KeyIndex(self._grouping.empty_keys)
        fields = {f.name: f for f in node.input.schema}
        self._partitions = KeyIndex(empty_frame(tuple(fields[name] for name in self._partition)))
        self._calls = list(enumerate(node.aggregates))
        self._buffer = RowBuffer(self._grouping.empty_arguments.with_columns(pl.Series(_SESSION, [], dtype=pl.Int64)))
        self._open = NO_SESSIONS
        self._next = 0

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Assign rows to sessions, emit those that the batch closed."""
        (batch,) = batches
        closed = self._take(batch) if batch.frame.height else NO_SESSIONS
        done = self._open.last + self._gap - 1 <= batch.end
        if bool(done.any()):
            closed = closed.plus(self._open.where(done))
            self._open = self._open.where(~done)
        if not len(closed.number):
            return Batch(self._grouping.empty_output, batch.seq[:0], batch.track)
        return self._emit(batch, closed)

    def _take(self, batch: Batch) -> Sessions:
        times = instants(batch.frame[self._node.time])
        # without PARTITION BY all rows are one: a frame of no columns would have no rows
        partition = batch.frame.select(self._partition) if self._partition else pl.DataFrame(height=batch.frame.height)
        who = self._partitions.encode(partition)
        settled = settle(self._open, who, times, batch.before, self._gap, self._next)
        late = settled.rows == _LATE
        self._context.reject("SESSION aggregate", batch, late, times, "the session of the row is closed")
        self._open, self._next = settled.open, settled.next_number
        if len(settled.moved[0]):
            self._move(*settled.moved)
        good = batch.select(~late)
        arguments = self._grouping.arguments(good.frame).with_columns(pl.Series(_SESSION, settled.rows[~late]))
        self._buffer.add(arguments, self._keys.encode(self._grouping.keys(good.frame)), times[~late])
        return settled.closed

    def _move(self, old: Ints, new: Ints) -> None:
        """Rows of merged sessions get the number of the session that took them."""
        target = dict(zip(old.tolist(), new.tolist(), strict=True))
        for number in target:  # chains: a session that was merged may be merged again
            while target[number] in target:
                target[number] = target[target[number]]
        rows = self._buffer.rows()
        moved = rows.with_columns(pl.col(_SESSION).replace(target))
        self._buffer.restore({**self._buffer.snapshot(), "rows": moved})

    def _emit(self, batch: Batch, closed: Sessions) -> Batch:
        order = np.argsort(closed.number)
        numbers = closed.number[order]
        rows = self._buffer.rows()
        session = rows[_SESSION].to_numpy()
        place = np.searchsorted(numbers, session)
        done = (place < len(numbers)) & (numbers[np.minimum(place, len(numbers) - 1)] == session)
        self._buffer.restore({**self._buffer.snapshot(), "rows": rows.filter(pl.Series(~done))})
        chosen, which = rows.filter(pl.Series(done)), order[place[done]]
        frame, ends = self._rows(chosen, closed, which)
        self._forget()
        return Batch(frame, fired_at(batch.track, ends), batch.track)

    def _rows(self, chosen: pl.DataFrame, closed: Sessions, which: Ints) -> tuple[pl.DataFrame, Ints]:
        """One output row per closed session and group key, in order of window end, then key."""
        rank = self._keys.rank()
        keys = chosen[KEY].to_numpy()
        # sessions in order of their end; two that end together follow the order of their keys
        by_end = np.lexsort((closed.key, closed.last))
        nth = np.empty(len(by_end), dtype=np.int64)
        nth[by_end] = np.unique(closed.last[by_end], return_inverse=True)[1]
        group = (nth[which] * len(rank) + rank[keys]) * len(by_end) + which
        order = sort_order(np.unique(group, return_inverse=True)[1].astype(np.int64), chosen[TIME].to_numpy())
        chosen, group = chosen[order], group[order]
        starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
        columns = aggregate_groups(chosen, np.append(starts, len(group)), self._calls)
        session = which[order][starts]
        first, ends = closed.first[session], closed.last[session] + self._gap
        output = self._grouping.output(self._keys.rows(keys[order][starts]), dict(enumerate(columns)), first, ends)
        return output, ends

    def _forget(self) -> None:
        renumber = self._keys.keep(self._buffer.keys())
        if renumber is not None:
            self._buffer.renumber(renumber)
        renumber = self._partitions.keep(self._open.key)
        if renumber is not None:
            number, key, first, last = self._open.columns()
            self._open = Sessions(number, renumber[key], first, last)

    def snapshot(self) -> State:
        """Keys, open sessions and their rows."""
        return {
            "keys": self._keys.snapshot(),
            "partitions": self._partitions.snapshot(),
            "rows": self._buffer.snapshot(),
            "open": list(self._open.columns()),
            "next": self._next,
        }

    def held(self) -> int:
        """About how many bytes of state there are."""
        sessions = sum(int(column.nbytes) for column in self._open.columns())
        return self._keys.held() + self._partitions.held() + self._buffer.held() + sessions

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys that hold most."""
        return self._keys.largest([self._buffer.weight()], count)

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._keys.restore(state["keys"])
        self._partitions.restore(state["partitions"])
        self._buffer.restore(state["rows"])
        self._open = Sessions(*state["open"])
        self._next = state["next"]
