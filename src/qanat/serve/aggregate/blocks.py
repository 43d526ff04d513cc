"""Rows of one stretch of time in memory: sorted runs of (series, time) with values. numpy only, no loops over rows.

A block takes rows as small runs and merges runs that are alike in size, so a row is moved about log2(rows) times in
all, and a late row costs what any row costs. A key is the series' number and, in the low bits, the ms since the block
began; so all rows of a series from one time to another are found by two binary searches. Blocks never change: adding
gives a new one, and whoever looks at an old one is not disturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from qanat.serve.aggregate.pieces import Pieces
from qanat.serve.aggregate.tally import Floats, Ints

#: Bytes of a row with a value.
ROW_BYTES = 16
_NOTHING = np.empty(0, dtype=np.float64)
_NO_TIMES = np.empty(0, dtype=np.int64)
#: Spans that are longer than this on the average are copied one by one, shorter ones row by row.
_LONG_SPAN = 64
#: Up to so many searches in a run go the short way.
_FEW_SEARCHES = 256
#: Runs that are longer are not merged any more, so that no merge takes longer than some 100 ms.
_LONGEST_RUN = 1 << 21
_GROWTH = 4

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True)
class Run:
    """Rows in the order of their keys; `values` is empty where the rows have none."""

    keys: Ints
    values: Floats

    @property
    def bytes(self) -> int:
        """Memory."""
        return int(self.keys.nbytes + self.values.nbytes)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader looks for in all blocks: numbers of series in order, the cell of the first window of each (its
    group times the number of windows), and the borders of the windows (ms). `everything`: these are all series.
    `times`: the time of each row is asked for, too.
    """

    series: Ints
    cells: Ints
    edges: Ints
    start: int
    end: int
    everything: bool
    times: bool


@dataclass(frozen=True, slots=True)
class Block:
    """The rows with times from `begin` on, for `1 << shift` ms at most."""

    begin: int
    shift: int
    runs: tuple[Run, ...] = ()
    gaps: tuple[Run, ...] = ()

    @property
    def bytes(self) -> int:
        """Memory."""
        return sum(run.bytes for run in (*self.runs, *self.gaps))

    def added(self, series: Ints, times: Ints, values: Floats) -> Block:
        """With more rows; those without a finite value are kept apart."""
        keys = series << self.shift | (times - self.begin)
        finite = np.isfinite(values)
        if finite.all():
            return replace(self, runs=_merged((*self.runs, _sorted(keys, values))))
        runs, gaps = self.runs, _merged((*self.gaps, Run(np.sort(keys[~finite]), _NOTHING)))
        if finite.any():
            runs = _merged((*runs, _sorted(keys[finite], values[finite])))
        return replace(self, runs=runs, gaps=gaps)

    def since(self, time: int) -> Block:
        """Without the rows before `time`."""
        first = time - self.begin
        return replace(
            self,
            runs=tuple(_later(run, first, self.shift) for run in self.runs),
            gaps=tuple(_later(run, first, self.shift) for run in self.gaps),
        )

    def time_at(self, part: float) -> int:
        """The time before which about that part of the rows lies."""
        times = np.concatenate([run.keys for run in (*self.runs, *self.gaps)]) & ((1 << self.shift) - 1)
        place = min(len(times) - 1, int(len(times) * part))
        return int(np.partition(times, place)[place]) + self.begin

    def share(self, start: int, end: int) -> float:
        """How much of its stretch of time lies in a range."""
        width = 1 << self.shift
        return max(0, min(end, self.begin + width) - max(start, self.begin)) / width

    def pieces(self, wanted: Wanted) -> list[Pieces]:
        """The rows that are looked for."""
        first, after, cuts, bucket = self._cuts(wanted)
        if first >= after or not self.runs:
            return []
        base = wanted.series << self.shift
        if len(base) * len(cuts) <= _FEW_SEARCHES and not wanted.times:
            return [self._narrow(wanted, base[:, None] + cuts, bucket)]
        whole = wanted.everything and first == 0 and after >= 1 << self.shift
        return [self._piece(run, wanted, cuts, bucket, whole=whole) for run in self.runs]

    def _narrow(self, wanted: Wanted, grid: Ints, bucket: int) -> Pieces:
        """A few series in a few windows: a search for each in every run, all else for all runs at once."""
        found = np.array([run.keys.searchsorted(grid) for run in self.runs])
        counts = found[:, :, 1:] - found[:, :, :-1]
        cells = wanted.cells[:, None] + np.arange(bucket, bucket + grid.shape[1] - 1)
        there = counts > 0
        spans, newest, mask = [_NOTHING], 0, (1 << self.shift) - 1
        for run, lows, highs in zip(self.runs, found[:, :, 0].tolist(), found[:, :, -1].tolist(), strict=True):
            for low, high in zip(lows, highs, strict=True):
                if low < high:
                    spans.append(run.values[low:high])
                    newest = max(newest, int(run.keys[high - 1]) & mask)
        all_cells = np.broadcast_to(cells, counts.shape)
        return Pieces(all_cells[there], counts[there], _NO_TIMES, np.concatenate(spans), newest + self.begin)

    def count_gaps(self, wanted: Wanted) -> int:
        """How many rows without a value there are."""
        if not self.gaps:
            return 0
        first, after, _, _ = self._cuts(wanted)
        base = wanted.series << self.shift
        ends = (np.searchsorted(run.keys, base + after) - np.searchsorted(run.keys, base + first) for run in self.gaps)
        return int(sum(end.sum() for end in ends)) if first < after else 0

    def _cuts(self, wanted: Wanted) -> tuple[int, int, Ints, int]:
        """From and to within the block, the borders of windows there with both, and the first window's number."""
        begin, after = max(wanted.start, self.begin), min(wanted.end, self.begin + (1 << self.shift))
        if begin >= after:
            return 0, 0, wanted.edges[:0], 0
        low = int(np.searchsorted(wanted.edges, begin, side="right")) - 1
        high = int(np.searchsorted(wanted.edges, after, side="left"))
        cuts = wanted.edges[low : high + 1] - self.begin
        cuts[0], cuts[-1] = begin - self.begin, after - self.begin
        return begin - self.begin, after - self.begin, cuts, low

    def _piece(self, run: Run, wanted: Wanted, cuts: Ints, bucket: int, *, whole: bool) -> Pieces:
        """A search per series and window where these are few, else one per series and one per row."""
        base = wanted.series << self.shift
        mask = (1 << self.shift) - 1
        few = len(wanted.series) * len(cuts) <= len(run.keys) // 2 + 256
        found = np.searchsorted(run.keys, base[:, None] + (cuts if few else cuts[[0, -1]])[None, :])
        low, high = found[:, 0], found[:, -1]
        values = run.values if whole else _gathered(run.values, low, high)
        ends = high[high > low]
        newest = int((run.keys[ends - 1] & mask).max(initial=-1)) + self.begin
        times = _NO_TIMES
        if wanted.times or not few:
            times = (run.keys if whole else _gathered(run.keys, low, high)) & mask
        if few:
            cells = wanted.cells[:, None] + np.arange(bucket, bucket + len(cuts) - 1)
            counts = np.diff(found, axis=1)
            there = counts > 0
            return Pieces(cells[there], counts[there], times + self.begin, values, newest)
        cells = np.repeat(wanted.cells, high - low) + (np.searchsorted(cuts, times, side="right") - 1 + bucket)
        starts = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]])) if len(cells) else cells
        return Pieces(cells[starts], np.diff(np.append(starts, len(cells))), times + self.begin, values, newest)


def _gathered(array: npt.NDArray[Number], low: Ints, high: Ints) -> npt.NDArray[Number]:
    """What lies from low to high, one span after the other."""
    counts = high - low
    total = int(counts.sum())
    if total >= _LONG_SPAN * len(low):
        spans = [array[begin:end] for begin, end in zip(low.tolist(), high.tolist(), strict=True)]
        return np.concatenate(spans) if spans else array[:0]
    return array[np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(total)]


def _sorted(keys: Ints, values: Floats) -> Run:
    order = np.argsort(keys, kind="stable")
    return Run(keys[order], values[order])


def _merged(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The last run grows as long as it is not much shorter than the one before it: sizes fall from run to run."""
    left = list(runs)
    while len(left) > 1 and len(left[-2].keys) <= min(_GROWTH * len(left[-1].keys), _LONGEST_RUN):
        last, before = left.pop(), left.pop()
        keys = np.concatenate([before.keys, last.keys])
        order = np.argsort(keys, kind="stable")  # of two runs it is a merge
        values = np.concatenate([before.values, last.values])
        left.append(Run(keys[order], values[order] if len(values) else _NOTHING))
    return tuple(left)


def _later(run: Run, first: int, shift: int) -> Run:
    kept = run.keys & ((1 << shift) - 1) >= first
    return Run(run.keys[kept], run.values[kept] if len(run.values) else _NOTHING)
