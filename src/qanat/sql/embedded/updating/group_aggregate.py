"""GROUP BY without a window, and DISTINCT: a changelog of one row per key.

Every input row gives its own change, as Flink does without mini-batches: +I for the first row of a key, then -U and +U
where the result differs, -D when the last row was retracted. A batch is computed at once: rows are laid out by key
(`layout.py`), running aggregates give the result after each row (`calls.py`), and the changes are picked from those.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.sql.changelog import changes_of
from qanat.sql.embedded.flow import (
    DELETE,
    UPDATE_BEFORE,
    Batch,
    Context,
    Ints,
    Kinds,
    State,
    empty_column,
    empty_frame,
)
from qanat.sql.embedded.kernels import to_polars
from qanat.sql.embedded.updating.calls import Calls, Made
from qanat.sql.embedded.updating.key_bits import comparable
from qanat.sql.embedded.updating.key_table import KeyTable
from qanat.sql.embedded.updating.layout import Keys, Layout, Mask, lay_out
from qanat.sql.embedded.updating.running import FirstOfEach, Rows
from qanat.sql.embedded.updating.steps import APPEARS, GONE, NOTHING, REPLACED, changes_by
from qanat.sql.expressions import Expression
from qanat.sql.plan import GroupAggregate

#: Fewer keys than this are not worth forgetting.
_SWEEP = 4096
#: About what one key holds in arrays, one distinct value in its table.
_KEY_BYTES, _PAIR_BYTES = 64, 48


class GroupAggregateOperator:
    """Runs one `GroupAggregate`."""

    def __init__(self, node: GroupAggregate, context: Context) -> None:
        self._context, self._ttl = context, node.ttl
        self._width = len(node.keys)
        self._names = [one.name for one in node.schema]
        self._empty = empty_frame(node.schema)
        self._keys_of = _Evaluation(dict(zip(self._names, node.keys, strict=False)))
        #: Whether rows may be taken back, and whether a row may change at all: told by the plan, not by the batch.
        self._retracts = changes_of(node.input).updates
        self._inserts_only = not (self._retracts or node.aggregates or node.ttl)
        self._numbers = KeyTable(comparable(empty_frame(node.schema[: self._width])))
        self._state = Keys(np.zeros(1024, dtype=np.int64), np.zeros(1024, dtype=np.int64))
        self._calls = Calls(node.aggregates, self._retracts)
        self._arguments_of = _Arguments(node)
        self._distinct = [self._first_of_each(argument) for argument in self._calls.distinct]
        self._newest = 0
        self._next_sweep = _SWEEP

    def _first_of_each(self, argument: Expression) -> FirstOfEach:
        empty = pl.DataFrame({"__key": pl.Series([], dtype=pl.Int64), "__value": empty_column(argument.type)})
        made = FirstOfEach(argument, empty, self._ttl)
        for taking in self._calls.distinct[argument]:
            made.want(taking)
        return made

    # -- a batch ------------------------------------------------------------------------------------------------------

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """The changes that the rows make, in their order."""
        (batch,) = batches
        if not batch.frame.height:
            return self._nothing(batch)
        keys = self._keys_of(batch.frame)
        numbers = self._numbers.encode(comparable(keys))
        self._grow(max(len(self._numbers), 1))
        times = self._times(batch)
        layout = lay_out(numbers, self._signs(batch), times, self._state, self._ttl)
        if not len(layout.order):
            return self._nothing(batch)
        signs = np.ones(len(layout.order), dtype=np.int64) if layout.sign is None else layout.sign
        count = layout.scan(np.add, layout.padded(self._state.rows, 0, signs))
        made = self._scan(batch, layout, numbers, times)
        self._store(layout, count, times)
        return self._changes(batch, keys, layout, count, made)

    def _nothing(self, batch: Batch) -> Batch:
        kinds = None if self._inserts_only else np.empty(0, dtype=np.int8)
        return Batch(self._empty, batch.seq[:0], batch.track, kinds)

    def _times(self, batch: Batch) -> Ints:
        arrived = self._context.arrived
        return arrived[batch.seq] if len(arrived) else np.zeros(len(batch.seq), dtype=np.int64)

    def _signs(self, batch: Batch) -> Ints | None:
        if not self._retracts or batch.kinds is None:
            return None
        back = (batch.kinds == UPDATE_BEFORE) | (batch.kinds == DELETE)
        return np.where(back, -1, 1).astype(np.int64)

    def _scan(self, batch: Batch, layout: Layout, numbers: Ints, times: Ints) -> list[Made]:
        columns = self._arguments_of(batch.frame, layout.order)
        rows = Rows(layout, columns, {})
        for one in self._distinct:
            one.mark(rows, numbers[layout.order], times[layout.order])
        return self._calls.scan(rows)

    def _grow(self, count: int) -> None:
        if count > len(self._state.rows):
            more = np.zeros(max(count - len(self._state.rows), len(self._state.rows)), dtype=np.int64)
            rows, touched = np.concatenate([self._state.rows, more]), np.concatenate([self._state.touched, more])
            self._state = Keys(rows, touched)
        for cell in self._calls.cells:
            cell.grow(count)

    def _store(self, layout: Layout, count: Ints, times: Ints) -> None:
        layout.store(self._state.rows, count)
        final = layout.starts + layout.lengths - 1
        self._state.touched[layout.numbers[layout.last]] = times[layout.order][final[layout.last]]
        self._newest = max(self._newest, int(times[-1]))
        if self._retracts:
            gone = layout.numbers[layout.last][count[layout.ends[layout.last]] == 0]
            for cell in self._calls.row_by_row():
                cell.forget(gone)
        if self._retracts or self._ttl is not None:
            self._sweep()

    # -- rows out -----------------------------------------------------------------------------------------------------

    def _changes(self, batch: Batch, keys: pl.DataFrame, layout: Layout, count: Ints, made: list[Made]) -> Batch:
        """The rows of the changelog: each is a place in the padded columns, of one input row."""
        steps = np.zeros(batch.frame.height, dtype=np.int8)
        steps[layout.order] = self._steps(layout, count, made)
        place = np.zeros(batch.frame.height, dtype=np.int64)
        place[layout.order] = layout.place
        changes = changes_by(steps)
        source = changes.source
        at = place[source] - changes.before
        columns = [column.alias(name) for column, name in zip(keys[source].get_columns(), self._names, strict=False)]
        results = zip(made, self._names[self._width :], strict=True)
        columns += [column.gather(at).alias(name) for (column, _), name in results]
        kinds = None if self._inserts_only else changes.kinds
        return Batch(pl.DataFrame(columns), batch.seq[source], batch.track, kinds)

    def _steps(self, layout: Layout, count: Ints, made: list[Made]) -> Kinds:
        """What each row (in sorted order) does."""
        changed = np.full(len(layout.order), self._ttl is not None)
        for _, differs in made:
            changed |= differs[layout.place]
        steps = np.where(changed, REPLACED, NOTHING)
        steps[layout.starts[layout.fresh]] = APPEARS
        if self._retracts:
            steps[count[layout.place] == 0] = GONE
        return steps

    # -- state --------------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Drop the state of keys that are gone or expired, once there are many: nothing depends on when."""
        count = len(self._numbers)
        entries = count + sum(len(one) for one in self._distinct)
        if entries < self._next_sweep:
            return
        live = self._state.rows[:count] > 0
        if self._ttl is not None:
            touched = self._state.touched[:count]
            live &= ~((touched > 0) & (touched + self._ttl <= self._newest))
        if self._width and (self._ttl is not None or 2 * np.count_nonzero(live) < count):
            self._forget(live)
        entries = len(self._numbers) + sum(len(one) for one in self._distinct)
        self._next_sweep = max(_SWEEP, 2 * entries)

    def _forget(self, live: Mask) -> None:
        renumber = self._numbers.keep(live)
        left = len(self._numbers)
        rows, touched = (part[: len(live)][live] for part in (self._state.rows, self._state.touched))
        self._state = Keys(rows, touched)
        for cell in self._calls.cells:
            cell.keep(renumber, left)
        for one in self._distinct:
            one.keep(renumber, self._newest)
        self._grow(left)

    def snapshot(self) -> State:
        """Keys, their counts and times, and every cell."""
        count = max(len(self._numbers), 1)
        return {
            "keys": self._numbers.snapshot(),
            "rows": self._state.rows[:count],
            "touched": self._state.touched[:count],
            "cells": [cell.snapshot(count) for cell in self._calls.cells],
            "distinct": [one.snapshot() for one in self._distinct],
            "times": [self._newest, self._next_sweep],
        }

    def restore(self, state: State) -> None:
        """Take the state of `snapshot`."""
        self._numbers.restore(state["keys"])
        self._state = Keys(np.array(state["rows"]), np.array(state["touched"]))
        for cell, mine in zip(self._calls.cells, state["cells"], strict=True):
            cell.restore(mine)
        for one, mine in zip(self._distinct, state["distinct"], strict=True):
            one.restore(mine)
        self._newest, self._next_sweep = state["times"]

    def held(self) -> int:
        """About how many bytes."""
        arrays = self._state.rows.nbytes + self._state.touched.nbytes
        parts = [*self._calls.cells, *self._distinct, self._numbers]
        return int(arrays + sum(part.held() for part in parts))

    def largest(self, count: int) -> list[tuple[str, int]]:
        """Keys by the distinct values and lists that they hold."""
        keys = len(self._numbers)
        if not keys:
            return []
        held = np.full(keys, _KEY_BYTES, dtype=np.int64)
        for one in self._distinct:
            held += _PAIR_BYTES * one.per_key(keys)[:keys]
        for cell in self._calls.row_by_row():
            held += cell.per_key(keys)
        held[self._state.rows[:keys] == 0] = 0
        top = np.argsort(-held, kind="stable")[:count]
        rows = self._numbers.rows(top).rows() if self._width else [()]
        return [(", ".join(map(str, row)), int(size)) for row, size in zip(rows, held[top], strict=True) if size]


class _Evaluation:
    """Expressions evaluated over a frame, one column each."""

    def __init__(self, named: dict[str, Expression]) -> None:
        self._expressions = [to_polars(one).alias(name) for name, one in named.items()]
        self._names = list(named)

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not self._names:
            return pl.DataFrame(height=frame.height)
        return frame.with_columns(self._expressions).select(self._names)


class _Arguments:
    """The arguments and filters of all calls, each expression once, in the order of a layout."""

    def __init__(self, node: GroupAggregate) -> None:
        wanted = [one for call in node.aggregates for one in (*call.args, call.filter) if one is not None]
        self._named = {one: f"__argument{number}" for number, one in enumerate(dict.fromkeys(wanted))}
        self._evaluation = _Evaluation({name: one for one, name in self._named.items()})

    def __call__(self, frame: pl.DataFrame, order: Ints) -> dict[Expression, pl.Series]:
        made = self._evaluation(frame)
        if len(order) < frame.height or bool((order[1:] < order[:-1]).any()):
            made = made[order]
        return {one: made[name] for one, name in self._named.items()}
