"""The columns of OVER: what each call computes on `Frames`, and the state it keeps per key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl

from qanat.model.types import Kind, Type
from qanat.sql.embedded.flow import Array, Ints, State, nullable, polars_type
from qanat.sql.embedded.groups import argument_names
from qanat.sql.embedded.over_frames import Frames, Mask, extremes, running, whole_sums
from qanat.sql.expressions import Literal
from qanat.sql.plan import AggregateCall

_WHOLE = {Kind.TINYINT: np.int8, Kind.SMALLINT: np.int16, Kind.INT: np.int32, Kind.BIGINT: np.int64}
_REAL = (Kind.FLOAT, Kind.DOUBLE)
_TIMES = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
_MOST, _LEAST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one piece: evaluated arguments and filters, named by `argument_names`, in the order of `frames`."""

    frames: Frames
    rows: pl.DataFrame

    def taking(self, number: int, call: AggregateCall) -> Mask:
        """The rows that take part: FILTER is TRUE, and every argument that decides is there."""
        names, keep = argument_names(number, call)
        found = np.ones(self.rows.height, dtype=np.bool_)
        if keep is not None:
            found &= self.rows[keep].fill_null(value=False).to_numpy()
        for name in names if call.function == "COUNT" else names[:1]:
            if self.rows[name].null_count():
                found &= self.rows[name].is_not_null().to_numpy()
        return found


class Column(Protocol):
    """One call. State is per key number; `grow`, `keep`, `snapshot` and `restore` are about it."""

    def steps(self, piece: Piece) -> pl.Series:
        """The value of each step (or, where `by_row`, of each new row). Moves the state on."""
        ...

    def needed(self, piece: Piece) -> Mask | None:
        """Rows that later frames look at beyond the frame itself; None: none."""
        ...

    def grow(self, count: int) -> None:
        """There are so many keys."""
        ...

    def keep(self, used: Mask) -> None:
        """Forget the keys that are not used; the others move up."""
        ...

    def snapshot(self, count: int) -> State:
        """The state of keys 0 ... count - 1."""
        ...

    def restore(self, state: State) -> None:
        """Take the state of `snapshot`."""
        ...

    def held(self) -> int:
        """About how many bytes."""
        ...


class Cells:
    """State of a column: arrays by key number, grown as keys come."""

    by_row = False

    def __init__(self, *cells: tuple[str, float | int]) -> None:
        """`cells`: number type and neutral value of each array."""
        self._neutral = [neutral for _, neutral in cells]
        self.cells: list[Array] = [np.full(64, neutral, dtype=dtype) for dtype, neutral in cells]

    def grow(self, count: int) -> None:
        """Room for so many keys."""
        for place, (cell, neutral) in enumerate(zip(self.cells, self._neutral, strict=True)):
            if len(cell) < count:
                longer = np.full(max(2 * len(cell), count), neutral, dtype=cell.dtype)
                longer[: len(cell)] = cell
                self.cells[place] = longer

    def keep(self, used: Mask) -> None:
        """Forget the keys that are not used."""
        self.cells = [cell[: len(used)][used] for cell in self.cells]

    def snapshot(self, count: int) -> State:
        """The arrays."""
        return {"cells": [cell[:count] for cell in self.cells]}

    def restore(self, state: State) -> None:
        """Take them."""
        self.cells = [cell.copy() for cell in state["cells"]]

    def held(self) -> int:
        """Their bytes."""
        return sum(int(cell.nbytes) for cell in self.cells)

    def needed(self, piece: Piece) -> Mask | None:
        """No rows: the arrays say it all."""
        del piece
        return None


class Count(Cells):
    """COUNT(*), COUNT(x)."""

    def __init__(self, number: int, call: AggregateCall) -> None:
        super().__init__(("int64", 0))
        self._number, self._call = number, call

    def steps(self, piece: Piece) -> pl.Series:
        """How many rows of the frame take part."""
        taking = piece.taking(self._number, self._call)
        return pl.Series("", whole_sums(piece.frames, taking.astype(np.int64), self.cells[0]))


class Sum(Cells):
    """SUM and AVG of whole numbers and floats."""

    def __init__(self, number: int, call: AggregateCall) -> None:
        kind, average = call.args[0].type.kind, call.function == "AVG"
        # a sum begins with its first value, an average with 0: that decides the sign of zero
        self._zero = 0.0 if average else -0.0
        dtype = "int64" if kind in _WHOLE else "float32" if kind is Kind.FLOAT and not average else "float64"
        super().__init__(("int64", 0), (dtype, 0 if kind in _WHOLE else self._zero))
        self._number, self._call, self._whole = number, call, kind in _WHOLE

    def steps(self, piece: Piece) -> pl.Series:
        """NULL where no row of the frame takes part."""
        taking = piece.taking(self._number, self._call)
        count = whole_sums(piece.frames, taking.astype(np.int64), self.cells[0])
        column = piece.rows[argument_names(self._number, self._call)[0][0]]
        values = (column.fill_null(0) if column.null_count() else column).to_numpy().astype(self.cells[1].dtype)
        if self._whole:
            total = whole_sums(piece.frames, np.where(taking, values, 0), self.cells[1])
        else:
            values = np.where(taking, values, np.asarray(-0.0, dtype=values.dtype))
            total = running(piece.frames, np.add, values, self.cells[1], self._zero)
        return self._finished(total, count)

    def _finished(self, total: Array, count: Ints) -> pl.Series:
        some = np.maximum(count, 1)
        if self._call.function == "AVG":
            if self._whole:
                floor = total // some
                total = floor + ((total < 0) & (floor * some != total))  # cut towards zero
            else:
                total = total / some
        target = self._call.type.kind
        if target in _WHOLE:
            total = total.astype(_WHOLE[target])
        return nullable(np.where(count > 0, total, np.zeros(1, dtype=total.dtype)), count > 0)


class Extreme(Cells):
    """MIN and MAX of numbers, dates and times. Doubles are ordered as Java's compareTo: -0.0 < 0.0 < NaN."""

    def __init__(self, number: int, call: AggregateCall) -> None:
        self._low = call.function == "MIN"
        self._neutral_value = _MOST if self._low else _LEAST
        super().__init__(("int64", 0), ("int64", self._neutral_value))
        self._number, self._call = number, call

    def steps(self, piece: Piece) -> pl.Series:
        """NULL where no row of the frame takes part."""
        taking = piece.taking(self._number, self._call)
        count = whole_sums(piece.frames, taking.astype(np.int64), self.cells[0])
        codes = _codes(piece.rows[argument_names(self._number, self._call)[0][0]])
        codes = np.where(taking, codes, self._neutral_value)
        operation = np.minimum if self._low else np.maximum
        if piece.frames.bounded:
            found = extremes(piece.frames, operation, codes)
        else:
            found = running(piece.frames, operation, codes, self.cells[1], self._neutral_value)
        return nullable(_decoded(np.where(count > 0, found, 0), self._call.type), count > 0)


def _codes(column: pl.Series) -> Ints:
    """Whole numbers in the order of the values."""
    physical = column.to_physical()
    values = (physical.fill_null(0) if physical.null_count() else physical).to_numpy()
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    bits = np.where(np.isnan(values), np.nan, values).astype(np.float64).view(np.int64)
    return np.asarray(np.where(bits < 0, bits ^ np.int64(_MOST), bits))


def _decoded(codes: Ints, kind: Type) -> Array:
    if kind.kind not in _REAL:
        return codes
    return np.asarray(np.where(codes < 0, codes ^ np.int64(_MOST), codes)).view(np.float64)


class Place(Cells):
    """FIRST_VALUE and LAST_VALUE: NULLs are skipped. Unbounded frames keep the row that has the value."""

    def __init__(self, number: int, call: AggregateCall) -> None:
        super().__init__()
        self._number, self._call, self._first = number, call, call.function == "FIRST_VALUE"

    def steps(self, piece: Piece) -> pl.Series:
        """NULL where the frame has no value."""
        frames, name = piece.frames, argument_names(self._number, self._call)[0][0]
        there = np.flatnonzero(piece.taking(self._number, self._call))
        at = np.searchsorted(there, frames.low if self._first else frames.high + 1) - (not self._first)
        return _taken(piece.rows[name], there, at, frames.low, frames.high)

    def needed(self, piece: Piece) -> Mask | None:
        """The first or last value of each segment."""
        if piece.frames.bounded:
            return None
        frames, found = piece.frames, np.zeros(piece.rows.height, dtype=np.bool_)
        there = np.flatnonzero(piece.taking(self._number, self._call))
        at = np.searchsorted(there, frames.start if self._first else frames.end + 1) - (not self._first)
        inside = (at >= 0) & (at < len(there))
        row = there[at[inside]]
        found[row[(row >= frames.start[inside]) & (row <= frames.end[inside])]] = True
        return found


def _taken(column: pl.Series, there: Ints, at: Ints, low: Ints, high: Ints) -> pl.Series:
    """Values of rows there[at], NULL where these are outside of [low, high]."""
    if not len(there):
        return pl.Series("", [None] * len(at), dtype=column.dtype)
    row = there[np.clip(at, 0, len(there) - 1)]
    inside = (at >= 0) & (at < len(there)) & (row >= low) & (row <= high)
    return _chosen(column, row, inside)


def _chosen(column: pl.Series, row: Ints, inside: Mask) -> pl.Series:
    frame = pl.DataFrame({"value": column.gather(row), "inside": pl.Series(inside)})
    return frame.select(pl.when("inside").then(pl.col("value"))).to_series()


class Lag(Cells):
    """LAG(x, offset, default): the value so many rows before the last row of the step, in the key's order. Rows of
    one time share a step, and so the value, as in Flink."""

    def __init__(self, number: int, call: AggregateCall) -> None:
        super().__init__()
        self._names = argument_names(number, call)[0]
        offset = call.args[1].value if len(call.args) > 1 and isinstance(call.args[1], Literal) else 1
        self._offset = int(str(offset))
        self._dtype = polars_type(call.type)

    def steps(self, piece: Piece) -> pl.Series:
        """The default (or NULL) where there is no such row."""
        frames = piece.frames
        row = frames.high - self._offset
        inside = row >= frames.start[frames.segment]
        found = _chosen(piece.rows[self._names[0]], np.maximum(row, 0), inside).cast(self._dtype)
        if len(self._names) < 3:
            return found
        default = piece.rows[self._names[2]].gather(frames.high).cast(self._dtype)
        frame = pl.DataFrame({"found": found, "default": default, "inside": pl.Series(inside)})
        return frame.select(pl.when("inside").then("found").otherwise("default")).to_series()

    def needed(self, piece: Piece) -> Mask | None:
        """The last rows."""
        frames = piece.frames
        ends = np.repeat(frames.end, frames.end - frames.start + 1)
        return np.asarray(np.arange(piece.rows.height) > ends - self._offset)


class Ranking(Cells):
    """ROW_NUMBER, RANK and DENSE_RANK in order of time. Two rows of one time have one rank (Flink 2.3 numbers them by
    their last row, which is no rank; that is not copied)."""

    def __init__(self, call: AggregateCall) -> None:
        super().__init__(("int64", 0), ("int64", 0))
        self._function = call.function
        self.by_row = call.function == "ROW_NUMBER"

    def steps(self, piece: Piece) -> pl.Series:
        """Counted from 1."""
        frames = piece.frames
        news = np.zeros(frames.height + 1, dtype=np.int64)
        news[frames.new + 1] = 1
        news = np.cumsum(news)
        base = news[frames.start]
        seen = frames.state(self.cells[0], 0)
        first = np.searchsorted(frames.segment, np.arange(len(frames.start)))
        dense = (
            frames.state(self.cells[1], 0)[frames.segment] + np.arange(len(frames.segment)) - first[frames.segment] + 1
        )
        before = seen[frames.segment] + news[frames.first] - base[frames.segment]
        frames.store(self.cells[0], seen[frames.segment] + news[frames.high + 1] - base[frames.segment])
        frames.store(self.cells[1], dense)
        if self._function == "ROW_NUMBER":
            mine = frames.segment[frames.step]
            return pl.Series("", seen[mine] + news[frames.new] - base[mine] + 1)
        return pl.Series("", dense if self._function == "DENSE_RANK" else before + 1)


def column_of(number: int, call: AggregateCall, otherwise: Callable[[int, AggregateCall], Any]) -> Any:
    """What computes a call; `otherwise` makes what goes row by row."""
    if call.function in ("ROW_NUMBER", "RANK", "DENSE_RANK"):
        return Ranking(call)
    if call.function == "LAG":
        return Lag(number, call)
    if call.user is not None or (call.distinct and call.function not in ("MIN", "MAX", "FIRST_VALUE", "LAST_VALUE")):
        return otherwise(number, call)
    kind = call.args[0].type.kind if call.args else None
    if call.function == "COUNT":
        return Count(number, call)
    if call.function in ("SUM", "AVG") and (kind in _WHOLE or kind in _REAL):
        return Sum(number, call)
    if call.function in ("MIN", "MAX") and (kind in _WHOLE or kind in _REAL or kind in _TIMES):
        return Extreme(number, call)
    if call.function in ("FIRST_VALUE", "LAST_VALUE"):
        return Place(number, call)
    return otherwise(number, call)


def cast(column: pl.Series, kind: Type) -> pl.Series:
    """The column in the type of its call; whole numbers that stand for dates and times become these."""
    target = polars_type(kind)
    if column.dtype == target:
        return column
    if kind.kind is Kind.DATE:
        column = column.cast(pl.Int32)
    return column.cast(target)


def by_row(columns: Sequence[Any], piece: Piece) -> list[pl.Series]:
    """One column per call with a value for each new row."""
    found = []
    for one in columns:
        values = one.steps(piece)
        found.append(values if one.by_row else values.gather(piece.frames.step))
    return found
