"""Joins of two streams: on equal keys within a bound of event time, and of two windowed inputs on the window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from qanat.errors import QanatError
from qanat.sql.embedded.flow import Batch, Context, Ints, State, empty_column, empty_frame, fired_at, instants, no_rows
from qanat.sql.embedded.kernels import to_polars
from qanat.sql.embedded.keys import KeyIndex
from qanat.sql.embedded.panes import expand
from qanat.sql.expressions import Expression
from qanat.sql.plan import IntervalJoin, Schema, WindowJoin

#: Bits of a sort code that hold the time; the others hold the key.
_TIME_BITS = 42
_MERGE_AT = 8


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of one side sorted by (key, time): the sort code, event times, arrival numbers and the rows."""

    code: Ints
    time: Ints
    arrival: Ints
    key: Ints
    frame: pl.DataFrame

    def where(self, keep: npt.NDArray[np.bool_]) -> Run:
        """The rows for which `keep` holds."""
        if bool(keep.all()):
            return self
        frame = self.frame.filter(pl.Series(keep))
        return Run(self.code[keep], self.time[keep], self.arrival[keep], self.key[keep], frame)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """New rows of one side in order of arrival, with the event and the watermark that each came at."""

    run: Run  # sorted
    seq: Ints  # in the order of `run`
    before: Ints


class IntervalJoinOperator:
    """Runs one `IntervalJoin`. State: per side the rows that a future row may still match."""

    def __init__(self, node: IntervalJoin, context: Context) -> None:
        self._node = node
        self._context = context
        self._keys = KeyIndex(_key_columns(node.left_keys))
        self._key_expressions = (_compile_keys(node.left_keys), _compile_keys(node.right_keys))
        self._times = (node.left_time, node.right_time)
        self._runs: tuple[list[Run], list[Run]] = ([], [])
        self._arrived = [0, 0]
        self._origin: int | None = None
        self._empty = empty_frame(node.schema)
        self._residual = to_polars(node.residual) if node.residual is not None else None
        self._hold_back = max(-node.lower, node.upper, 0)
        # a row of side s matches rows of the other side with time in [time + low, time + high]
        self._bounds = ((-node.upper, -node.lower), (node.lower, node.upper))

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Pairs whose later row came in this batch, in order of that row."""
        track = np.minimum(batches[0].track, batches[1].track)
        fresh = [self._take(side, batch, track) for side, batch in enumerate(batches)]
        frames, seqs = [self._empty], [no_rows()]
        orders: list[tuple[Ints, Ints]] = [(no_rows(), no_rows())]
        for left, right, left_seq, right_seq in self._candidates(fresh):
            pairs = self._pairs(left, right)
            frame, seq, order = self._valid(left, right, pairs, left_seq, right_seq, track)
            frames.append(frame)
            seqs.append(seq)
            orders.append(order)
        self._keep(fresh, int(track[-1]))
        joined, seq = pl.concat(frames), np.concatenate(seqs)
        first, second = (np.concatenate([o[i] for o in orders]) for i in (0, 1))
        by_later = np.lexsort((second, first, seq))
        result = Batch(joined[by_later], seq[by_later], track - self._hold_back if self._hold_back else track)
        if self._residual is None or not joined.height:
            return result
        keep = result.frame.select(self._residual.fill_null(value=False).alias("k"))["k"].to_numpy()
        return result.select(keep)

    def _take(self, side: int, batch: Batch, track: Ints) -> _Fresh:
        batch = Batch(batch.frame, batch.seq, track)
        times = instants(batch.frame[self._times[side]])
        low, high = self._bounds[side]
        # the other side keeps a row of time t until the watermark passes t - low (its own reach)
        late = times + high - low < batch.before
        if bool(late.any()):
            self._context.reject("interval join", batch, late, times, "all partners of the row have expired")
            batch, times = batch.select(~late), times[~late]
        keys = batch.frame.select(self._key_expressions[side])
        present = ~keys.select(pl.any_horizontal(pl.all().is_null()))[:, 0].to_numpy() if keys.height else None
        if present is not None and not bool(present.all()):
            batch, times, keys = batch.select(present), times[present], keys.filter(pl.Series(present))
        numbers = self._keys.encode(keys)
        code = self._code(numbers, times)
        order = np.argsort(code, kind="stable")
        arrival = self._arrived[side] + np.arange(len(times))
        self._arrived[side] += len(times)
        run = Run(code[order], times[order], arrival[order], numbers[order], batch.frame[order])
        return _Fresh(run, batch.seq[order], batch.before[order])

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

    def _candidates(self, fresh: list[_Fresh]) -> list[tuple[Run, Run, Ints | None, Ints | None]]:
        left, right = fresh
        found: list[tuple[Run, Run, Ints | None, Ints | None]] = []
        if len(left.seq):
            found += [(left.run, old, left.seq, None) for old in self._runs[1]]
        if len(right.seq):
            found += [(old, right.run, None, right.seq) for old in self._runs[0]]
        if len(left.seq) and len(right.seq):
            found.append((left.run, right.run, left.seq, right.seq))
        return found

    def _pairs(self, left: Run, right: Run) -> tuple[Ints, Ints]:
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

    def _valid(  # a pair needs both sides' rows, places and events
        self,
        left: Run,
        right: Run,
        pairs: tuple[Ints, Ints],
        left_seq: Ints | None,
        right_seq: Ints | None,
        track: Ints,
    ) -> tuple[pl.DataFrame, Ints, tuple[Ints, Ints]]:
        """The pairs whose earlier row was still kept when the later one came."""
        one, two = pairs
        before = np.int64(-1)
        at_left = left_seq[one] if left_seq is not None else np.full(len(one), before)
        at_right = right_seq[two] if right_seq is not None else np.full(len(two), before)
        seq = np.maximum(at_left, at_right)
        kept_until = np.where(at_left > at_right, right.time[two] + self._node.upper, left.time[one] - self._node.lower)
        keep = kept_until >= track[seq]
        one, two, seq = one[keep], two[keep], seq[keep]
        names = [field.name for field in self._node.schema]
        width = left.frame.width
        columns = [c.alias(n) for c, n in zip(left.frame[one].get_columns(), names[:width], strict=True)]
        columns += [c.alias(n) for c, n in zip(right.frame[two].get_columns(), names[width:], strict=True)]
        return pl.DataFrame(columns), seq, (left.arrival[one], right.arrival[two])

    def _keep(self, fresh: list[_Fresh], watermark: int) -> None:
        for side, new in enumerate(fresh):
            runs = self._runs[side]
            if len(new.seq):
                runs.append(new.run)
            # a row of side s is needed while the other side may still bring a time in its bound
            reach = self._bounds[side][1]
            kept = [run.where(run.time + reach >= watermark) for run in runs]
            kept = [run for run in kept if len(run.code)]
            runs[:] = [_merged(kept)] if len(kept) > _MERGE_AT else kept
        live = [run.key for runs in self._runs for run in runs]
        renumber = self._keys.keep(np.concatenate([no_rows(), *live]))
        if renumber is not None:
            for runs in self._runs:
                runs[:] = [self._renumbered(run, renumber) for run in runs]

    def _renumbered(self, run: Run, numbers: Ints) -> Run:
        key = numbers[run.key]  # keeps its order, so the run stays sorted
        return Run(self._code(key, run.time), run.time, run.arrival, key, run.frame)

    def snapshot(self) -> State:
        """Keys and the kept rows of both sides."""
        runs = [[_run_state(run) for run in side] for side in self._runs]
        return {"keys": self._keys.snapshot(), "runs": runs, "arrived": self._arrived, "origin": self._origin}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._keys.restore(state["keys"])
        self._origin = state["origin"]
        self._arrived = list(state["arrived"])
        sides = [[Run(**run) for run in side] for side in state["runs"]]
        self._runs = (sides[0], sides[1])


def _run_state(run: Run) -> State:
    return {"code": run.code, "time": run.time, "arrival": run.arrival, "key": run.key, "frame": run.frame}


def _merged(runs: list[Run]) -> Run:
    code = np.concatenate([run.code for run in runs])
    order = np.argsort(code, kind="stable")
    columns = ([run.time for run in runs], [run.arrival for run in runs], [run.key for run in runs])
    time, arrival, key = (np.concatenate(parts)[order] for parts in columns)
    return Run(code[order], time, arrival, key, pl.concat([run.frame for run in runs])[order])


def _key_columns(keys: tuple[Expression, ...]) -> pl.DataFrame:
    return pl.DataFrame({f"k{i}": empty_column(e.type) for i, e in enumerate(keys)})


def _compile_keys(keys: tuple[Expression, ...]) -> list[pl.Expr]:
    return [to_polars(e).alias(f"k{i}") for i, e in enumerate(keys)]


class WindowJoinOperator:
    """Runs one `WindowJoin`: both sides wait until their window closes."""

    def __init__(self, node: WindowJoin, context: Context) -> None:
        self._node = node
        self._context = context
        self._windows = (node.left_window, node.right_window)
        self._key_expressions = (_compile_keys(node.left_keys), _compile_keys(node.right_keys))
        self._waiting = [self._blank(node.left.schema, 0), self._blank(node.right.schema, 1)]
        self._arrived = [0, 0]
        self._residual = to_polars(node.residual) if node.residual is not None else None
        self._empty = empty_frame(node.schema)

    def _blank(self, schema: Schema, side: int) -> pl.DataFrame:
        frame = empty_frame(schema)
        return self._marked(frame, side, no_rows(), no_rows(), no_rows())

    def _marked(self, frame: pl.DataFrame, side: int, start: Ints, end: Ints, arrival: Ints) -> pl.DataFrame:
        keys = frame.with_columns(self._key_expressions[side]).select(
            [f"k{i}" for i in range(len(self._node.left_keys))]
        )
        marks = [pl.Series("__start", start), pl.Series("__end", end), pl.Series(f"__arrival{side}", arrival)]
        return frame.with_columns([c.alias(f"__{c.name}") for c in keys.get_columns()] + marks)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Rows of windows that the batch closed."""
        track = np.minimum(batches[0].track, batches[1].track)
        for side, batch in enumerate(batches):
            if batch.frame.height:
                self._take(side, Batch(batch.frame, batch.seq, track))
        watermark = int(track[-1])
        due = [frame.filter(pl.col("__end") - 1 <= watermark) for frame in self._waiting]
        if not any(frame.height for frame in due):
            return Batch(self._empty, no_rows(), track)
        self._waiting = [frame.filter(pl.col("__end") - 1 > watermark) for frame in self._waiting]
        return self._join(due[0], due[1], track)

    def _take(self, side: int, batch: Batch) -> None:
        start, end, time = (instants(batch.frame[name]) for name in self._windows[side])
        late = end - 1 <= batch.before
        self._context.reject("window join", batch, late, time, "the window of the row is closed")
        good = ~late
        arrival = self._arrived[side] + np.arange(int(good.sum()))
        self._arrived[side] += len(arrival)
        rows = self._marked(batch.select(good).frame, side, start[good], end[good], arrival)
        self._waiting[side] = pl.concat([self._waiting[side], rows])

    def _join(self, left: pl.DataFrame, right: pl.DataFrame, track: Ints) -> Batch:
        node = self._node
        width = len(node.left.schema)
        names = [field.name for field in node.schema]
        on = ["__start", "__end", *(f"__k{i}" for i in range(len(node.left_keys)))]
        theirs = dict(
            zip((f.name for f in node.right.schema), (f"__r{i}" for i in range(len(node.right.schema))), strict=True)
        )
        joined = left.join(right.rename(theirs), on=on, how="inner", nulls_equal=False)
        joined = joined.sort(["__end", *on[2:], "__arrival0", "__arrival1"])
        renamed = dict(zip((f.name for f in node.left.schema), names[:width], strict=True))
        renamed.update(zip(theirs.values(), names[width:], strict=True))
        frame = joined.select(pl.col(old).alias(new) for old, new in renamed.items())
        batch = Batch(frame, fired_at(track, joined["__end"].to_numpy()), track)
        if self._residual is None or not frame.height:
            return batch
        return batch.select(frame.select(self._residual.fill_null(value=False).alias("k"))["k"].to_numpy())

    def snapshot(self) -> State:
        """Waiting rows of both sides."""
        return {"waiting": self._waiting, "arrived": self._arrived}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._waiting, self._arrived = list(state["waiting"]), list(state["arrived"])
