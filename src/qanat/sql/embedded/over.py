"""Over: aggregates over the rows before each row, in order of time (then arrival) or of arrival.

    late?   UNBOUNDED: time <= watermark. Bounded frames: time <= the last row emitted for its key, so that a row behind
            the watermark may still be taken (`over_clock`)
    wait    until the watermark reaches the row, or, where it had done so before, until it moves on
    emit    rows that are due, in one piece, with the columns of `over_columns` on `over_frames`

State of a RANGE frame is cleared when the watermark is half a frame beyond its use, as Flink does; then the key is as
new: it has another *life*.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.errors import SqlError
from qanat.sql.embedded.flow import Batch, Context, Ints, State, empty_column, empty_frame, instants, no_rows
from qanat.sql.embedded.groups import argument_names
from qanat.sql.embedded.kernels import to_polars
from qanat.sql.embedded.over_clock import OverClock
from qanat.sql.embedded.over_columns import Piece, by_row, cast, column_of
from qanat.sql.embedded.over_frames import Mask, lay_out
from qanat.sql.embedded.over_objects import FrameByFrame
from qanat.sql.embedded.timers import NEVER, fires
from qanat.sql.embedded.updating.key_table import KeyTable
from qanat.sql.embedded.updating.lifetimes import describe
from qanat.sql.expressions import Expression
from qanat.sql.plan import Over

_KEY, _TIME, _LIFE = "__key", "__time", "__life"
_MARKS = (_KEY, _TIME, _LIFE)
_MANY = 16_384


class OverOperator:
    """Runs one `Over`. `_waiting`: rows that are not due, in order of arrival. `_history`: arguments of rows that later
    frames reach, in order of key, time, arrival."""

    def __init__(self, node: Over, context: Context) -> None:
        if node.time is None and not node.rows and node.preceding is not None:
            hint = "ORDER BY a column with a WATERMARK, or ROWS BETWEEN 5 PRECEDING AND CURRENT ROW"
            raise SqlError("RANGE with an interval needs a time attribute", hint=hint)
        self._node, self._context = node, context
        self._by_rows = node.rows or node.time is None
        self._names = list(node.partition)
        self._table = KeyTable(empty_frame(node.input.schema).select(self._names))
        self._clock = OverClock(node)
        marks = [pl.Series(name, [], dtype=pl.Int64) for name in _MARKS]
        self._waiting = empty_frame(node.input.schema).with_columns(marks)
        arguments = _arguments(node)
        self._arguments = [to_polars(one).alias(name) for name, one in arguments.items()]
        blank = pl.DataFrame({name: empty_column(one.type) for name, one in arguments.items()})
        self._history = blank.with_columns(marks)
        self._columns = [column_of(number, call, FrameByFrame) for number, call in enumerate(node.calls)]
        self._life = no_rows()  # per key: the life that the state of the columns belongs to
        self._empty = empty_frame(node.schema)
        self._check_at = _MANY

    # -- rows in ------------------------------------------------------------------------------------------------------

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """The rows that the watermark has reached, with their aggregates."""
        (batch,) = batches
        if not batch.frame.height and batch.track[0] == batch.track[-1]:
            return Batch(self._empty, no_rows(), batch.track)
        times, keys = self._read(batch.frame)
        self._grow()
        waiting = self._waiting[_KEY].to_numpy(), self._waiting[_TIME].to_numpy()
        late, lives = self._clock.judge(keys, times, batch, *waiting)
        self._context.reject("OVER", batch, late, times, self._clock.reason)
        good = ~late
        marks = [pl.Series(_KEY, keys[good]), pl.Series(_TIME, times[good]), pl.Series(_LIFE, lives[good])]
        rows = batch.select(good).frame.with_columns(marks)
        frame, seq = self._due(rows, batch.seq[good], batch.track)
        self._forget(batch.end)
        return Batch(frame, seq, batch.track)

    def _read(self, frame: pl.DataFrame) -> tuple[Ints, Ints]:
        times = np.zeros(frame.height, dtype=np.int64) if self._node.time is None else instants(frame[self._node.time])
        keys = frame.select(self._names) if self._names else pl.DataFrame(height=frame.height)
        return times, self._table.encode(keys)

    def _grow(self) -> None:
        count = len(self._table)
        self._clock.grow(count)
        if len(self._life) < count:
            self._life = np.concatenate([self._life, np.zeros(max(count, 64), dtype=np.int64)])
        for one in self._columns:
            one.grow(count)

    def _due(self, rows: pl.DataFrame, seq: Ints, track: Ints) -> tuple[pl.DataFrame, Ints]:
        """Take the rows, emit those that the watermark has reached."""
        seq = np.concatenate([np.zeros(self._waiting.height, dtype=np.int64), seq])
        rows = pl.concat([self._waiting, rows]) if self._waiting.height else rows
        times = rows[_TIME].to_numpy()
        at = seq if self._node.time is None else fires(times, seq, track, len(track) - 1)
        due = at != NEVER
        self._waiting = rows.filter(pl.Series(~due))
        if not due.any():
            return self._empty, no_rows()
        rows, at, times = rows.filter(pl.Series(due)), at[due], times[due]
        order = np.lexsort((times, rows[_LIFE].to_numpy(), rows[_KEY].to_numpy()))
        made = self._aggregated(rows[order])
        self._clock.emitted(rows[_KEY].to_numpy(), times, rows[_LIFE].to_numpy())
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        out = np.lexsort((times, at))
        return made[back[out]], at[out]

    # -- aggregates ---------------------------------------------------------------------------------------------------

    def _aggregated(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows (in order of key, life, time) with the columns of all calls."""
        arguments = rows.with_columns(self._arguments).select([*_names_of(self._arguments), *_MARKS])
        piece, key, order = self._laid_out(arguments)
        found = by_row(self._columns, piece)
        self._keep_history(piece, order, key)
        fields = self._node.schema[len(self._node.input.schema) :]
        made = [cast(one, field.type).alias(field.name) for one, field in zip(found, fields, strict=True)]
        return rows.select(field.name for field in self._node.input.schema).with_columns(made)

    def _laid_out(self, arguments: pl.DataFrame) -> tuple[Piece, Ints, pl.DataFrame]:
        """History and new rows, sorted, and the frames on them."""
        key, life = arguments[_KEY].to_numpy(), arguments[_LIFE].to_numpy()
        rows, new = arguments, np.ones(len(key), dtype=np.bool_)
        if self._history.height:
            touched = np.zeros(len(self._table), dtype=np.bool_)
            touched[key] = True
            mine = touched[self._history[_KEY].to_numpy()]
            old = self._history.filter(pl.Series(mine))
            self._history = self._history.filter(pl.Series(~mine))
            old = old.filter(pl.Series(self._lives_on(old, key, life)))
            rows = pl.concat([old, arguments])
            new = np.concatenate([np.zeros(old.height, dtype=np.bool_), new])
            order = np.lexsort((rows[_LIFE].to_numpy(), rows[_KEY].to_numpy()))
            rows, new = rows[order], new[order]
            key, life = rows[_KEY].to_numpy(), rows[_LIFE].to_numpy()
        opens = np.concatenate([[True], (key[1:] != key[:-1]) | (life[1:] != life[:-1])])
        segment, owner = np.cumsum(opens) - 1, key[opens]
        fresh = life[opens] != self._life[owner]
        self._life[key] = life  # of several lives the last
        frames = lay_out(
            segment, rows[_TIME].to_numpy(), new, owner, fresh, by_rows=self._by_rows, preceding=self._node.preceding
        )
        return Piece(frames, rows), key, rows

    def _lives_on(self, old: pl.DataFrame, key: Ints, life: Ints) -> Mask:
        """Which rows of the history belong to the life of the first new row of their key."""
        first = np.concatenate([[True], key[1:] != key[:-1]])
        now = np.zeros(len(self._table), dtype=np.int64)
        now[key[first]] = life[first]
        return np.asarray(old[_LIFE].to_numpy() == now[old[_KEY].to_numpy()])

    def _keep_history(self, piece: Piece, rows: pl.DataFrame, key: Ints) -> None:
        """What later frames of these keys reach."""
        frames = piece.frames
        keep = np.zeros(len(key), dtype=np.bool_)
        if frames.bounded:
            lows = np.zeros(len(frames.start), dtype=np.int64)
            lows[frames.segment] = frames.low  # of several steps the last
            keep |= np.arange(len(key)) >= np.repeat(lows, frames.end - frames.start + 1)
        for one in self._columns:
            needed = one.needed(piece)
            if needed is not None:
                keep |= needed
        keep &= np.repeat(frames.last, frames.end - frames.start + 1)
        if keep.any():
            self._history = pl.concat([self._history, rows.filter(pl.Series(keep))])

    # -- state --------------------------------------------------------------------------------------------------------

    def _forget(self, watermark: int) -> None:
        """Keys whose state is cleared are as new: forget them, once there may be many."""
        if len(self._table) < self._check_at:
            return
        used = self._clock.used(watermark)[: len(self._table)]
        used[self._waiting[_KEY].to_numpy()] = True
        if not used.all():
            self._drop(used)
        self._check_at = max(2 * len(self._table), _MANY)

    def _drop(self, used: Mask) -> None:
        renumber = self._table.keep(used)
        self._history = self._history.filter(pl.Series(used[self._history[_KEY].to_numpy()]))
        for name in ("_waiting", "_history"):
            frame: pl.DataFrame = getattr(self, name)
            setattr(self, name, frame.with_columns(pl.Series(_KEY, renumber[frame[_KEY].to_numpy()])))
        self._clock.keep(used)
        self._life = self._life[: len(used)][used]
        for one in self._columns:
            one.keep(used)

    def snapshot(self) -> State:
        """Keys, waiting rows, history, and what the columns hold."""
        count = len(self._table)
        return {
            "keys": self._table.snapshot(),
            "clock": self._clock.snapshot(count),
            "waiting": self._waiting,
            "history": self._history,
            "life": self._life[:count],
            "columns": [one.snapshot(count) for one in self._columns],
        }

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._table.restore(state["keys"])
        self._clock.restore(state["clock"])
        self._waiting, self._history = state["waiting"], state["history"]
        self._life = state["life"].copy()
        for one, its in zip(self._columns, state["columns"], strict=True):
            one.restore(its)
        self._grow()

    def held(self) -> int:
        """About how many bytes."""
        rows = int(self._waiting.estimated_size()) + int(self._history.estimated_size())
        columns = sum(int(one.held()) for one in self._columns)
        return rows + self._table.held() + columns

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys with the most rows."""
        sizes = np.ones(len(self._table), dtype=np.int64)
        for frame in (self._waiting, self._history):
            np.add.at(sizes, frame[_KEY].to_numpy(), 1)
        most = np.argsort(-sizes, kind="stable")[:count]
        rows = self._table.rows(most).rows() if self._names else [("(all rows)",)] * len(most)
        each = self.held() / max(int(sizes.sum()), 1)
        return [(describe(row), int(each * size)) for row, size in zip(rows, sizes[most].tolist(), strict=True)]


def _arguments(node: Over) -> dict[str, Expression]:
    named: dict[str, Expression] = {}
    for number, call in enumerate(node.calls):
        names, keep = argument_names(number, call)
        named.update(zip(names, call.args, strict=True))
        if keep is not None and call.filter is not None:
            named[keep] = call.filter
    return named


def _names_of(expressions: list[pl.Expr]) -> list[str]:
    return [one.meta.output_name() for one in expressions]
