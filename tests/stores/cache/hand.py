"""A clock that is moved by hand."""

from __future__ import annotations


class Hand:
    """See `qanat.clock.Clock`. Stands still until it is moved, by seconds."""

    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def move(self, seconds: float) -> None:
        self.at += seconds

    def now_ms(self) -> int:
        return round(self.at * 1000)

    def seconds(self) -> float:
        return round(self.at - 1_600_000_000, 6)
