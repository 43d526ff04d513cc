"""Calls of the user's scalar functions inside an expression."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from qanat.model.functions import UserFunction
from qanat.sql.embedded.kernels.base import dtype_of
from qanat.sql.embedded.user_functions import call_scalar


def call(function: UserFunction, arguments: list[pl.Expr]) -> pl.Expr:
    """The function over whole columns; constants come as columns, too."""
    assert function.result is not None
    dtype = dtype_of(function.result)

    def run(columns: Sequence[pl.Series]) -> pl.Series:
        rows = max(len(one) for one in columns)
        whole = [one if len(one) == rows else one.new_from_index(0, rows) for one in columns]
        arrays = [one.to_arrow(compat_level=pl.CompatLevel.oldest()) for one in whole]
        made = pl.from_arrow(call_scalar(function, arrays, rows))
        if not isinstance(made, pl.Series):
            raise TypeError("one column expected")
        return made.cast(dtype)

    # without arguments it is called for as many rows as there are
    given = arguments or [pl.int_range(pl.len())]
    body = run if arguments else lambda columns: run_without(function, len(columns[0]), dtype)
    return pl.map_batches(given, body, return_dtype=dtype)


def run_without(function: UserFunction, rows: int, dtype: pl.DataType) -> pl.Series:
    """A function without arguments, for `rows` rows."""
    made = pl.from_arrow(call_scalar(function, [], rows))
    if not isinstance(made, pl.Series):
        raise TypeError("one column expected")
    return made.cast(dtype)
