"""TUMBLE, HOP and CUMULATE with GROUP BY: rows into panes, panes into windows when the watermark closes them.

What can be folded lives in a `PaneStore`, what needs its rows in a `RowBuffer`; rows that are late for some of their
windows (HOP, CUMULATE) are kept one by one with the window they still count for. Sessions are in `session.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from qanat.model.types import BIGINT
from qanat.sql.embedded.combine import combine
from qanat.sql.embedded.flow import Array, Batch, Context, Ints, State, fired_at, instants
from qanat.sql.embedded.folds import COUNT_CELL, Fold, FoldSet, Inputs, fold_of, inputs_of
from qanat.sql.embedded.grouping import Grouping
from qanat.sql.embedded.groups import aggregate_groups, argument_names
from qanat.sql.embedded.keys import KeyIndex
from qanat.sql.embedded.pane_store import PaneStore
from qanat.sql.embedded.panes import Panes, expand, panes_of
from qanat.sql.embedded.row_buffer import ARRIVAL, KEY, TIME, RowBuffer, Sorted, sort_order
from qanat.sql.plan import AggregateCall, Session, WindowAggregate

#: Cells of one dense grid; windows are computed in stretches that keep below it.
_GRID = 4_000_000
_ROWS = Fold(AggregateCall("COUNT", (), BIGINT), (COUNT_CELL,))
_WINDOW = "__window"


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Windows computed together: panes [base, end), keys by rank, and which (window, key) have rows."""

    windows: Ints
    base: int
    ranks: Ints
    count: Array
    index: tuple[Ints, Ints]


class WindowAggregateOperator:
    """Runs one `WindowAggregate` over aligned windows."""

    def __init__(self, node: WindowAggregate, context: Context) -> None:
        if node.window is None or isinstance(node.window, Session):
            raise TypeError("aligned windows only")
        self._context = context
        self._name = f"{type(node.window).__name__.upper()} aggregate"
        self._grouping = Grouping(node)
        self._time = node.time
        self._panes: Panes = panes_of(node.window)
        folds = [(i, fold_of(call)) for i, call in enumerate(node.aggregates)]
        self._folds: list[tuple[int, Fold]] = [(i, fold) for i, fold in folds if fold is not None]
        self._whole = [(i, node.aggregates[i]) for i, fold in folds if fold is None]
        self._store = PaneStore(FoldSet([_ROWS, *(fold for _, fold in self._folds)]))
        self._keys = KeyIndex(self._grouping.empty_keys)
        self._arrived = 0
        self._buffered = [name for i, call in self._whole for name in _names(i, call)]
        self._buffer = RowBuffer(self._grouping.empty_arguments.select(self._buffered))
        self._extras = RowBuffer(self._grouping.empty_arguments.with_columns(pl.Series(_WINDOW, [], dtype=pl.Int64)))

    # -- rows in ------------------------------------------------------------------------------------------------------

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Fold the rows in, then emit every window that the batch closed."""
        (batch,) = batches
        if batch.frame.height:
            self._take(batch)
        closed = int(self._panes.closed(batch.track[:1])[0]), int(self._panes.closed(batch.track[-1:])[0])
        if closed[1] <= closed[0]:
            return Batch(self._grouping.empty_output, batch.seq[:0], batch.track)
        return self._fire(batch, *closed)

    def _take(self, batch: Batch) -> None:
        times = instants(batch.frame[self._time])
        panes = self._panes.of(times)
        closed = self._panes.closed(batch.before)
        last = self._panes.last_window(panes)
        first = self._panes.first_window(panes)
        late = last <= closed
        if bool(late.any()):
            covered = late & (first <= last)  # rows between windows (slide > size) belong to none and are not late
            self._context.reject(self._name, batch, covered, times, "every window of the row is closed")
            batch, times, panes = batch.select(~late), times[~late], panes[~late]
            first, last, closed = first[~late], last[~late], closed[~late]
        keys = self._keys.encode(self._grouping.keys(batch.frame))
        arguments = self._grouping.arguments(batch.frame)
        arrival = self._arrived + np.arange(len(times))
        self._arrived += len(times)
        partly = first <= closed
        if bool(partly.any()):
            self._context.counters.partly_late += int(np.count_nonzero(partly))
            rows = np.flatnonzero(partly)
            index, windows = expand(np.maximum(first, closed + 1)[rows], last[rows])
            rows = rows[index]
            extra = arguments[rows].with_columns(pl.Series(_WINDOW, windows))
            self._extras.add(extra, keys[rows], times[rows], arrival[rows])
            on_time = ~partly
            arguments = arguments.filter(pl.Series(on_time))
            keys, panes, times, arrival = keys[on_time], panes[on_time], times[on_time], arrival[on_time]
        self._store.add(panes, keys, [Inputs(None, None), *(self._inputs(f, arguments) for f in self._folds)])
        if self._whole:
            self._buffer.add(arguments.select(self._buffered), keys, times, arrival)

    def _inputs(self, numbered: tuple[int, Fold], arguments: pl.DataFrame) -> Inputs:
        names, keep = argument_names(numbered[0], numbered[1].call)
        return inputs_of(numbered[1].call, arguments[names[0]] if names else None, arguments[keep] if keep else None)

    # -- windows out --------------------------------------------------------------------------------------------------

    def _fire(self, batch: Batch, after: int, upto: int) -> Batch:
        extras = self._extras.rows()
        due = extras.filter(pl.col(_WINDOW) <= upto)
        stored = self._panes.windows_with(self._store.panes(), after, upto)
        windows = np.union1d(stored, due[_WINDOW].to_numpy()) if due.height else stored
        frames, seqs = [self._grouping.empty_output], [batch.seq[:0]]
        if len(windows):
            rank = self._keys.rank()
            last_end = int(self._panes.end(windows[-1:])[0])
            rows = self._buffer.sorted(rank, last_end) if self._whole else None
            for part in self._stretches(windows):
                frame, ends = self._windows(part, rank, rows, due)
                frames.append(frame)
                seqs.append(fired_at(batch.track, ends))
        self._forget(upto, extras if due.height else None)
        return Batch(pl.concat(frames), np.concatenate(seqs), batch.track)

    def _stretches(self, windows: Ints) -> Iterator[Ints]:
        """Cut windows where no pane is shared and the gap is wide, and so that a grid stays small."""
        panes = self._panes
        gaps = panes.first_pane(windows[1:]) - panes.end_pane(windows[:-1])
        for run in np.split(windows, np.flatnonzero(gaps > 256) + 1):
            most = max(int(_GRID // max(len(self._keys), 1) - panes.span) // panes.stride, panes.span, 1)
            if panes.anchored:
                most = max(most // panes.span, 1) * panes.span
            height = run - run[0]
            yield from np.split(run, np.flatnonzero(np.diff(height // most)) + 1)

    def _windows(self, windows: Ints, rank: Ints, rows: Sorted | None, due: pl.DataFrame) -> tuple[pl.DataFrame, Ints]:
        base = int(self._panes.first_pane(windows[:1])[0])
        begin, end = self._store.stretch(base, int(self._panes.end_pane(windows[-1:])[0]))
        extra = due.filter(pl.col(_WINDOW).is_between(int(windows[0]), int(windows[-1])))
        mine = rank[self._store.key[begin:end]]
        late = rank[extra[KEY].to_numpy()]
        used = np.zeros(len(rank), dtype=np.bool_)
        used[mine] = used[late] = True
        ranks = np.flatnonzero(used)
        place = np.empty(len(rank), dtype=np.int64)
        place[ranks] = np.arange(len(ranks))
        at = (self._store.pane[begin:end] - base, place[mine])
        height = int(self._panes.end_pane(windows[-1:])[0]) - base
        late_at = np.searchsorted(windows, extra[_WINDOW].to_numpy()) * len(ranks) + place[late]

        made: list[Array] = []
        for cell, column in zip(self._store.folds.cells, self._store.columns, strict=True):
            grid = cell.empty((height, len(ranks)))
            grid[at] = column[begin:end]
            made.append(combine(cell, grid, base, windows, self._panes))
            if len(made) == 1:
                counts = grid
        if extra.height:
            given = [Inputs(None, None), *(self._inputs(f, extra) for f in self._folds)]
            self._store.folds.add([m.reshape(-1) for m in made], late_at, given)
        window_at, key_at = np.nonzero(made[0])
        index = window_at.astype(np.int64, copy=False), key_at.astype(np.int64, copy=False)
        results = self._store.folds.results([m[index] for m in made])[1:]
        columns = {which: column for (which, _), column in zip(self._folds, results, strict=True)}
        if rows is not None:
            stretch = _Stretch(windows, base, ranks, counts, index)
            columns.update(self._whole_columns(stretch, rows, extra, late_at))
        keys = np.argsort(rank)[ranks] if len(rank) > 1 else np.zeros(len(ranks), dtype=np.int64)
        ends = self._panes.end(windows)[index[0]]
        starts = self._panes.start(windows)[index[0]]
        return self._grouping.output(self._keys.rows(keys[index[1]]), columns, starts, ends), ends

    def _whole_columns(self, part: _Stretch, rows: Sorted, extra: pl.DataFrame, late_at: Ints) -> dict[int, pl.Series]:
        """Aggregates that need their rows: each (window, key) is a range of the sorted rows, plus late rows."""
        first = self._panes.first_pane(part.windows) - part.base
        end = self._panes.end_pane(part.windows) - part.base
        upto = np.zeros((len(part.count) + 1, len(part.ranks)), dtype=np.int64)
        np.cumsum(part.count, axis=0, out=upto[1:])
        start = rows.start(part.ranks, part.base * self._panes.width + self._panes.offset)
        low = (start + upto[first])[part.index]
        high = (start + upto[end])[part.index]
        group, take = expand(low, high - 1)
        frame = rows.frame.select([*self._buffered, TIME, ARRIVAL])[take]
        if extra.height:
            number = np.empty(len(part.windows) * len(part.ranks), dtype=np.int64)
            number[part.index[0] * len(part.ranks) + part.index[1]] = np.arange(len(low))
            group = np.concatenate([group, number[late_at]])
            frame = pl.concat([frame, extra.select([*self._buffered, TIME, ARRIVAL])])
            order = sort_order(group, frame[TIME].to_numpy())
            frame, group = frame[order], group[order]
        bounds = (
            np.searchsorted(group, np.arange(len(low) + 1)) if extra.height else np.append(0, np.cumsum(high - low))
        )
        return dict(zip((i for i, _ in self._whole), aggregate_groups(frame, bounds, self._whole), strict=True))

    def _forget(self, upto: int, extras: pl.DataFrame | None) -> None:
        pane = int(self._panes.first_pane(np.array([upto + 1]))[0])
        self._store.drop_before(pane)
        if self._whole:
            self._buffer.drop_before(pane * self._panes.width + self._panes.offset)
        if extras is not None:
            state = self._extras.snapshot()
            self._extras.restore({**state, "rows": extras.filter(pl.col(_WINDOW) > upto)})
        renumber = self._keys.keep(np.concatenate([self._store.key, self._extras.keys()]))
        if renumber is not None:
            for part in (self._store, self._buffer, self._extras):
                part.renumber(renumber)

    # -- state --------------------------------------------------------------------------------------------------------

    def snapshot(self) -> State:
        """Keys, panes, kept rows, late rows."""
        parts = (self._keys, self._store, self._buffer, self._extras)
        states = zip(("keys", "panes", "rows", "extras"), (part.snapshot() for part in parts), strict=True)
        return {**dict(states), "arrived": self._arrived}

    def held(self) -> int:
        """About how many bytes of state there are."""
        return sum(part.held() for part in (self._keys, self._store, self._buffer, self._extras))

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys that hold most."""
        return self._keys.largest([part.weight() for part in (self._store, self._buffer, self._extras)], count)

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._keys.restore(state["keys"])
        self._store.restore(state["panes"])
        self._buffer.restore(state["rows"])
        self._extras.restore(state["extras"])
        self._arrived = state["arrived"]


def _names(number: int, call: AggregateCall) -> list[str]:
    names, keep = argument_names(number, call)
    return [*names, keep] if keep else names
