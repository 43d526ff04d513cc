"""Arithmetic of aligned windows: which panes a window covers, which windows a row belongs to. Pure, over int64 arrays.

A pane is the greatest stretch of time that no window border cuts. Pane p covers [offset + p * width, + width). Window k
ends at offset + k * slide. Does not know sessions (see `session.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qanat.sql.embedded.flow import Ints, safe
from qanat.sql.plan import Cumulate, Hop, Tumble


@dataclass(frozen=True, slots=True)
class Panes:
    """Windows of one window function. `span`: panes of a whole window, `stride`: panes from one window end to the next.

    `anchored`: windows of CUMULATE start at multiples of `span` instead of `span` panes before their end.
    """

    width: int
    offset: int
    span: int
    stride: int
    anchored: bool = False

    def of(self, times: Ints) -> Ints:
        """The pane of each event time (ms)."""
        return (times - self.offset) // self.width

    def first_window(self, panes: Ints) -> Ints:
        """The first window that covers the pane, by number."""
        return panes // self.stride + 1

    def last_window(self, panes: Ints) -> Ints:
        """The last window that covers the pane (smaller than the first one where none does)."""
        if self.anchored:
            return (panes // self.span + 1) * self.span
        return (panes + self.span) // self.stride

    def closed(self, watermark: Ints) -> Ints:
        """The last window that is closed at each watermark: end - 1 ms <= watermark."""
        return (safe(watermark) + 1 - self.offset) // (self.width * self.stride)

    def first_pane(self, windows: Ints) -> Ints:
        """The first pane of each window."""
        if self.anchored:
            return (windows - 1) // self.span * self.span
        return windows * self.stride - self.span

    def end_pane(self, windows: Ints) -> Ints:
        """The pane after the last one of each window."""
        return windows * self.stride

    def start(self, windows: Ints) -> Ints:
        """Window start (ms)."""
        return self.first_pane(windows) * self.width + self.offset

    def end(self, windows: Ints) -> Ints:
        """Window end (ms)."""
        return self.end_pane(windows) * self.width + self.offset

    def windows_with(self, panes: Ints, after: int, upto: int) -> Ints:
        """The windows in (after, upto] that cover at least one of `panes`, ascending."""
        first = np.maximum(self.first_window(panes), after + 1)
        last = np.minimum(self.last_window(panes), upto)
        return np.unique(expand(first, last)[1])


def expand(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """All numbers of the ranges first..last: (index of the range, number), in order; an empty range gives none."""
    counts = np.maximum(last - first + 1, 0)
    index = np.repeat(np.arange(len(first)), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(len(index)) - starts[index] + first[index]


def panes_of(window: Tumble | Hop | Cumulate) -> Panes:
    """The panes of a window function."""
    match window:
        case Tumble(size, offset):
            return Panes(size, offset, 1, 1)
        case Hop(size, slide, offset):
            width = math.gcd(size, slide)
            return Panes(width, offset, size // width, slide // width)
        case Cumulate(size, step, offset):
            return Panes(step, offset, size // step, 1, anchored=True)
