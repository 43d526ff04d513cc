"""UNNEST and table functions: each input row with every row that comes of it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from qanat.model.functions import UserFunction
from qanat.model.types import Kind
from qanat.sql.embedded.flow import Batch, Ints, empty_frame, polars_type
from qanat.sql.embedded.kernels import dtype_of, to_polars
from qanat.sql.embedded.simple import Stateless
from qanat.sql.embedded.user_functions import call_table
from qanat.sql.plan import Correlate


class CorrelateOperator(Stateless):
    """Runs one `Correlate`. Its rows stand in the order of the input rows, then of the elements."""

    def __init__(self, node: Correlate) -> None:
        self._node = node
        self._arguments = [to_polars(one).alias(f"__arg{i}") for i, one in enumerate(node.args)]
        self._width = len(node.input.schema)
        self._added = node.schema[self._width :]
        self._empty = empty_frame(node.schema)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Repeat the rows; one without elements is left out, or (LEFT) stays with NULLs."""
        (batch,) = batches
        kinds = batch.kinds
        if not batch.frame.height:
            return Batch(self._empty, batch.seq, batch.track, kinds)
        arguments = batch.frame.with_columns(self._arguments).select(f"__arg{i}" for i in range(len(self._arguments)))
        rows, columns = self._elements(arguments)
        if self._node.kind == "LEFT":
            rows, columns = _with_missing(rows, columns, batch.frame.height)
        names = [field.name for field in self._node.schema[: self._width]]
        # the input's columns by position: a rule may have pruned it to other names
        frame = batch.frame[rows].rename(dict(zip(batch.frame.columns, names, strict=True)))
        made = [
            column.cast(polars_type(field.type)).alias(field.name)
            for column, field in zip(columns, self._added, strict=True)
        ]
        frame = frame.with_columns(made)
        return Batch(frame, batch.seq[rows], batch.track, None if kinds is None else kinds[rows])

    def _elements(self, arguments: pl.DataFrame) -> tuple[Ints, list[pl.Series]]:
        """For each element the place of its input row, and the columns of the elements."""
        function = self._node.function
        if function is not None:
            return _called(function, arguments)
        return self._unnested(arguments.to_series())

    def _unnested(self, lists: pl.Series) -> tuple[Ints, list[pl.Series]]:
        kind = self._node.args[0].type
        if kind.kind is Kind.MAP:
            lists = lists.cast(dtype_of(kind))
        lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
        rows = np.repeat(np.arange(len(lists)), lengths)
        inside = lists.filter(pl.Series(lengths > 0)).explode(empty_as_null=True)
        in_columns = kind.kind is Kind.MAP or (kind.element is not None and kind.element.kind is Kind.ROW)
        columns = inside.struct.unnest().get_columns() if in_columns else [inside]
        if self._node.ordinality:
            first = np.cumsum(lengths) - lengths
            columns.append(pl.Series("", np.arange(len(rows)) - first[rows] + 1))
        return rows, columns


def _called(function: UserFunction, arguments: pl.DataFrame) -> tuple[Ints, list[pl.Series]]:
    table = call_table(function, [one.to_arrow(compat_level=pl.CompatLevel.oldest()) for one in arguments])
    rows = np.asarray(table.column(0).to_numpy(), dtype=np.int64)
    return rows, [_series(column) for column in table.columns[1:]]


def _series(column: pa.ChunkedArray) -> pl.Series:
    made = pl.from_arrow(column)
    if not isinstance(made, pl.Series):
        raise TypeError("one column expected")
    return made


def _with_missing(rows: Ints, columns: list[pl.Series], count: int) -> tuple[Ints, list[pl.Series]]:
    """With a row of NULLs for each input row that has no element."""
    missing = np.setdiff1d(np.arange(count), rows)
    if not len(missing):
        return rows, columns
    whole = np.concatenate([rows, missing])
    order = np.argsort(whole, kind="stable")
    filled = [column.extend_constant(None, len(missing))[order] for column in columns]
    return whole[order], filled
