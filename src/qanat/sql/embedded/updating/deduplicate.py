"""Deduplicate: the first or the last row per key, by event time or by arrival. Input: inserts only.

LAST by time     +I, then -U and +U for every row that is not older than the kept one (Flink: RowTimeDeduplicate)
FIRST by time    insert-only: the earliest row, once the watermark has reached it, so that none can come before it
                 (Flink: RowTimeDeduplicateKeepFirstRow); a row behind the watermark is late
FIRST by arrival insert-only: the row that brought the key
LAST by arrival  +I, then -U and +U for every row that differs from the one before (with a TTL: for every row)
"""

from __future__ import annotations

from qanat.sql.embedded.flow import Batch, Context, State
from qanat.sql.embedded.updating.keep_first import FirstByArrival, FirstByTime
from qanat.sql.embedded.updating.keep_last import KeepLast
from qanat.sql.plan import Deduplicate


class DeduplicateOperator:
    """Runs one `Deduplicate`."""

    def __init__(self, node: Deduplicate, context: Context) -> None:
        self._policy: KeepLast | FirstByArrival | FirstByTime
        if node.keep == "LAST":
            self._policy = KeepLast(node, context)
        elif node.time is None:
            self._policy = FirstByArrival(node, context)
        else:
            self._policy = FirstByTime(node, context)

    def process(self, batches: tuple[Batch, ...]) -> Batch:
        """What the rows change."""
        (batch,) = batches
        if batch.kinds is not None and batch.kinds.any():
            raise TypeError("deduplication takes inserts only; Rank takes a changelog")
        return self._policy.process(batch)

    def snapshot(self) -> State:
        """Keys and the rows that are kept for them."""
        return self._policy.snapshot()

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._policy.restore(state)

    def held(self) -> int:
        """About how many bytes."""
        return self._policy.held()

    def largest(self, count: int) -> list[tuple[str, int]]:
        """All keys hold about the same: some of them."""
        return self._policy.keys.largest(count, self._policy.held())
