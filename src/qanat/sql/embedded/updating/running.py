"""Running aggregates of a whole batch: for every row the aggregate after it, from the state before the batch.

A *cell* is one column of accumulators, by key number. Cells know nothing of SQL; `calls.py` makes the aggregates from
them. Several aggregates share a cell (the count under AVG and SUM of one column).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Array, Ints, State
from qanat.sql.embedded.updating.key_bits import comparable
from qanat.sql.embedded.updating.key_table import KeyTable
from qanat.sql.embedded.updating.layout import Layout, Mask
from qanat.sql.expressions import Expression


@dataclass(frozen=True, slots=True)
class Taking:
    """Which rows take part: those with a value in `argument` (None: all), where `filter` is TRUE, and, where
    `distinct`, only the first of each value."""

    argument: Expression | None
    filter: Expression | None = None
    distinct: bool = False


@dataclass(slots=True)
class Rows:
    """A batch in the order of its layout: arguments by expression, and masks of the rows that take part."""

    layout: Layout
    columns: dict[Expression, pl.Series]
    distinct: dict[Taking, Mask]
    _values: dict[Expression, Array] = field(default_factory=dict)
    _masks: dict[Taking, Mask | None] = field(default_factory=dict)

    def values(self, argument: Expression) -> Array:
        """Physical values, 0 for NULL."""
        if argument not in self._values:
            physical = self.columns[argument].to_physical()
            filled = physical.fill_null(0) if physical.null_count() else physical
            self._values[argument] = filled.to_numpy()
        return self._values[argument]

    def mask(self, taking: Taking) -> Mask | None:
        """The rows that take part; None: all."""
        if taking not in self._masks:
            self._masks[taking] = self._mask(taking)
        return self._masks[taking]

    def _mask(self, taking: Taking) -> Mask | None:
        if taking.distinct:
            return self.distinct[taking]
        mask: Mask | None = None
        if taking.filter is not None:
            mask = self.columns[taking.filter].fill_null(value=False).to_numpy()
        if taking.argument is not None and self.columns[taking.argument].null_count():
            present = self.columns[taking.argument].is_not_null().to_numpy()
            mask = present if mask is None else mask & present
        return mask


class Cell(Protocol):
    """A column of accumulators, one per key number."""

    def grow(self, count: int) -> None:
        """Make room for key numbers below `count`."""
        ...

    def scan(self, rows: Rows) -> Array:
        """Padded accumulators of the batch; the state moves behind it."""
        ...

    def keep(self, renumber: Ints, count: int) -> None:
        """Keys have new numbers (-1: forgotten); `count` are left."""
        ...

    def snapshot(self, count: int) -> State:
        """The state of the keys below `count`."""
        ...

    def restore(self, state: State) -> None:
        """Take the state of `snapshot`."""
        ...

    def held(self) -> int:
        """Bytes."""
        ...


class _ArrayCell:
    """A cell whose state is one array."""

    def __init__(self, dtype: str, neutral: float | int) -> None:
        self._neutral = neutral
        self._state: Array = np.full(1024, neutral, dtype=dtype)

    def grow(self, count: int) -> None:
        """By doubling."""
        if count > len(self._state):
            more = np.full(max(len(self._state), count - len(self._state)), self._neutral, dtype=self._state.dtype)
            self._state = np.concatenate([self._state, more])

    def keep(self, renumber: Ints, count: int) -> None:
        """Move what is left."""
        kept = self._state[: len(renumber)][renumber >= 0]
        self._state = np.full(max(1024, count), self._neutral, dtype=self._state.dtype)
        self._state[:count] = kept

    def snapshot(self, count: int) -> State:
        """The array."""
        return {"state": self._state[:count]}

    def restore(self, state: State) -> None:
        """The array."""
        self._state = np.array(state["state"])

    def held(self) -> int:
        """Bytes."""
        return int(self._state.nbytes)


class Tally(_ArrayCell):
    """How many rows take part."""

    def __init__(self, taking: Taking) -> None:
        super().__init__("int64", 0)
        self._taking = taking

    def scan(self, rows: Rows) -> Array:
        """Running counts."""
        mask, sign = rows.mask(self._taking), rows.layout.sign
        steps = np.ones(len(rows.layout.order), dtype=np.int64) if sign is None else sign
        return _scanned(self, rows, np.add, steps if mask is None else np.where(mask, steps, 0))


class Total(_ArrayCell):
    """The sum of whole numbers (wraps at 64 bits) or floats, added strictly in row order. `neutral`: what an empty sum
    begins with; -0.0 leaves every float as it is."""

    def __init__(self, taking: Taking, argument: Expression, dtype: str, neutral: float | int) -> None:
        super().__init__(dtype, neutral)
        self._taking, self._argument = taking, argument

    def scan(self, rows: Rows) -> Array:
        """Running sums."""
        values = rows.values(self._argument).astype(self._state.dtype, copy=False)
        if rows.layout.sign is not None:
            values = values * rows.layout.sign.astype(values.dtype)
        mask = rows.mask(self._taking)
        if mask is not None:
            values = np.where(mask, values, np.asarray(-0.0 if values.dtype.kind == "f" else 0, dtype=values.dtype))
        with np.errstate(all="ignore"):
            return _scanned(self, rows, np.add, values)


class Least(_ArrayCell):
    """The smallest or the greatest of whole numbers, dates and times."""

    def __init__(self, taking: Taking, argument: Expression, greatest: bool) -> None:
        super().__init__("int64", np.iinfo(np.int64).min if greatest else np.iinfo(np.int64).max)
        self._taking, self._argument = taking, argument
        self._operation = np.maximum if greatest else np.minimum

    def scan(self, rows: Rows) -> Array:
        """Running extremes."""
        values = rows.values(self._argument).astype(np.int64, copy=False)
        mask = rows.mask(self._taking)
        return _scanned(self, rows, self._operation, values if mask is None else np.where(mask, values, self._neutral))


class LeastReal(_ArrayCell):
    """MIN and MAX of floats as Flink has them: NaN counts only as the first value, which then stays; of 0.0 and -0.0
    the earlier one stays. `empty`: the count cell tells an empty state from an infinity."""

    def __init__(self, taking: Taking, argument: Expression, greatest: bool) -> None:
        super().__init__("float64", -np.inf if greatest else np.inf)
        self._taking, self._argument, self._greatest = taking, argument, greatest
        self._begun = Tally(taking)

    def grow(self, count: int) -> None:
        """Both arrays."""
        super().grow(count)
        self._begun.grow(count)

    def keep(self, renumber: Ints, count: int) -> None:
        """Both arrays."""
        super().keep(renumber, count)
        self._begun.keep(renumber, count)

    def scan(self, rows: Rows) -> Array:
        """Running extremes."""
        layout, operation = rows.layout, np.maximum if self._greatest else np.minimum
        values = rows.values(self._argument).astype(np.float64, copy=False)
        mask = rows.mask(self._taking)
        if mask is not None:
            values = np.where(mask, values, self._neutral)
        seen = self._begun.scan(rows)
        begins = (seen[layout.place] == 1) & (seen[layout.place - 1] == 0)
        values = np.where(np.isnan(values) & ~begins, self._neutral, values)
        given = layout.padded(self._state, self._neutral, values)
        whole = layout.scan(operation, given.copy())
        if bool((whole == 0).any()):
            whole = _earliest(layout, given, whole)
        layout.store(self._state, whole)
        return whole

    def snapshot(self, count: int) -> State:
        """Both arrays."""
        return {"state": self._state[:count], "begun": self._begun.snapshot(count)}

    def restore(self, state: State) -> None:
        """Both arrays."""
        super().restore(state)
        self._begun.restore(state["begun"])


def _earliest(layout: Layout, given: Array, whole: Array) -> Array:
    """Extremes with the bits of the earliest of equal values."""
    changed = np.ones(len(whole), dtype=np.bool_)
    before = whole[layout.place - 1]
    changed[layout.place] = (whole[layout.place] != before) & ~np.isnan(before)
    at = np.maximum.accumulate(np.where(changed, np.arange(len(whole)), 0))
    return np.asarray(given[at])


def _scanned(cell: _ArrayCell, rows: Rows, operation: np.ufunc, values: Array) -> Array:
    layout = rows.layout
    whole = layout.scan(operation, layout.padded(cell._state, cell._neutral, values))
    layout.store(cell._state, whole)
    return whole


class Objects:
    """Values of any type by key number, as Python objects."""

    def __init__(self, dtype: pl.DataType) -> None:
        self._dtype = dtype
        self._values: Array = np.full(1024, None, dtype=object)

    def grow(self, count: int) -> None:
        """By doubling."""
        if count > len(self._values):
            more = np.full(max(len(self._values), count - len(self._values)), None, dtype=object)
            self._values = np.concatenate([self._values, more])

    def padded(self, layout: Layout, column: pl.Series) -> pl.Series:
        """Heads from the state (NULL in a new life), rows behind them."""
        stored = zip(layout.fresh.tolist(), self._values[layout.numbers].tolist(), strict=True)
        heads = [None if fresh else value for fresh, value in stored]
        whole = pl.concat([column, pl.Series(column.name, heads, dtype=self._dtype)])
        index = np.empty(layout.size, dtype=np.int64)
        index[layout.place] = np.arange(len(column))
        index[layout.heads] = len(column) + np.arange(len(heads))
        return whole.gather(index)

    def store(self, layout: Layout, whole: pl.Series) -> None:
        """The values behind the last rows of the keys become the state."""
        values = whole.gather(layout.ends[layout.last]).to_list()
        held = np.empty(len(values), dtype=object)
        held[:] = values
        self._values[layout.numbers[layout.last]] = held

    def keep(self, renumber: Ints, count: int) -> None:
        """Move what is left."""
        kept = self._values[: len(renumber)][renumber >= 0]
        self._values = np.full(max(1024, count), None, dtype=object)
        self._values[:count] = kept

    def snapshot(self, count: int) -> State:
        """As a column."""
        return {"values": pl.DataFrame({"v": pl.Series("v", self._values[:count].tolist(), dtype=self._dtype)})}

    def restore(self, state: State) -> None:
        """From a column."""
        values = state["values"]["v"].to_list()
        self._values = np.empty(len(values), dtype=object)
        self._values[:] = values

    def held(self) -> int:
        """A guess."""
        return 80 * len(self._values)


class Place(Objects):
    """The row whose value counts, of any type: the first or the last with a value, or the least or greatest. `scan`
    gives a column instead of an array."""

    def __init__(self, taking: Taking, argument: Expression, dtype: pl.DataType, which: str) -> None:
        super().__init__(dtype)
        self._taking, self._argument, self._which = taking, argument, which

    def scan(self, rows: Rows) -> Any:
        """Running values."""
        layout, column = rows.layout, rows.columns[self._argument].cast(self._dtype)
        mask = rows.mask(self._taking)
        if mask is not None:
            column = pl.select(pl.when(pl.Series(mask)).then(column)).to_series()
        whole = self.padded(layout, column)
        present = whole.is_not_null().to_numpy()
        at = np.arange(len(whole))
        match self._which:
            case "LAST_VALUE":
                found = layout.scan(np.maximum, np.where(present, at, -1))
            case "FIRST_VALUE":
                # numbers that fall along the batch, so that the first is the greatest
                found = layout.scan(np.maximum, np.where(present, len(at) - at, -1))
                found = np.where(found >= 0, len(at) - found, -1)
            case which:
                found = _by_rank(layout, whole, present, which == "MAX")
        filled = whole.gather(np.where(found < 0, at, found))
        self.store(layout, filled)
        return filled


def _by_rank(layout: Layout, whole: pl.Series, present: Mask, greatest: bool) -> Ints:
    ranks = whole.rank("dense", descending=not greatest).fill_null(0).to_numpy().astype(np.int64)
    best = layout.scan(np.maximum, ranks.copy())  # a scan works in place, and the ranks are needed below
    example = np.full(int(best.max(initial=0)) + 1, -1, dtype=np.int64)
    at = np.flatnonzero(present)
    example[np.minimum(ranks[at], len(example) - 1)] = at
    return np.asarray(example[best])


class FirstOfEach:
    """Which rows bring a value that their key has not had, for all DISTINCT aggregates over one argument."""

    def __init__(self, argument: Expression, empty: pl.DataFrame, ttl: int | None) -> None:
        """`empty`: the key's number and the argument, without rows."""
        self._argument, self._ttl = argument, ttl
        self._empty = comparable(empty)
        self._pairs = KeyTable(self._empty)
        self._takings: list[Taking] = []
        #: per taking and pair: when it was last seen (ms; -1: never)
        self._seen: list[Array] = []

    def want(self, taking: Taking) -> None:
        """One more aggregate."""
        if taking not in self._takings:
            self._takings.append(taking)
            self._seen.append(np.full(1024, -1, dtype=np.int64))

    def mark(self, rows: Rows, numbers: Ints, times: Ints) -> None:
        """Put the masks into `rows.distinct`. `numbers`: key of each row in sorted order, `times`: its arrival."""
        name = self._empty.columns
        values = rows.columns[self._argument].alias(name[1])
        pairs = self._pairs.encode(comparable(pl.DataFrame([pl.Series(name[0], numbers), values])))
        for i, taking in enumerate(self._takings):
            missing = len(self._pairs) - len(self._seen[i])
            if missing > 0:
                more = np.full(max(missing, len(self._seen[i])), -1, dtype=np.int64)
                self._seen[i] = np.concatenate([self._seen[i], more])
            plain = rows.mask(Taking(taking.argument, taking.filter))
            rows.distinct[taking] = self._first(self._seen[i], pairs, times, plain)

    def _first(self, seen: Array, pairs: Ints, times: Ints, mask: Mask | None) -> Mask:
        at = np.arange(len(pairs)) if mask is None else np.flatnonzero(mask)
        mine, now = pairs[at], times[at]
        first = np.zeros(len(pairs), dtype=np.bool_)
        if self._ttl is None:
            known = seen[mine] >= 0
            place = np.zeros(len(self._pairs), dtype=np.int64)
            place[mine[::-1]] = at[::-1]  # of several assignments the last one stays
            first[at] = ~known & (place[mine] == at)
            seen[mine] = now
            return first
        order = np.argsort(mine, kind="stable")
        opens = np.ones(len(mine), dtype=np.bool_)
        opens[1:] = mine[order][1:] != mine[order][:-1]
        before = np.empty_like(now)
        before[1:] = now[order][:-1]
        before[opens] = seen[mine[order][opens]]
        expired = (before > 0) & (before + self._ttl <= now[order])
        first[at[order]] = (before < 0) | expired
        np.maximum.at(seen, mine, now)
        return first

    def keep(self, renumber: Ints, newest: int) -> None:
        """Keys have new numbers; pairs of keys that are gone go, too, and those not seen for their time to live."""
        pairs = self._all()
        keys = renumber[pairs.to_series().to_numpy()]
        used = keys >= 0
        if self._ttl is not None:
            latest = np.maximum.reduce([seen[: len(used)] for seen in self._seen])
            used &= ~((latest > 0) & (latest + self._ttl <= newest))
        pairs = pairs.with_columns(pl.Series(self._empty.columns[0], keys)).filter(pl.Series(used))
        self._pairs = KeyTable(self._empty)
        self._pairs.encode(pairs)
        self._seen = [seen[: len(used)][used] for seen in self._seen]

    def _all(self) -> pl.DataFrame:
        return self._pairs.rows(np.arange(len(self._pairs)))

    def __len__(self) -> int:
        return len(self._pairs)

    def per_key(self, count: int) -> Ints:
        """How many pairs each key has."""
        return np.bincount(self._all().to_series().to_numpy(), minlength=count)

    def snapshot(self) -> State:
        """Pairs and when they were seen."""
        return {"pairs": self._pairs.snapshot(), "seen": [seen[: len(self._pairs)] for seen in self._seen]}

    def restore(self, state: State) -> None:
        """Take the state of `snapshot`."""
        self._pairs.restore(state["pairs"])
        self._seen = [np.array(seen) for seen in state["seen"]]

    def held(self) -> int:
        """Bytes."""
        return self._pairs.held() + sum(seen.nbytes for seen in self._seen)
