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
        rows = len(columns[0])
        whole = [one if len(one) == rows else one.new_from_index(0, rows) for one in columns[1:]]
        arrays = [one.to_arrow(compat_level=pl.CompatLevel.oldest()) for one in whole]
        made = pl.from_arrow(call_scalar(function, arrays, rows))
        if not isinstance(made, pl.Series):
            raise TypeError("one column expected")
        return made.cast(dtype)

    # constants do not say how many rows there are
    return pl.map_batches([pl.int_range(pl.len()), *arguments], run, return_dtype=dtype)
