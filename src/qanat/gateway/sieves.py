"""Rows on their way to a subscriber, without those that his filter does not mean. Looked up in the log, keeps one page.

Deliveries are JSON; conditions compare values of the types that columns have, so the stored rows are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from qanat.gateway.filters import Filter
from qanat.gateway.pages import Delivery
from qanat.log.base import Log

Push = Callable[[Sequence[Delivery]], None]


class Sieve:
    """One stream and one filter, for all subscribers who have asked for the same."""

    def __init__(self, log: Log, stream: str, wanted: Filter) -> None:
        self._log, self._stream, self._wanted = log, stream, wanted
        self._last: Sequence[Delivery] = ()
        self._kept: Sequence[Delivery] = ()

    def before(self, push: Push) -> Push:
        """What pushes the rows that are left, where there are any."""

        def sift(rows: Sequence[Delivery]) -> None:
            kept = self.keep(rows)
            if kept:
                push(kept)

        return sift

    def keep(self, rows: Sequence[Delivery]) -> Sequence[Delivery]:
        """The rows that are meant. Those that were deleted since are not. Raises `LogError`."""
        if rows is not self._last:  # who stands at the same place is given the same rows
            kept: list[Delivery] = []
            for partition, some in groupby(rows, lambda row: row.partition):
                kept += self._of(partition, list(some))
            self._last, self._kept = rows, kept
        return self._kept

    def _of(self, partition: int, rows: Sequence[Delivery]) -> list[Delivery]:
        offset, end = rows[0].offset, rows[-1].offset + 1
        meant: set[int] = set()
        while offset < end and (chunks := self._log.read((self._stream, partition), offset, end - offset)):
            for chunk in chunks:
                meant.update((self._wanted.places(chunk.rows) + chunk.offset).tolist())
            offset = chunks[-1].end
        return [row for row in rows if row.offset in meant]
