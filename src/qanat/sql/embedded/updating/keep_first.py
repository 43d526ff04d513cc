"""Deduplication that keeps the first row per key. Insert-only output."""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Batch, Context, Ints, State, empty_frame, instants, no_rows
from qanat.sql.embedded.timers import fires as firing
from qanat.sql.embedded.updating.lifetimes import Lifetimes
from qanat.sql.plan import Deduplicate

_KEY, _TIME = "__key", "__time"


class FirstByArrival:
    """The row that brings the key. Remembers keys, not rows."""

    def __init__(self, node: Deduplicate, context: Context) -> None:
        self.keys = Lifetimes(empty_frame(node.schema).select(node.partition), node.ttl)
        self._context = context

    def process(self, batch: Batch) -> Batch:
        """The rows whose key is new, or was forgotten."""
        arrivals = self._context.arrived[batch.seq]
        keys = self.keys.encode(batch.frame)
        keep = np.zeros(len(keys), dtype=np.bool_)
        for low, high in self.keys.stretches(keys, arrivals):
            first = low + np.unique(keys[low:high], return_index=True)[1]
            first = first[~self.keys.has(keys[first])]
            keep[first] = True
            self.keys.touch(keys[first], arrivals[first])
        if len(keys):
            self.keys.sweep(int(arrivals[-1]))
        return batch.select(keep) if len(keys) else batch

    def snapshot(self) -> State:
        """The keys."""
        return self.keys.snapshot()

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self.keys.restore(state)

    def held(self) -> int:
        """About how many bytes."""
        return self.keys.held()


class FirstByTime:
    """The earliest row per key, emitted when the watermark reaches its time; of equal times the first to arrive.

    A row waits in `_waiting` (the best so far of its key). A row whose time the watermark has just reached when it
    arrives waits for the watermark's next step, as a timer of Flink does. A key that has been emitted has state.
    """

    def __init__(self, node: Deduplicate, context: Context) -> None:
        if node.time is None:
            raise TypeError("a time attribute is needed")
        self._time, self._ttl = node.time, node.ttl
        self.keys = Lifetimes(empty_frame(node.schema).select(node.partition), node.ttl)
        self._context = context
        marks = [pl.Series(name, [], dtype=pl.Int64) for name in (_KEY, _TIME)]
        self._empty = empty_frame(node.schema)
        self._waiting = self._empty.with_columns(marks)

    def process(self, batch: Batch) -> Batch:
        """The first rows of the keys that the watermark has settled."""
        if not batch.frame.height and batch.track[0] == batch.track[-1]:
            return Batch(self._empty, no_rows(), batch.track)
        times = instants(batch.frame[self._time])
        late = times < batch.before
        self._context.reject("deduplication", batch, late, times, "the watermark has passed the row")
        batch, times = batch.select(~late), times[~late]
        marks = [pl.Series(_KEY, self.keys.encode(batch.frame)), pl.Series(_TIME, times)]
        rows = batch.frame.with_columns(marks)
        frames, seqs = [self._empty], [no_rows()]
        for low, high in self._pieces(len(batch.track) - 1):
            mine = slice(*np.searchsorted(batch.seq, [low, high]))
            frame, seq = self._piece(rows[mine], batch.seq[mine], batch.track, low, high)
            frames.append(frame)
            seqs.append(seq)
        self._sweep()
        return Batch(pl.concat(frames), np.concatenate(seqs), batch.track)

    def _pieces(self, events: int) -> list[tuple[int, int]]:
        """Without TTL all events at once; with it those of one arrival time, so that no key is forgotten in between."""
        arrived = self._context.arrived
        if self._ttl is None or not events:
            return [(0, events)]
        cuts = np.flatnonzero(arrived[1:] != arrived[:-1]) + 1
        return list(zip([0, *cuts.tolist()], [*cuts.tolist(), events], strict=True))

    def _piece(self, rows: pl.DataFrame, seq: Ints, track: Ints, low: int, high: int) -> tuple[pl.DataFrame, Ints]:
        """Events [low, high): take the rows, emit what is settled."""
        old = self._waiting.height
        rows = pl.concat([self._waiting, rows]) if old else rows
        seq = np.concatenate([np.full(old, low), seq])
        keys, times = rows[_KEY].to_numpy(), rows[_TIME].to_numpy()
        arrivals = self._context.arrived[seq] if self._ttl is not None else np.zeros(len(seq), dtype=np.int64)
        for _ in self.keys.stretches(keys, arrivals):
            continue  # one arrival time is one stretch; this makes expired keys absent
        fires = firing(times, seq, track, high)
        live = np.flatnonzero(~self.keys.has(keys))
        live = np.sort(live[_settled(keys[live], times[live], seq[live], fires[live])])
        due = fires[live] < high
        out = live[due]
        order = np.lexsort((out, times[out], fires[out]))
        out = out[order]
        self._waiting = rows[live[~due]]
        at = fires[out]
        self.keys.touch(keys[out], self._context.arrived[at] if len(at) else at)
        return rows[out].drop(_KEY, _TIME), at

    def _sweep(self) -> None:
        """Keys that wait must stay: they are touched by nobody yet."""
        if self._ttl is None or not len(self._context.arrived):
            return
        before = self._waiting[_KEY].to_numpy()
        renumber = self.keys.sweep(int(self._context.arrived[-1]), before)
        if renumber is not None:
            self._waiting = self._waiting.with_columns(pl.Series(_KEY, renumber[before]))

    def snapshot(self) -> State:
        """Keys and waiting rows."""
        return {"keys": self.keys.snapshot(), "waiting": self._waiting}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self.keys.restore(state["keys"])
        self._waiting = state["waiting"]

    def held(self) -> int:
        """About how many bytes."""
        return self.keys.held() + int(self._waiting.estimated_size())


def _settled(keys: Ints, times: Ints, seq: Ints, fires: Ints) -> Ints:
    """Per key the place of the earliest row among those that came until the first of them was settled."""
    if not len(keys):
        return no_rows()
    order = np.lexsort((np.arange(len(keys)), keys))
    sorted_keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]))
    first = np.minimum.reduceat(fires[order], starts)
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(keys))))
    came = order[seq[order] <= first[group]]
    best = came[np.lexsort((came, times[came], keys[came]))]
    chosen = keys[best]
    return np.asarray(best[np.concatenate([[True], chosen[1:] != chosen[:-1]])])
