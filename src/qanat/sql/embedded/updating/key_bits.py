"""Floats as keys: their bits count, as in Flink (-0.0 and 0.0 are two keys, all NaN are one)."""

from __future__ import annotations

import numpy as np
import polars as pl


def comparable(rows: pl.DataFrame) -> pl.DataFrame:
    """The same rows with floats as whole numbers, since polars takes -0.0 for 0.0."""
    real = [name for name, kind in rows.schema.items() if kind.is_float()]
    return rows.with_columns(_bits(rows[name]) for name in real) if real else rows


def _bits(column: pl.Series) -> pl.Series:
    values = column.cast(pl.Float64).fill_null(0.0).to_numpy().copy()
    values[np.isnan(values)] = np.nan
    bits = pl.Series(column.name, values.view(np.int64))
    return bits if not column.null_count() else bits.zip_with(column.is_not_null(), pl.Series([None], dtype=pl.Int64))
