"""Windows over windows: GROUP BY the window_start and window_end that rows already carry."""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.model.types import BIGINT
from qanat.sql.embedded.flow import Batch, Context, State, empty_column, fired_at, instants, no_rows
from qanat.sql.embedded.grouping import Grouping
from qanat.sql.embedded.groups import aggregate_groups
from qanat.sql.embedded.keys import KeyIndex
from qanat.sql.embedded.row_buffer import KEY, TIME, RowBuffer, sort_order
from qanat.sql.plan import WindowAggregate

_END, _START = "__window_end", "__window_start"


class AttachedAggregateOperator:
    """Runs one `WindowAggregate` whose input rows carry their window."""

    def __init__(self, node: WindowAggregate, context: Context) -> None:
        if node.attached is None:
            raise TypeError("rows must carry their window")
        self._context = context
        self._attached, self._time = node.attached, node.time
        self._grouping = Grouping(node)
        marks = [empty_column(BIGINT).alias(name) for name in (_END, _START)]
        self._keys = KeyIndex(
            self._grouping.empty_keys.with_columns(marks).select([_END, _START, pl.exclude(_END, _START)])
        )
        self._buffer = RowBuffer(self._grouping.empty_arguments.with_columns(marks[0]))
        self._calls = list(enumerate(node.aggregates))

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Keep the rows; emit the windows that the batch closed."""
        (batch,) = batches
        if batch.frame.height:
            self._take(batch)
        rows = self._buffer.rows()
        due = rows.filter(pl.col(_END) - 1 <= batch.end)
        if not due.height:
            return Batch(self._grouping.empty_output, no_rows(), batch.track)
        self._buffer.restore({**self._buffer.snapshot(), "rows": rows.filter(pl.col(_END) - 1 > batch.end)})
        rank = self._keys.rank()
        order = sort_order(rank[due[KEY].to_numpy()], due[TIME].to_numpy())
        due = due[order]
        keys = due[KEY].to_numpy()
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        columns = aggregate_groups(due, np.append(first, len(keys)), self._calls)
        values = self._keys.rows(keys[first])
        starts, ends = values[_START].to_numpy(), values[_END].to_numpy()
        output = self._grouping.output(values.drop(_START, _END), dict(enumerate(columns)), starts, ends)
        renumber = self._keys.keep(self._buffer.keys())
        if renumber is not None:
            self._buffer.renumber(renumber)
        return Batch(output, fired_at(batch.track, ends), batch.track)

    def _take(self, batch: Batch) -> None:
        start, end = (instants(batch.frame[name]) for name in self._attached)
        late = end - 1 <= batch.before
        self._context.reject("window aggregate", batch, late, end - 1, "the window of the row is closed")
        good = batch.select(~late)
        marks = [pl.Series(_END, end[~late]), pl.Series(_START, start[~late])]
        keys = self._grouping.keys(good.frame).with_columns(marks).select([_END, _START, pl.exclude(_END, _START)])
        arguments = self._grouping.arguments(good.frame).with_columns(marks[0])
        self._buffer.add(arguments, self._keys.encode(keys), instants(good.frame[self._time]))

    def snapshot(self) -> State:
        """Keys and waiting rows."""
        return {"keys": self._keys.snapshot(), "rows": self._buffer.snapshot()}

    def held(self) -> int:
        """About how many bytes of state there are."""
        return self._keys.held() + self._buffer.held()

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys (each with its window end and start, ms) that hold most."""
        return self._keys.largest([self._buffer.weight()], count)

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._keys.restore(state["keys"])
        self._buffer.restore(state["rows"])
