"""Aggregates that can be folded: each is a few columns of accumulators with an addition.

Adding is strictly in row order (`numpy.ufunc.at`), so that floating-point sums do not depend on how rows are batched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from qanat.model.types import Kind, Type
from qanat.sql.embedded.flow import Array, Ints, nullable, polars_type
from qanat.sql.plan import AggregateCall

_WHOLE = (Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT)
_REAL = (Kind.FLOAT, Kind.DOUBLE)
_ORDERED = (*_WHOLE, *_REAL, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
_VARIANCE = ("VAR_POP", "VAR_SAMP", "STDDEV_POP", "STDDEV_SAMP")


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of accumulators: the operation, its number type and its neutral value."""

    operation: np.ufunc
    dtype: np.dtype[np.generic]
    neutral: float | int

    def empty(self, shape: int | tuple[int, ...]) -> Array:
        """Accumulators before the first row."""
        return np.full(shape, self.neutral, dtype=self.dtype)


COUNT_CELL = Cell(np.add, np.dtype(np.int64), 0)
_SUM_WHOLE = Cell(np.add, np.dtype(np.int64), 0)
_SUM_REAL = Cell(np.add, np.dtype(np.float64), 0.0)
_MIN_WHOLE = Cell(np.minimum, np.dtype(np.int64), np.iinfo(np.int64).max)
_MAX_WHOLE = Cell(np.maximum, np.dtype(np.int64), np.iinfo(np.int64).min)
_MIN_REAL = Cell(np.minimum, np.dtype(np.float64), np.inf)
_MAX_REAL = Cell(np.maximum, np.dtype(np.float64), -np.inf)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What rows bring to one aggregate: `values` where `valid` (None: all valid). COUNT(*) has no values."""

    values: Array | None
    valid: np.ndarray[tuple[int], np.dtype[np.bool_]] | None


@dataclass(frozen=True, slots=True)
class Fold:
    """One aggregate as accumulators. `cells[0]` always counts the rows that took part."""

    call: AggregateCall
    cells: tuple[Cell, ...]

    def add(self, into: Sequence[Array], slots: Ints, inputs: Inputs) -> None:
        """Fold rows into their slots, in row order."""
        for part in range(len(self.cells)):
            self.add_part(part, into[part], slots, inputs)

    def add_part(self, part: int, into: Array, slots: Ints, inputs: Inputs) -> None:
        """Fold rows into one column of accumulators: 0 counts, 1 has the operation of `cells[1]`, 2 adds squares."""
        if inputs.valid is not None:
            slots = slots[inputs.valid]
        if part == 0 or inputs.values is None:
            np.add.at(into, slots, 1)
            return
        cell = self.cells[part]
        values = inputs.values if inputs.valid is None else inputs.values[inputs.valid]
        values = values.astype(cell.dtype, copy=False)
        cell.operation.at(into, slots, values * values if part == 2 else values)

    def result(self, cells: Sequence[Array]) -> pl.Series:
        """The aggregate's column from its accumulators."""
        count = cells[0]
        name, kind = self.call.function, self.call.type
        if name == "COUNT":
            return pl.Series("", count)
        valid = count > 0
        if name in _VARIANCE:
            least = 2 if name.endswith("SAMP") else 1
            return _cast(nullable(_variance(name, cells), count >= least), kind)
        values = cells[1]
        if name == "AVG":
            values = _average(values, count, kind)
        elif kind.kind in _WHOLE:
            values = values.astype(_wrap(kind))
        return _cast(nullable(np.where(valid, values, 0), valid), kind)


class FoldSet:
    """The folds of one operator. Columns of accumulators that several of them need (the count under AVG, MIN and MAX
    of one column) are kept once."""

    def __init__(self, folds: Sequence[Fold]) -> None:
        self.folds = tuple(folds)
        self._places: list[tuple[int, ...]] = []
        self._parts: list[tuple[int, int]] = []
        seen: dict[object, int] = {}
        for number, fold in enumerate(self.folds):
            places = []
            for part, cell in enumerate(fold.cells):
                key = (part, cell.operation.__name__, cell.dtype, fold.call.args, fold.call.filter)
                if key not in seen:
                    seen[key] = len(self._parts)
                    self._parts.append((number, part))
                places.append(seen[key])
            self._places.append(tuple(places))
        self.cells = tuple(self.folds[number].cells[part] for number, part in self._parts)

    def add(self, into: Sequence[Array], slots: Ints, inputs: Sequence[Inputs]) -> None:
        """Fold rows into all columns (`into`: one per cell); `inputs`: one per fold."""
        for column, (number, part) in zip(into, self._parts, strict=True):
            self.folds[number].add_part(part, column, slots, inputs[number])

    def results(self, columns: Sequence[Array]) -> list[pl.Series]:
        """One output column per fold from all columns of accumulators."""
        pairs = zip(self.folds, self._places, strict=True)
        return [fold.result([columns[place] for place in places]) for fold, places in pairs]


def fold_of(call: AggregateCall) -> Fold | None:
    """The fold of an aggregate, or None where it needs the rows themselves."""
    if call.distinct or call.user is not None:
        return None
    if call.function == "COUNT":
        return Fold(call, (COUNT_CELL,))
    if len(call.args) != 1:
        return None
    kind = call.args[0].type.kind
    real = kind in _REAL
    if call.function in ("SUM", "AVG") and kind in (*_WHOLE, *_REAL):
        return Fold(call, (COUNT_CELL, _SUM_REAL if real else _SUM_WHOLE))
    if call.function in ("MIN", "MAX") and kind in _ORDERED:
        low = call.function == "MIN"
        cell = (_MIN_REAL if low else _MAX_REAL) if real else (_MIN_WHOLE if low else _MAX_WHOLE)
        return Fold(call, (COUNT_CELL, cell))
    if call.function in _VARIANCE and kind in (*_WHOLE, *_REAL):
        return Fold(call, (COUNT_CELL, _SUM_REAL, _SUM_REAL))
    return None


def inputs_of(call: AggregateCall, argument: pl.Series | None, keep: pl.Series | None) -> Inputs:
    """What the argument column and the FILTER column (BOOLEAN) bring to `call`."""
    valid = None
    if keep is not None:
        valid = keep.fill_null(value=False).to_numpy()
    if argument is None:
        return Inputs(None, valid)
    if argument.null_count():
        present = argument.is_not_null().to_numpy()
        valid = present if valid is None else valid & present
    if call.function == "COUNT":
        return Inputs(None, valid)
    physical = argument.to_physical()
    return Inputs((physical.fill_null(0) if physical.null_count() else physical).to_numpy(), valid)


def _average(total: Array, count: Ints, kind: Type) -> Array:
    divisor = np.maximum(count, 1)
    if kind.kind in _WHOLE:  # Flink: the average of whole numbers is whole, cut towards zero
        return np.asarray(total // divisor + ((total < 0) & (total % divisor != 0)))
    return np.asarray(total / divisor)


def _variance(name: str, cells: Sequence[Array]) -> Array:
    count, total, squares = cells[0], cells[1], cells[2]
    n = np.maximum(count, 1)
    spread = np.maximum(squares - total * total / n, 0.0)
    divisor = np.maximum(n - 1, 1) if name.endswith("SAMP") else n
    variance = spread / divisor
    return np.asarray(np.sqrt(variance) if name.startswith("STDDEV") else variance)


def _wrap(kind: Type) -> np.dtype[np.generic]:
    widths = {Kind.TINYINT: np.int8, Kind.SMALLINT: np.int16, Kind.INT: np.int32, Kind.BIGINT: np.int64}
    return np.dtype(widths[kind.kind])


def _cast(column: pl.Series, kind: Type) -> pl.Series:
    target = polars_type(kind)
    if column.dtype == target:
        return column
    if kind.kind is Kind.DATE or kind.kind is Kind.TIME:
        column = column.cast(pl.Int32) if kind.kind is Kind.DATE else column
    return column.cast(target)
