"""WindowRank: window Top-N and window deduplication. Rows wait until their window closes; then the first of each
partition come out, in order of window end, partition, rank.

What can no longer be among the first is forgotten now and then, so that state is N rows per window and partition. Ties
keep the order of arrival, as in Flink; but the last row by the time attribute (ROW_NUMBER() = 1 in descending order,
Flink's window deduplication) is the last one to arrive.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Batch, Context, Ints, State, empty_frame, fired_at, instants, no_rows
from qanat.sql.embedded.sort_keys import sorted_places
from qanat.sql.expressions import Column
from qanat.sql.plan import Filter, Node, Project, WindowAssign, WindowRank

_START, _END = "__start", "__end"
#: From so many waiting rows on it is worth looking for those that cannot win any more.
_MANY = 16_384


class WindowRankOperator:
    """Runs one `WindowRank`."""

    def __init__(self, node: WindowRank, context: Context) -> None:
        self._node, self._context = node, context
        self._columns = [field.name for field in node.input.schema]
        marks = [pl.Series(name, [], dtype=pl.Int64) for name in (_START, _END)]
        self._waiting = [empty_frame(node.input.schema).with_columns(marks)]
        self._prune_at = _MANY
        self._empty = empty_frame(node.schema)
        self._next = np.iinfo(np.int64).max
        self._last_wins = _is_keep_last(node)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """Keep the rows; emit the windows that the batch closed."""
        (batch,) = batches
        if batch.frame.height:
            self._take(batch)
        if self._next - 1 > batch.end:
            return Batch(self._empty, no_rows(), batch.track)
        rows = self._rows()
        end = rows[_END].to_numpy()
        closed = pl.Series(end - 1 <= batch.end)
        self._waiting = [rows.filter(~closed)]
        self._next = int(self._waiting[0][_END].min() or np.iinfo(np.int64).max)  # type: ignore[arg-type]
        chosen, number = self._first(rows.filter(closed))
        ends = chosen[_END].to_numpy()
        return Batch(self._output(chosen, number), fired_at(batch.track, ends), batch.track)

    def _take(self, batch: Batch) -> None:
        start, end, time = (instants(batch.frame[name]) for name in self._node.window)
        late = end - 1 <= batch.before
        self._context.reject("window top-N", batch, late, time, "the window of the row is closed")
        good = ~late
        if not good.any():
            return
        marks = [pl.Series(_START, start[good]), pl.Series(_END, end[good])]
        self._waiting.append(batch.select(good).frame.select(self._columns).with_columns(marks))
        self._next = min(self._next, int(end[good].min()))
        if sum(part.height for part in self._waiting) > self._prune_at:
            self._waiting = [self._prune(self._rows())]
            self._prune_at = max(2 * self._waiting[0].height, _MANY)

    def _rows(self) -> pl.DataFrame:
        if len(self._waiting) > 1:
            self._waiting = [pl.concat(self._waiting)]
        return self._waiting[0]

    def _prune(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Without the rows behind the last rank, in the order in which they came."""
        order, number = self._numbered(rows)
        return rows[np.sort(order[number <= self._node.last])]

    def _first(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, Ints]:
        """The rows from the first to the last rank, in order, with their numbers."""
        order, number = self._numbered(rows)
        keep = (number >= self._node.first) & (number <= self._node.last)
        return rows[order[keep]], number[keep]

    def _numbered(self, rows: pl.DataFrame) -> tuple[Ints, Ints]:
        """Places of the rows in order of window, partition, order; and the ROW_NUMBER of each."""
        groups = rows.select(_END, *self._node.partition, _START)
        ranks = _ranks(groups)
        if self._last_wins:
            backwards = np.arange(rows.height)[::-1]
            order = backwards[sorted_places(rows[backwards], [ranks[backwards]], self._node.order)]
        else:
            order = sorted_places(rows, [ranks], self._node.order)
        group = ranks[order]
        starts = np.concatenate([[True], group[1:] != group[:-1]]) if len(group) else np.zeros(0, dtype=np.bool_)
        first = np.flatnonzero(starts)
        return order, np.arange(len(group)) - first[np.cumsum(starts) - 1] + 1

    def _output(self, rows: pl.DataFrame, number: Ints) -> pl.DataFrame:
        made = rows.select(self._columns)
        if self._node.number is not None:
            made = made.with_columns(pl.Series(self._node.number, number, dtype=pl.Int64))
        return made

    def snapshot(self) -> State:
        """Waiting rows."""
        return {"waiting": self._rows()}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._waiting = [state["waiting"]]
        self._next = int(state["waiting"][_END].min() or np.iinfo(np.int64).max)
        self._prune_at = max(2 * state["waiting"].height, _MANY)

    def held(self) -> int:
        """About how many bytes."""
        return sum(int(part.estimated_size()) for part in self._waiting)

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The partitions with the most waiting rows."""
        rows = self._rows()
        if not rows.height:
            return []
        names = list(self._node.partition)
        if not names:
            return [("(all rows)", self.held())]
        most = rows.group_by(names, maintain_order=True).len("__rows").top_k(count, by="__rows")
        each = self.held() / rows.height
        return [(", ".join(map(str, row[:-1])), int(row[-1] * each)) for row in most.rows()]


def _ranks(groups: pl.DataFrame) -> Ints:
    """For each row the place of its group among the sorted ones; NULL before all."""
    distinct = groups.unique().sort(groups.columns).with_row_index("__rank")
    joined = groups.join(distinct, on=groups.columns, how="left", nulls_equal=True, maintain_order="left")
    return joined["__rank"].to_numpy().astype(np.int64)


def _is_keep_last(node: WindowRank) -> bool:
    if node.first != 1 or node.last != 1 or len(node.order) != 1 or not node.order[0].descending:
        return False
    return _is_event_time(node.input, node.order[0].column)


def _is_event_time(node: Node, column: str) -> bool:
    """Whether the column is a time attribute, or was one before the window function took that from it."""
    match node:
        case Filter(input=below):
            return _is_event_time(below, column)
        case Project(input=below):
            names = [field.name for field in node.schema]
            origin = node.expressions[names.index(column)]
            return isinstance(origin, Column) and _is_event_time(below, origin.name)
        case WindowAssign(time=time) if time == column:
            return True
        case _:
            return any(field.name == column and field.time_attribute for field in node.schema)
