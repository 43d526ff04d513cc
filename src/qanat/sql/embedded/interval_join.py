"""Joins of two streams on equal keys within a bound of event time: INNER, LEFT, RIGHT, FULL.

A row of an outer side that found no partner comes out with NULLs when the watermark has passed the last time that a
partner could have: at once where it is late. docs/design/runtime.md has the argument for the sorted runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from qanat.clock import MIN_TIME
from qanat.errors import QanatError
from qanat.sql.embedded.flow import Batch, Context, Ints, State, empty_frame, instants, no_rows, safe
from qanat.sql.embedded.pairs import JoinKeys, Mask, Residual, largest_keys, side_by_side
from qanat.sql.embedded.panes import expand
from qanat.sql.plan import IntervalJoin

#: Bits of a sort code that hold the time; the others hold the key.
_TIME_BITS = 42
_MERGE_AT = 8
#: Keys of rows that have none: nothing equals them, but on an outer side they come out.
_NO_KEY = (-1, -2)


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of one side sorted by (key, time): the sort code, event times, arrival numbers, the rows, and whether each
    has found a partner (set in place, on an outer side)."""

    code: Ints
    time: Ints
    arrival: Ints
    key: Ints
    matched: Mask
    frame: pl.DataFrame

    def where(self, keep: Mask) -> Run:
        """The rows for which `keep` holds."""
        if bool(keep.all()):
            return self
        frame = self.frame.filter(pl.Series(keep))
        code, time, arrival, key = (column[keep] for column in (self.code, self.time, self.arrival, self.key))
        return Run(code, time, arrival, key, self.matched[keep], frame)

    def columns(self) -> tuple[Ints, Ints, Ints, Ints, Mask]:
        """All but the rows."""
        return self.code, self.time, self.arrival, self.key, self.matched


@dataclass(frozen=True, slots=True)
class _Fresh:
    """New rows of one side, and the event that each came at."""

    run: Run
    seq: Ints  # in the order of `run`


@dataclass(frozen=True, slots=True)
class _Out:
    """Output rows, the event of each, and what orders those of one event: pairs first (0), then rows without partner
    (1); two numbers."""

    frame: pl.DataFrame
    seq: Ints
    phase: int
    first: Ints
    second: Ints


class IntervalJoinOperator:
    """Runs one `IntervalJoin`. State: per side the rows that a future row may still match."""

    def __init__(self, node: IntervalJoin, context: Context) -> None:
        self._node = node
        self._context = context
        self._keys = JoinKeys(node.left_keys, node.right_keys, dense=True)
        self._times = (node.left_time, node.right_time)
        self._outer = (node.kind in ("LEFT", "FULL"), node.kind in ("RIGHT", "FULL"))
        self._runs: tuple[list[Run], list[Run]] = ([], [])
        self._arrived = [0, 0]
        self._origin: int | None = None
        self._empty = empty_frame(node.schema)
        self._residual = Residual(node.residual, node.schema)
        self._hold_back = max(-node.lower, node.upper, 0)
        # a row of side s matches rows of the other side with time in [time + low, time + high]
        self._bounds = ((-node.upper, -node.lower), (node.lower, node.upper))

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Pairs whose later row came in this batch, in order of that row; then rows that can find no partner now."""
        track = np.minimum(batches[0].track, batches[1].track)
        fresh = [self._take(side, batch, track) for side, batch in enumerate(batches)]
        outs = [self._pairs(left, right, at, track) for left, right, at in self._candidates(fresh)]
        outs += self._keep(fresh, track)
        frame, seq = self._ordered([out for out in outs if len(out.seq)])
        # before the first row the track is the least number there is: less of it would be the largest
        held_back = np.maximum(track, MIN_TIME + self._hold_back) - self._hold_back
        return Batch(frame, seq, held_back)

    def _take(self, side: int, batch: Batch, track: Ints) -> _Fresh:
        batch = Batch(batch.frame, batch.seq, track)
        times = instants(batch.frame[self._times[side]])
        if not self._outer[side]:
            low, high = self._bounds[side]
            # the other side keeps a row of time t until the watermark passes t - low (its own reach)
            late = times + high - low < batch.before
            if bool(late.any()):
                self._context.reject("interval join", batch, late, times, "all partners of the row have expired")
                batch, times = batch.select(~late), times[~late]
        numbers, present = self._keys.encode(side, batch.frame)
        if not bool(present.all()):
            if self._outer[side]:
                numbers = np.where(present, numbers, _NO_KEY[side])
            else:
                batch, times, numbers = batch.select(present), times[present], numbers[present]
        code = self._code(numbers, times)
        order = np.argsort(code, kind="stable")
        arrival = self._arrived[side] + np.arange(len(times))
        self._arrived[side] += len(times)
        alone = np.zeros(len(times), dtype=np.bool_)
        run = Run(code[order], times[order], arrival[order], numbers[order], alone, batch.frame[order])
        return _Fresh(run, batch.seq[order])

    def _code(self, keys: Ints, times: Ints) -> Ints:
        if self._origin is None and len(times):
            self._origin = int(times[0])
        if len(keys) and int(keys.max()) >= 2 ** (62 - _TIME_BITS):
            raise QanatError(
                f"interval join: more than {2 ** (62 - _TIME_BITS):,} keys at a time",
                hint="narrow the time bound of the join, or the keys",
            )
        half = 2 ** (_TIME_BITS - 1)
        code: Ints = (keys << _TIME_BITS) + np.clip(times - (self._origin or 0), -half, half - 1) + half
        return code

    def _candidates(self, fresh: list[_Fresh]) -> list[tuple[Run, Run, tuple[Ints | None, Ints | None]]]:
        left, right = fresh
        found: list[tuple[Run, Run, tuple[Ints | None, Ints | None]]] = []
        if len(left.seq):
            found += [(left.run, old, (left.seq, None)) for old in self._runs[1]]
        if len(right.seq):
            found += [(old, right.run, (None, right.seq)) for old in self._runs[0]]
        if len(left.seq) and len(right.seq):
            found.append((left.run, right.run, (left.seq, right.seq)))
        return found

    def _within(self, left: Run, right: Run) -> tuple[Ints, Ints]:
        """Places (left, right) of rows with equal keys within the bound."""
        low, high = self._bounds[0]
        if len(right.code) >= len(left.code):
            first = np.searchsorted(right.code, self._code(left.key, left.time + low))
            last = np.searchsorted(right.code, self._code(left.key, left.time + high), side="right")
            one, two = expand(first, last - 1)
        else:
            low, high = self._bounds[1]
            first = np.searchsorted(left.code, self._code(right.key, right.time + low))
            last = np.searchsorted(left.code, self._code(right.key, right.time + high), side="right")
            two, one = expand(first, last - 1)
        ahead = left.time[one] - right.time[two]
        exact = (ahead >= self._node.lower) & (ahead <= self._node.upper)  # far times are clipped in the code
        return (one, two) if bool(exact.all()) else (one[exact], two[exact])

    def _pairs(self, left: Run, right: Run, at: tuple[Ints | None, Ints | None], track: Ints) -> _Out:
        """The pairs whose earlier row was still kept when the later one came (`at`: events of new rows)."""
        one, two = self._within(left, right)
        before = np.int64(-1)
        at_left = at[0][one] if at[0] is not None else np.full(len(one), before)
        at_right = at[1][two] if at[1] is not None else np.full(len(two), before)
        seq = np.maximum(at_left, at_right)
        kept_until = np.where(at_left > at_right, right.time[two] + self._node.upper, left.time[one] - self._node.lower)
        keep = kept_until >= track[seq]
        one, two, seq = one[keep], two[keep], seq[keep]
        frame = side_by_side(left.frame[one], right.frame[two], self._node.schema)
        holds = self._residual.of(frame)
        if not bool(holds.all()):
            one, two, seq, frame = one[holds], two[holds], seq[holds], frame.filter(pl.Series(holds))
        if self._outer[0]:
            left.matched[one] = True
        if self._outer[1]:
            right.matched[two] = True
        return _Out(frame, seq, 0, left.arrival[one], right.arrival[two])

    def _keep(self, fresh: list[_Fresh], track: Ints) -> list[_Out]:
        """Keep what is still needed; of the rest, the rows of outer sides that found no partner."""
        watermark = int(track[-1])
        outs: list[_Out] = []
        for side, new in enumerate(fresh):
            runs = self._runs[side]
            # a row of side s is needed while the other side may still bring a time in its bound
            reach = self._bounds[side][1]
            if self._outer[side]:
                gone = [self._alone(side, run, no_rows(), track) for run in runs]
                outs += [*gone, self._alone(side, new.run, new.seq, track)]
            if len(new.seq):
                runs.append(new.run)
            kept = [run.where(run.time + reach >= watermark) for run in runs]
            kept = [run for run in kept if len(run.code)]
            runs[:] = [_merged(kept)] if len(kept) > _MERGE_AT else kept
        self._forget_keys()
        return outs

    def _alone(self, side: int, run: Run, seq: Ints, track: Ints) -> _Out:
        """The rows of a run that go without having found a partner; `seq`: the event of each, for new ones."""
        until = run.time + self._bounds[side][1]
        gone = np.flatnonzero((until < track[-1]) & ~run.matched)
        until = until[gone]
        event = np.searchsorted(track, until, side="right") - 1
        if len(seq):
            event = np.maximum(event, seq[gone])
        mine = run.frame[gone]
        none = (self._node.right if side == 0 else self._node.left).schema
        other = empty_frame(none).clear(len(gone))
        pair = (mine, other) if side == 0 else (other, mine)
        # of one event, left before right where they expire together
        return _Out(
            side_by_side(*pair, self._node.schema), np.maximum(event, 0), 1, safe(until) * 2 + side, run.arrival[gone]
        )

    def _ordered(self, outs: list[_Out]) -> tuple[pl.DataFrame, Ints]:
        if not outs:
            return self._empty, no_rows()
        frame = outs[0].frame if len(outs) == 1 else pl.concat([out.frame for out in outs])
        phase = np.repeat([out.phase for out in outs], [len(out.seq) for out in outs])
        columns = ([out.second for out in outs], [out.first for out in outs], [out.seq for out in outs])
        second, first, seq = (np.concatenate(parts) for parts in columns)
        order = np.lexsort((second, first, phase, seq))
        return frame[order], seq[order]

    def _forget_keys(self) -> None:
        live = np.concatenate([no_rows(), *(run.key for runs in self._runs for run in runs)])
        renumber = self._keys.keep(live[live >= 0])
        if renumber is not None:
            for runs in self._runs:
                runs[:] = [self._renumbered(run, renumber) for run in runs]

    def _renumbered(self, run: Run, numbers: Ints) -> Run:
        key = np.where(run.key < 0, run.key, numbers[run.key])  # keeps its order, so the run stays sorted
        return Run(self._code(key, run.time), run.time, run.arrival, key, run.matched, run.frame)

    def snapshot(self) -> State:
        """Keys and the kept rows of both sides."""
        runs = [[_run_state(run) for run in side] for side in self._runs]
        return {"keys": self._keys.snapshot(), "runs": runs, "arrived": self._arrived, "origin": self._origin}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._keys.restore(state["keys"])
        self._origin = state["origin"]
        self._arrived = list(state["arrived"])
        # inner joins of older snapshots did not note who was matched
        sides = [
            [Run(**{"matched": np.zeros(len(run["code"]), dtype=np.bool_), **run}) for run in side]
            for side in state["runs"]
        ]
        self._runs = (sides[0], sides[1])

    def held(self) -> int:
        """About how many bytes of state there are."""
        return self._keys.held() + sum(_size(run) for side in self._runs for run in side)

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys with most rows."""
        runs = [run.where(run.key >= 0) for side in self._runs for run in side]
        sizes = [np.full(len(run.key), _size(run) // max(len(run.key), 1)) for run in runs]
        keys = np.concatenate([no_rows(), *(run.key for run in runs)])
        return largest_keys(self._keys, keys, np.concatenate([no_rows(), *sizes]), count)


def _run_state(run: Run) -> State:
    return {
        "code": run.code,
        "time": run.time,
        "arrival": run.arrival,
        "key": run.key,
        "matched": run.matched.copy(),
        "frame": run.frame,
    }


def _size(run: Run) -> int:
    return int(run.frame.estimated_size()) + sum(int(column.nbytes) for column in run.columns())


def _merged(runs: list[Run]) -> Run:
    code, *others = (np.concatenate(parts) for parts in zip(*(run.columns() for run in runs), strict=True))
    order = np.argsort(code, kind="stable")
    time, arrival, key, matched = (column[order] for column in others)
    return Run(code[order], time, arrival, key, matched, pl.concat([run.frame for run in runs])[order])
