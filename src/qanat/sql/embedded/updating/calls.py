"""Aggregate calls -> cells and the column made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from qanat.model.types import Kind, Type
from qanat.sql.embedded.flow import Array, nullable, polars_type
from qanat.sql.embedded.updating.layout import Mask
from qanat.sql.embedded.updating.row_by_row import RowByRow
from qanat.sql.embedded.updating.running import Cell, Least, LeastReal, Place, Rows, Taking, Tally, Total
from qanat.sql.expressions import Expression
from qanat.sql.plan import AggregateCall

_WHOLE = {Kind.TINYINT: np.int8, Kind.SMALLINT: np.int16, Kind.INT: np.int32, Kind.BIGINT: np.int64}
_REAL = (Kind.FLOAT, Kind.DOUBLE)
_TIMES = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)

#: A padded column, and per place whether its value differs from the one before it.
Made = tuple[pl.Series, Mask]
Finish = Callable[[list[Any]], Made]


@dataclass(frozen=True, slots=True)
class Running:
    """One aggregate of an operator: its cells by their place in `Calls.cells`, and what makes its column of them."""

    cells: tuple[int, ...]
    finish: Finish


class Calls:
    """All aggregates of one operator."""

    def __init__(self, calls: Sequence[AggregateCall], retracts: bool) -> None:
        self.cells: list[Any] = []
        self.distinct: dict[Expression, list[Taking]] = {}
        self._places: dict[object, int] = {}
        self._retracts = retracts
        self._exact = any(call.function.startswith(("VAR", "STDDEV")) for call in calls)
        self._running = [self._plan(call) for call in calls]

    def scan(self, rows: Rows) -> list[Made]:
        """The padded column of each call."""
        found = [cell.scan(rows) for cell in self.cells]
        return [one.finish([found[place] for place in one.cells]) for one in self._running]

    def row_by_row(self) -> list[RowByRow]:
        """The calls that keep Python objects."""
        return [cell for cell in self.cells if isinstance(cell, RowByRow)]

    def _cell(self, key: object, make: Callable[[], Cell | RowByRow | Place]) -> int:
        if key not in self._places:
            self._places[key] = len(self.cells)
            self.cells.append(make())
        return self._places[key]

    def _plan(self, call: AggregateCall) -> Running:
        planned = None if call.user is not None or len(call.args) > 1 else self._vectorised(call)
        if planned is not None:
            return planned
        place = self._cell(("row by row", len(self.cells)), lambda: RowByRow(call))
        return Running((place,), lambda found: found[0])

    def _vectorised(self, call: AggregateCall) -> Running | None:
        if not call.args:
            return Running((self._tally(Taking(None, call.filter)),), _count(call.type))
        argument, kind = call.args[0], call.args[0].type.kind
        distinct = call.distinct and call.function not in ("MIN", "MAX", "FIRST_VALUE", "LAST_VALUE")
        if distinct and self._retracts:
            return None
        taking = Taking(argument, call.filter, distinct)
        match call.function:
            case "COUNT":
                planned = Running((self._tally(taking),), _count(call.type))
            case "SUM" | "AVG" if kind in _WHOLE or kind in _REAL:
                planned = self._sum(call, taking)
            case "MIN" | "MAX" | "FIRST_VALUE" | "LAST_VALUE" if not self._retracts:
                planned = self._one_value(call, taking)
            case _:
                return None
        if distinct:
            self.distinct.setdefault(argument, []).append(taking)
        return planned

    def _tally(self, taking: Taking) -> int:
        return self._cell(taking, lambda: Tally(taking))

    def _sum(self, call: AggregateCall, taking: Taking) -> Running:
        argument, kind = call.args[0], call.args[0].type.kind
        average = call.function == "AVG"
        dtype = "int64" if kind in _WHOLE else "float32" if kind is Kind.FLOAT and not average else "float64"
        # a sum of floats begins with its first value, an average with 0.0: that decides the sign of zero
        neutral = 0 if kind in _WHOLE else 0.0 if average else -0.0
        key = (taking, dtype, str(neutral))
        total = self._cell(key, lambda: Total(taking, argument, dtype, neutral))
        finish = _average(call.type, self._exact) if average else _sum(call.type)
        return Running((self._tally(taking), total), finish)

    def _one_value(self, call: AggregateCall, taking: Taking) -> Running:
        argument, kind, name = call.args[0], call.args[0].type.kind, call.function
        greatest = name == "MAX"
        if name in ("MIN", "MAX") and (kind in _WHOLE or kind in _TIMES):
            place = self._cell((taking, name), lambda: Least(taking, argument, greatest))
        elif name in ("MIN", "MAX") and kind in _REAL:
            place = self._cell((taking, name), lambda: LeastReal(taking, argument, greatest))
        else:
            dtype = polars_type(argument.type)
            place = self._cell((taking, name), lambda: Place(taking, argument, dtype, name))
            return Running((place,), _value(call.type))
        return Running((self._tally(taking), place), _sum(call.type))


def _count(kind: Type) -> Finish:
    dtype = polars_type(kind)
    return lambda found: (pl.Series("", found[0]).cast(dtype), _differs(found[0], None))


def _sum(kind: Type) -> Finish:
    """The value of the second cell where the first counts rows; whole numbers wrap to the width of the type."""

    def finish(found: list[Array]) -> Made:
        valid = found[0] > 0 if bool((found[0] >= 0).all()) else found[0] != 0
        return _typed(found[1], valid, kind)

    return finish


def _average(kind: Type, exact: bool) -> Finish:
    """`exact`: Flink compares sum and count instead of the quotient, which it computes afterwards (so it does where the
    query has a VAR or STDDEV)."""

    def finish(found: list[Array]) -> Made:
        count, total = found
        divisor = np.where(count == 0, 1, count)
        if kind.kind in _WHOLE:  # cut towards zero
            quotient = total // divisor
            quotient += (total % divisor != 0) & ((total < 0) != (divisor < 0))
        else:
            quotient = total / divisor
        column, changed = _typed(quotient, count != 0, kind)
        if exact:
            changed = _differs(count, None) | _differs(total, None)
        return column, changed

    return finish


def _typed(values: Array, valid: Mask, kind: Type) -> Made:
    if kind.kind in _WHOLE:
        values = values.astype(_WHOLE[kind.kind])
    elif kind.kind is Kind.FLOAT:
        values = values.astype(np.float32)
    changed = _differs(values, valid)
    column = nullable(np.where(valid, values, np.zeros(1, dtype=values.dtype)), valid)
    target = polars_type(kind)
    if column.dtype != target:
        column = column.cast(pl.Int32) if kind.kind is Kind.DATE else column
        column = column.cast(target)
    return column, changed


def _differs(values: Array, valid: Mask | None) -> Mask:
    """NaN differs from itself, 0.0 not from -0.0, as in Flink's comparison of rows."""
    changed = np.zeros(len(values), dtype=np.bool_)
    changed[1:] = values[1:] != values[:-1]
    if valid is not None:
        changed[1:] &= valid[1:]
        changed[1:] |= valid[1:] != valid[:-1]
    return changed


def _value(kind: Type) -> Finish:
    """A column of values of any type."""
    target, real = polars_type(kind), kind.kind in _REAL

    def finish(found: list[pl.Series]) -> Made:
        column = found[0].alias("").cast(target)
        if real:
            valid = column.is_not_null().to_numpy()
            return column, _differs(column.fill_null(0.0).to_numpy(), valid)
        changed = np.zeros(len(column), dtype=np.bool_)
        changed[1:] = column.slice(1).ne_missing(column.slice(0, max(len(column) - 1, 0))).to_numpy()
        return column, changed

    return finish
