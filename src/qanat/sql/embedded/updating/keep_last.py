"""Deduplication that keeps the last row per key: one lookup, one sort and one gather a batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from qanat.sql.embedded.flow import (
    INSERT,
    UPDATE_AFTER,
    UPDATE_BEFORE,
    Batch,
    Context,
    Ints,
    Kinds,
    State,
    empty_frame,
    instants,
    no_rows,
)
from qanat.sql.embedded.updating.lifetimes import Lifetimes, grown
from qanat.sql.embedded.updating.row_store import RowStore
from qanat.sql.plan import Deduplicate

#: Place of the row before, for a row that is the first of its key.
_NONE = -1
_SPARE = 4096


class KeepLast:
    """The kept row of key number i is row `_place[i]` of `_rows`; its event time is `_time[i]`."""

    def __init__(self, node: Deduplicate, context: Context) -> None:
        self._names = list(node.partition)
        self._column, self._ttl = node.time, node.ttl
        self.keys = Lifetimes(empty_frame(node.schema).select(self._names), node.ttl)
        self._context = context
        self._empty = empty_frame(node.schema)
        self._rows = RowStore(self._empty)
        self._place, self._time = no_rows(), no_rows()

    def process(self, batch: Batch) -> Batch:
        """+I for new keys, -U and +U for those that change."""
        if not batch.frame.height:
            return batch
        arrivals = self._context.arrived[batch.seq]
        times = no_rows() if self._column is None else instants(batch.frame[self._column])
        keys = self.keys.encode(batch.frame)
        if len(self._place) < len(self.keys):
            self._place = grown(self._place, len(self.keys), _NONE)
            self._time = grown(self._time, len(self.keys), 0)
        parts = []
        for low, high in self.keys.stretches(keys, arrivals):
            mine = slice(low, high)
            frame, at, kinds = self._stretch(batch.frame[mine], keys[mine], times[mine], arrivals[mine])
            parts.append((frame, batch.seq[low + at], kinds))
        self._forget(int(arrivals[-1]))
        frames, seqs, kinds_ = zip(*parts, strict=True)
        return Batch(pl.concat(frames), np.concatenate(seqs), batch.track, np.concatenate(kinds_))

    def _stretch(
        self, frame: pl.DataFrame, keys: Ints, times: Ints, arrivals: Ints
    ) -> tuple[pl.DataFrame, Ints, Kinds]:
        """Output rows, the input row that made each, kinds."""
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        starts = np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])
        has = self.keys.has(sorted_keys)
        stored = starts & has  # the rows that meet the kept row of their key
        known = self._rows.rows(self._place[sorted_keys[stored]])
        if self._column is None:
            kept = self._changed(frame, known, order, starts, stored)
        else:
            kept = self._not_older(times[order], sorted_keys, starts, has)
        position = np.flatnonzero(kept)
        chosen, of = order[position], sorted_keys[position]
        fresh = np.concatenate([[True], of[1:] != of[:-1]]) if len(of) else np.zeros(0, dtype=np.bool_)
        # rows are numbered: those that were stored, then those of the batch
        before = np.empty(len(of), dtype=np.int64)
        before[1:] = known.height + chosen[:-1]
        numbers = np.cumsum(stored) - 1
        group = np.flatnonzero(starts)[np.cumsum(starts)[position] - 1]
        before[fresh] = np.where(has[group], numbers[group], _NONE)[fresh]
        self._keep(frame, chosen, of, times, arrivals)
        return _changes(pl.concat([known, frame]), known.height, chosen, before)

    def _changed(
        self,
        frame: pl.DataFrame,
        known: pl.DataFrame,
        order: Ints,
        starts: npt.NDArray[np.bool_],
        stored: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.bool_]:
        """By arrival: every row counts that differs from the one before. With a TTL all count: they keep keys alive."""
        changed = np.ones(len(order), dtype=np.bool_)
        if self._ttl is not None:
            return changed
        previous = np.empty(len(order), dtype=np.int64)
        previous[1:] = known.height + order[:-1]
        previous[stored] = np.arange(known.height)
        compared = np.flatnonzero(~starts | stored)
        theirs = pl.concat([known, frame])[previous[compared]]
        mine = frame[order[compared]]
        same = np.ones(len(compared), dtype=np.bool_)
        for one, other in zip(mine.get_columns(), theirs.get_columns(), strict=True):
            same &= one.eq_missing(other).to_numpy()
        changed[compared] = ~same
        return changed

    def _not_older(
        self, times: Ints, keys: Ints, starts: npt.NDArray[np.bool_], has: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """By time: rows (sorted by key, then arrival) at least as late as every one of their key before them."""
        base = self._time[keys]
        if bool(starts.all()):
            return ~has | (times >= base)
        distinct, ranks = np.unique(np.concatenate([times, base]), return_inverse=True)
        group = (np.cumsum(starts) - 1) * (len(distinct) + 1)
        # one number that grows with the key, then the time: a running maximum never reaches into the next key
        code = group + ranks[: len(times)] + 1
        floor = np.where(has, group + ranks[len(times) :] + 1, group)
        highest = np.maximum.accumulate(np.where(starts, np.maximum(code, floor), code))
        before = np.concatenate([[0], highest[:-1]])
        return np.asarray(code >= np.where(starts, floor, before))

    def _keep(self, frame: pl.DataFrame, chosen: Ints, of: Ints, times: Ints, arrivals: Ints) -> None:
        """The last of the chosen rows of each key is its row from now on."""
        if not len(of):
            return
        last = np.concatenate([of[1:] != of[:-1], [True]])
        rows, keys = chosen[last], of[last]
        self._place[keys] = self._rows.height + np.arange(len(rows))
        self._rows.add(frame[rows])
        if self._column is not None:
            self._time[keys] = times[rows]
        self.keys.touch(keys, arrivals[rows])

    def _forget(self, now: int) -> None:
        renumber = self.keys.sweep(now)
        if renumber is not None:
            self._renumber(renumber)
        if self._rows.height > 2 * len(self.keys) + _SPARE:
            self._compact()

    def _renumber(self, renumber: Ints) -> None:
        kept = np.flatnonzero(renumber >= 0)
        self._place, self._time = self._place[kept], self._time[kept]

    def _compact(self) -> None:
        """Leave out the rows that are no key's any more."""
        present = np.flatnonzero(self.keys.present())
        self._rows.restore({"rows": self._rows.rows(self._place[present])})
        self._place[present] = np.arange(len(present))

    def snapshot(self) -> State:
        """Keys and their rows."""
        self._renumber(self.keys.keep(self.keys.present()))
        self._compact()
        return {"keys": self.keys.snapshot(), "rows": self._rows.snapshot(), "time": self._time[: len(self.keys)]}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self.keys.restore(state["keys"])
        self._rows.restore(state["rows"])
        self._time = state["time"].copy()
        self._place = np.arange(len(self._time))

    def held(self) -> int:
        """About how many bytes."""
        return self.keys.held() + self._rows.held() + self._place.nbytes + self._time.nbytes


def _changes(rows: pl.DataFrame, known: int, chosen: Ints, before: Ints) -> tuple[pl.DataFrame, Ints, Kinds]:
    """For each chosen input row (in order of the input) what it gives: +I, or -U of the row before and +U."""
    order = np.argsort(chosen)
    chosen, before = chosen[order], before[order]
    updates = before != _NONE
    count = 1 + updates
    end = np.cumsum(count)
    take = np.empty(int(end[-1]) if len(end) else 0, dtype=np.int64)
    kinds = np.full(len(take), INSERT, dtype=np.int8)
    take[end - 1] = known + chosen
    take[end[updates] - 2] = before[updates]
    kinds[end[updates] - 1] = UPDATE_AFTER
    kinds[end[updates] - 2] = UPDATE_BEFORE
    return rows[take], np.repeat(chosen, count), kinds
