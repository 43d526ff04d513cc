"""Rank: Top-N per partition, kept up to date, as Flink's AppendOnlyTopN, FastTop1, UpdatableTopN and RetractableTopN.

With a number (or from a rank above 1) every rank whose row changes gives -U and +U, in order of ranks; where the list
grows the last rank gives +I, where it shrinks -D. Without: -D for the row that leaves, +I for the one that enters.
For N = 1 over inserts that is one -U and +U. Ties keep the order of arrival.

    inserts, order by numbers, small N   `top_arrays`: all partitions at once
    else                                 `top_lists`: row by row
"""

from __future__ import annotations

import numpy as np
import polars as pl

from qanat.sql.changelog import changes_of
from qanat.sql.embedded.flow import Batch, Context, State, empty_frame, no_rows
from qanat.sql.embedded.sort_keys import has_numbers
from qanat.sql.embedded.updating.improving import only_improves
from qanat.sql.embedded.updating.lifetimes import Lifetimes
from qanat.sql.embedded.updating.row_store import RowStore
from qanat.sql.embedded.updating.top import Emitted, Top
from qanat.sql.embedded.updating.top_arrays import TopArrays
from qanat.sql.embedded.updating.top_lists import TopLists
from qanat.sql.plan import Rank

#: Up to this many ranks a partition is a row of an array.
_WIDEST = 64
_SPARE = 4096


class RankOperator:
    """Runs one `Rank`."""

    def __init__(self, node: Rank, context: Context) -> None:
        self._node, self._context = node, context
        schema = node.input.schema
        self._empty = empty_frame(node.schema)
        self._partition = list(node.partition)
        self._keys = Lifetimes(empty_frame(schema).select(self._partition), node.ttl)
        self._rows = RowStore(empty_frame(schema))
        updates = changes_of(node.input).updates
        self._check_at = _SPARE
        self._top: Top
        if not updates and node.last <= _WIDEST and has_numbers(node.order, schema):
            self._top = TopArrays(node)
        else:
            self._top = TopLists(node, keep_all=updates, improving=updates and only_improves(node))

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """What the rows change among the first."""
        (batch,) = batches
        if not batch.frame.height:
            return Batch(self._empty, no_rows(), batch.track)
        arrivals = self._context.arrived[batch.seq]
        keys = self._keys.encode(batch.frame)
        self._top.grow(len(self._keys))
        parts = []
        for low, high in self._keys.stretches(keys, arrivals):
            self._top.clear(keys[low:high][~self._keys.has(keys[low:high])])
            kinds = None if batch.kinds is None else batch.kinds[low:high]
            frame = batch.frame[low:high]
            emitted = self._top.take(frame, keys[low:high], batch.seq[low:high], kinds, self._rows.height)
            parts.append((self._frame(emitted, frame), batch.seq[low + emitted.row], emitted.kind))
            self._rows.add(self._top.settle(frame, self._rows.height))
            written = self._top.written
            self._keys.touch(keys[low + written], arrivals[low + written])
        self._forget(int(arrivals[-1]))
        frames, seqs, kinds_ = zip(*parts, strict=True)
        return Batch(pl.concat(frames), np.concatenate(seqs), batch.track, np.concatenate(kinds_))

    def _frame(self, emitted: Emitted, frame: pl.DataFrame) -> pl.DataFrame:
        """Output rows: numbers below the height of the store are stored rows, those above rows of the batch."""
        stored = emitted.number < self._rows.height
        known = self._rows.rows(emitted.number[stored])
        place = np.empty(len(stored), dtype=np.int64)
        place[stored] = np.arange(known.height)
        place[~stored] = known.height + emitted.number[~stored] - self._rows.height
        made = pl.concat([known, frame])[place]
        if self._node.number is None:
            return made
        field = self._node.schema[-1]
        return made.with_columns(pl.Series(field.name, emitted.rank, dtype=pl.Int64))

    def _forget(self, now: int) -> None:
        renumber = self._keys.sweep(now)
        if renumber is not None:
            self._top.renumber(renumber)
        if self._rows.height > self._check_at:
            self._check_at = 2 * self._top.size() + _SPARE
            if self._rows.height > self._check_at:
                self._compact()

    def _compact(self) -> None:
        """Leave out rows that no partition has any more; the rest stand partition by partition, in their order."""
        self._rows.restore({"rows": self._rows.rows(self._top.numbers())})
        self._top.number_afresh()

    def snapshot(self) -> State:
        """Partitions and their rows in order."""
        self._top.renumber(self._keys.keep(self._keys.present()))
        self._compact()
        return {"keys": self._keys.snapshot(), "rows": self._rows.snapshot(), "counts": self._top.counts()}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._keys.restore(state["keys"])
        self._rows.restore(state["rows"])
        self._top.restore(self._rows.all(), state["counts"])

    def held(self) -> int:
        """About how many bytes."""
        return self._keys.held() + self._rows.held() + self._top.held()

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The partitions with the most rows."""
        counts = self._top.counts()
        most = np.argsort(-counts, kind="stable")[:count]
        names = self._keys.names(most)
        each = self.held() / max(int(counts.sum()), 1)
        return [(name, int(each * rows)) for name, rows in zip(names, counts[most].tolist(), strict=True)]
