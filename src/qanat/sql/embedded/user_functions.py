"""Calls of the user's functions: Arrow in, Arrow out, and a clear error where the result is not what was declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from qanat.errors import FunctionError
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.functions import UserFunction
from qanat.model.types import BIGINT, Type


def call_scalar(function: UserFunction, arguments: Sequence[pa.Array], rows: int) -> pa.Array:
    """One value per row, of the declared type. Raises `FunctionError`."""
    assert function.result is not None
    found = _guarded(function, lambda: function.body(*arguments))
    column = _column(function, found, function.result, "returned")
    if len(column) != rows:
        raise FunctionError(
            f"{function.name} returned {len(column)} values for {rows} rows",
            hint="a scalar function gives one value per row",
        )
    return column


def call_table(function: UserFunction, arguments: Sequence[pa.Array]) -> pa.Table:
    """Column 0: the place of the input row (int64, ascending); then the declared columns. Raises `FunctionError`."""
    count = len(arguments[0]) if arguments else 0
    found = _guarded(function, lambda: function.body(*arguments))
    table = _table(function, found)
    wanted = [name for name, _ in function.columns]
    if table.num_columns != len(wanted) + 1:
        raise FunctionError(
            f"{function.name} returned {table.num_columns} columns, expected the row's place and {', '.join(wanted)}",
            hint="the first column says which input row each row came of: 0, 0, 1, 3, ...",
        )
    rows = _column(function, table.column(0), BIGINT, "returned as the row's place")
    places = rows.to_numpy(zero_copy_only=False)
    if len(places) and (rows.null_count or places.min() < 0 or places.max() >= count or np.any(np.diff(places) < 0)):
        raise FunctionError(f"{function.name}: the places of the rows are not ascending numbers from 0 to {count - 1}")
    columns = [
        _column(function, table.column(i + 1), kind, f"returned as {name}")
        for i, (name, kind) in enumerate(function.columns)
    ]
    return pa.table([rows, *columns], schema=schema_of([("", BIGINT), *function.columns]))


def call_method(function: UserFunction, call: Callable[[], Any]) -> Any:
    """A method of an aggregate. Raises `FunctionError`."""
    return _guarded(function, call)


def aggregate_value(function: UserFunction, accumulator: Any) -> Any:
    """The accumulator's result as a value of the declared type. Raises `FunctionError`."""
    assert function.result is not None
    value = _guarded(function, accumulator.result)
    return _column(function, [value], function.result, "gave as its result")[0].as_py()


def _guarded(function: UserFunction, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except FunctionError:
        raise
    except Exception as error:
        where = _line_of(error)
        raise FunctionError(f"{function.name} failed: {type(error).__name__}: {error}{where}") from error


def _line_of(error: Exception) -> str:
    """File and line of the user's code that raised."""
    trace = error.__traceback__
    last = None
    while trace is not None:
        last, trace = trace, trace.tb_next
    return f" ({last.tb_frame.f_code.co_filename}, line {last.tb_lineno})" if last is not None else ""


def _table(function: UserFunction, found: Any) -> pa.Table:
    if isinstance(found, pa.Table):
        return found
    if isinstance(found, pa.RecordBatch):
        return pa.Table.from_batches([found])
    if isinstance(found, dict):
        return _guarded(function, lambda: pa.table(found))
    raise FunctionError(f"{function.name} returned {type(found).__name__}, expected a table or a dict of columns")


def _column(function: UserFunction, found: Any, kind: Type, what: str) -> pa.Array:
    wanted = to_arrow(kind)
    try:
        if isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
        column = found if isinstance(found, pa.Array) else pa.array(found, type=wanted)
        column = column if column.type.equals(wanted) else column.cast(wanted)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise FunctionError(f"{function.name} {what} what is not {kind.with_nullable(True)}: {error}") from error
    if not kind.nullable and column.null_count:
        raise FunctionError(f"{function.name} {what} NULL, and {kind} is declared")
    return column
