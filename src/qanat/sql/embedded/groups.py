"""Aggregates over rows that lie group by group: what cannot be folded, and everything where the rows are kept anyway.

Input: a frame whose rows are sorted by (group, event time, arrival); a group is the rows [bounds[i], bounds[i + 1]).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa

from qanat.errors import SqlError
from qanat.model.functions import UserFunction
from qanat.model.types import Kind
from qanat.sql.embedded.flow import Ints, polars_type
from qanat.sql.embedded.folds import Fold, fold_of, inputs_of
from qanat.sql.embedded.user_functions import aggregate_value, call_method
from qanat.sql.plan import AggregateCall

#: Column that numbers rows in order of arrival; FIRST_VALUE, LAST_VALUE and LISTAGG follow it, as in Flink.
ARRIVAL = "__arrival"


def argument_names(number: int, call: AggregateCall) -> tuple[list[str], str | None]:
    """Names under which the evaluated arguments and the filter of aggregate `number` are kept in buffers."""
    return [
        f"__arg{number}_{i}" for i in range(len(call.args))
    ], f"__filter{number}" if call.filter is not None else None


def aggregate_groups(frame: pl.DataFrame, bounds: Ints, calls: Sequence[tuple[int, AggregateCall]]) -> list[pl.Series]:
    """One column per call, one row per group. `calls`: (number of the aggregate, the call)."""
    groups = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    return [_aggregate(frame, bounds, groups, number, call) for number, call in calls]


def _aggregate(frame: pl.DataFrame, bounds: Ints, groups: Ints, number: int, call: AggregateCall) -> pl.Series:
    names, keep = argument_names(number, call)
    if call.user is not None:
        return _by_user(frame, bounds, call.user, names, keep)
    fold = fold_of(call)
    if fold is not None:
        return _folded(frame, len(bounds) - 1, groups, fold, names, keep)
    if call.function == "ARRAY_AGG" and keep is None and not call.distinct:
        return _slices(frame[names[0]], bounds).cast(polars_type(call.type))
    return _grouped(frame, len(bounds) - 1, groups, call, names, keep)


def _by_user(
    frame: pl.DataFrame, bounds: Ints, function: UserFunction, names: list[str], keep: str | None
) -> pl.Series:
    """A user's aggregate: one accumulator per group, all its rows at once."""
    assert function.result is not None
    values = []
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = frame[begin:end]
        rows = rows.filter(pl.col(keep)) if keep is not None else rows
        accumulator = call_method(function, function.body)
        if rows.height:
            arrays = [rows[name].to_arrow(compat_level=pl.CompatLevel.oldest()) for name in names]
            call_method(function, partial(accumulator.add, *arrays))
        values.append(aggregate_value(function, accumulator))
    return pl.Series("", values, dtype=polars_type(function.result))


def _folded(frame: pl.DataFrame, count: int, groups: Ints, fold: Fold, names: list[str], keep: str | None) -> pl.Series:
    cells = [cell.empty(count) for cell in fold.cells]
    argument = frame[names[0]] if names else None
    fold.add(cells, groups, inputs_of(fold.call, argument, frame[keep] if keep else None))
    return fold.result(cells)


def _slices(values: pl.Series, bounds: Ints) -> pl.Series:
    """Lists that are consecutive slices of `values`."""
    arrow = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    lists = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(bounds), arrow))
    if not isinstance(lists, pl.Series):
        raise TypeError("a list column expected")
    return lists


def _grouped(
    frame: pl.DataFrame, count: int, groups: Ints, call: AggregateCall, names: list[str], keep: str | None
) -> pl.Series:
    work = frame.with_columns(pl.Series("__group", groups))
    if keep is not None:
        work = work.filter(pl.col(keep))
    value = _expression(call, names)
    made = work.group_by("__group", maintain_order=True).agg(value.alias("__value"))
    every = pl.DataFrame({"__group": np.arange(count)})
    column = every.join(made, on="__group", how="left", maintain_order="left")["__value"]
    if call.function == "COUNT":
        column = column.fill_null(0)
    return column.cast(polars_type(call.type))


def _expression(call: AggregateCall, names: list[str]) -> pl.Expr:
    if call.function == "COUNT" and len(names) > 1:
        complete = pl.all_horizontal(pl.col(n).is_not_null() for n in names)
        return pl.struct(names).filter(complete).n_unique()
    value = pl.col(names[0])
    order = pl.col(ARRIVAL)
    present = value.is_not_null()
    if call.distinct and call.function in ("COUNT", "SUM", "AVG", "VAR_POP", "VAR_SAMP", "STDDEV_POP", "STDDEV_SAMP"):
        value = value.drop_nulls().unique(maintain_order=True)
    match call.function:
        case "COUNT":
            return value.count()
        case "SUM":
            return pl.when(value.count() > 0).then(value.sum())
        case "AVG" if call.type.kind in (Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT):
            total, count = value.sum(), value.count().cast(pl.Int64)
            return total // count + ((total < 0) & (total % count != 0)).cast(pl.Int64)
        case "AVG" if call.type.kind is Kind.DECIMAL:
            return pl.when(value.count() > 0).then(value.sum().cast(polars_type(call.type)) / value.count())
        case "AVG":
            return value.mean()
        case "MIN":
            return value.min()
        case "MAX":
            return value.max()
        case "VAR_POP" | "VAR_SAMP":
            return value.var(ddof=int(call.function.endswith("SAMP")))
        case "STDDEV_POP" | "STDDEV_SAMP":
            return value.std(ddof=int(call.function.endswith("SAMP")))
        case "FIRST_VALUE":
            return value.filter(present).sort_by(order.filter(present)).first()
        case "LAST_VALUE":
            return value.filter(present).sort_by(order.filter(present)).last()
        case "ARRAY_AGG":
            return value.unique(maintain_order=True) if call.distinct else value
        case "LISTAGG":
            texts = value.filter(present).sort_by(order.filter(present))
            texts = texts.unique(maintain_order=True) if call.distinct else texts
            return pl.when(present.any()).then(texts.str.join(_separator(call)))
        case name:
            raise SqlError(f"the aggregate {name} is not known to the embedded runtime")


def _separator(call: AggregateCall) -> str:
    separator = getattr(call.args[1], "value", None) if len(call.args) > 1 else ","
    if not isinstance(separator, str):
        raise SqlError("the separator of LISTAGG must be a text constant", hint="LISTAGG(name, ';')")
    return separator
