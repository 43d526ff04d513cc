"""Rows in the order of an ORDER BY: columns -> whole numbers that sort as the rows do, and the order of rows.

A smaller number stands earlier. Flink's order: numbers by value, NaN above everything, text by code point, FALSE before
TRUE; NULLs where `plan.Ordering.nulls_last` says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from qanat.model.types import Kind, Type
from qanat.sql.embedded.flow import Ints
from qanat.sql.plan import Ordering, Schema

_REAL = (Kind.FLOAT, Kind.DOUBLE)
_WHOLE = (
    Kind.BOOLEAN, Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT, Kind.DATE, Kind.TIME, Kind.TIMESTAMP,
    Kind.TIMESTAMP_LTZ, Kind.INTERVAL_DAY, Kind.INTERVAL_YEAR,
)  # fmt: skip
_EXACT_DIGITS = 18


def has_numbers(order: Sequence[Ordering], schema: Schema) -> bool:
    """Whether every column of the order can be turned into whole numbers of 64 bits."""
    types = {field.name: field.type for field in schema}
    return all(_numeric(types[one.column]) for one in order)


def _numeric(sql_type: Type) -> bool:
    if sql_type.kind is Kind.DECIMAL:
        return (sql_type.precision or 10) <= _EXACT_DIGITS
    return sql_type.kind in _WHOLE or sql_type.kind in _REAL


def numbers(frame: pl.DataFrame, order: Sequence[Ordering], schema: Schema) -> Ints:
    """One row of numbers per row of the frame; rows compare as their numbers do, from left to right."""
    types = {field.name: field.type for field in schema}
    columns: list[Ints] = []
    for one in order:
        values = frame[one.column]
        if types[one.column].nullable:
            absent = values.is_null().to_numpy()
            columns.append((absent if one.nulls_last else ~absent).astype(np.int64))
        found = _ascending(values, types[one.column])
        columns.append(~found if one.descending else found)
    return np.stack(columns, axis=1) if columns else np.zeros((frame.height, 1), dtype=np.int64)


def _ascending(values: pl.Series, sql_type: Type) -> Ints:
    if sql_type.kind in _REAL:
        real = values.fill_null(0.0).cast(pl.Float64).to_numpy() + 0.0  # -0.0 equals 0.0
        bits = np.where(np.isnan(real), np.nan, real).view(np.int64)
        return np.asarray(np.where(bits < 0, bits ^ np.int64(2**63 - 1), bits))
    physical = values.to_physical().cast(pl.Int64)
    return np.asarray(physical.fill_null(0).to_numpy(), dtype=np.int64)


def sorted_places(frame: pl.DataFrame, first: Sequence[Ints], order: Sequence[Ordering]) -> Ints:
    """The stable order of rows by the arrays `first`, then by `order`."""
    majors = [pl.Series(f"__major{i}", values) for i, values in enumerate(first)]
    work = frame.select(one.column for one in order).with_columns(majors) if order else pl.DataFrame(majors)
    by = [series.name for series in majors] + [one.column for one in order]
    descending = [False] * len(majors) + [one.descending for one in order]
    nulls_last = [False] * len(majors) + [one.nulls_last for one in order]
    expression = pl.arg_sort_by(by, descending=descending, nulls_last=nulls_last, maintain_order=True)
    return np.asarray(work.select(expression).to_series().to_numpy(), dtype=np.int64)


class SortKey:
    """One value of an ORDER BY for rows that are looked at one by one: compares as the rows do."""

    __slots__ = ("_order", "values")

    def __init__(self, values: tuple[object, ...], order: Sequence[Ordering]) -> None:
        self.values, self._order = values, order

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SortKey) and not self < other and not other < self

    def __hash__(self) -> int:
        return hash(self.values)

    def __lt__(self, other: SortKey) -> bool:
        for one, mine, theirs in zip(self._order, self.values, other.values, strict=True):
            if mine is None or theirs is None:
                if (mine is None) != (theirs is None):
                    return (theirs is None) == one.nulls_last
            elif mine != theirs and not (_nan(mine) and _nan(theirs)):
                above = _nan(mine) or (not _nan(theirs) and mine > theirs)  # type: ignore[operator]
                return above == one.descending
        return False


def _nan(value: object) -> bool:
    return value != value
