"""What a feeder reads: one stream of a log, and how far its consumer has it. The log's side is put in from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from qanat.stores.hot.rows import Piece


class Source(Protocol):
    """Rows in the order of their offsets. Used by one thread. Errors: those of the log."""

    def starts(self) -> Mapping[int, int]:
        """By partition, the first offset that is still there."""
        ...

    def ends(self) -> Mapping[int, int]:
        """By partition, the offset after the last row."""
        ...

    def position(self) -> Mapping[int, int]:
        """By partition, the offset that the consumer stored."""
        ...

    def read(self, partition: int, offset: int, rows: int) -> Sequence[Piece]:
        """About so many rows from `offset` on, or from the first that is still there; none at the end."""
        ...

    def advance(self, position: Mapping[int, int]) -> None:
        """Store where the consumer stands, durably. The log may delete what lies before."""
        ...
