"""The arithmetic of aggregates over arrays: pieces of rows, each in one cell, to one line per cell. Pure, numpy only.

A piece is a run of rows in order of time that belong to one cell (group and window); a cell has one or more pieces,
from several series and several runs. Everything but a percentile is made per piece and then put together: spread by the
way of Chan, Golub and LeVeque (1979), so that large numbers close to each other keep their digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qanat.serve.aggregate.question import percent_of
from qanat.serve.aggregate.tally import Floats, Ints

#: From so many cells on values are sorted all at once instead of cell by cell.
_MANY_CELLS = 64


@dataclass(frozen=True, slots=True)
class Pieces:
    """Rows with finite values, piece after piece: `cells` and `counts` per piece (no count is 0), `values` per row, and
    `times` (ms) where `needs_times` of the functions. `newest`: the latest time, whatever where there is no row."""

    cells: Ints
    counts: Ints
    times: Ints
    values: Floats
    newest: int


@dataclass(frozen=True, slots=True)
class Cells:
    """Per cell that holds a row, in order."""

    cells: Ints
    count: Ints
    found: Mapping[str, Floats]
    newest: int


def needs_times(functions: Sequence[str]) -> bool:
    """Whether the time of each row matters, beside the order of rows."""
    return "first" in functions or "last" in functions


def combine(parts: Sequence[Pieces], functions: Sequence[str]) -> Cells | None:
    """One line per cell; None where there are no rows. Sums that leave the range of a double become infinite."""
    parts = [part for part in parts if len(part.cells)]
    if not parts:
        return None
    whole = parts[0] if len(parts) == 1 else _joined(parts)
    with np.errstate(over="ignore", invalid="ignore"):
        return _combined(whole, functions)


def _joined(parts: Sequence[Pieces]) -> Pieces:
    return Pieces(
        np.concatenate([part.cells for part in parts]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
        max(part.newest for part in parts),
    )


def _combined(whole: Pieces, functions: Sequence[str]) -> Cells:
    starts = _starts(whole.counts)
    order = np.argsort(whole.cells, kind="stable")
    ordered = whole.cells[order]
    firsts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    count = np.add.reduceat(whole.counts[order], firsts)
    found: dict[str, Floats] = {}
    for function in functions:
        match function:
            case "count":
                continue
            case "min":
                found[function] = np.minimum.reduceat(np.minimum.reduceat(whole.values, starts)[order], firsts)
            case "max":
                found[function] = np.maximum.reduceat(np.maximum.reduceat(whole.values, starts)[order], firsts)
            case "sum" | "avg":
                total = np.add.reduceat(np.add.reduceat(whole.values, starts)[order], firsts)
                found[function] = total / count if function == "avg" else total
            case "stddev":
                found[function] = _spread(whole, starts, order, firsts, count)
            case "first":
                found[function] = _earliest(whole, starts, order, ordered)
            case "last":
                found[function] = -_earliest(_mirrored(whole), starts, order, ordered)
            case _:
                found[function] = _percentile(whole, len(firsts), order, firsts, float(percent_of(function) or 0.0))
    return Cells(ordered[firsts], count, found, whole.newest)


def _starts(counts: Ints) -> Ints:
    return np.cumsum(counts) - counts


def _spread(whole: Pieces, starts: Ints, order: Ints, firsts: Ints, count: Ints) -> Floats:
    """The standard deviation of a sample; NaN for a single row."""
    means = np.add.reduceat(whole.values, starts) / whole.counts
    squares = np.add.reduceat((whole.values - np.repeat(means, whole.counts)) ** 2, starts)
    weights, means = whole.counts[order], means[order]
    centers = np.add.reduceat(means * weights, firsts) / count
    apart = (means - np.repeat(centers, np.diff(np.append(firsts, len(order))))) ** 2 * weights
    total = np.add.reduceat(squares[order], firsts) + np.add.reduceat(apart, firsts)
    with np.errstate(divide="ignore"):
        return np.where(count > 1, np.sqrt(total / (count - 1)), np.nan)


def _mirrored(whole: Pieces) -> Pieces:
    """The last is the first of what is turned round; rows of a piece stay in place, only their times count."""
    return Pieces(whole.cells, whole.counts, -whole.times, -whole.values, whole.newest)


def _earliest(whole: Pieces, starts: Ints, order: Ints, ordered: Ints) -> Floats:
    """The smallest value among the rows of the earliest time, per cell."""
    times = np.minimum.reduceat(whole.times, starts)
    there = whole.times == np.repeat(times, whole.counts)
    values = np.minimum.reduceat(np.where(there, whole.values, np.inf), starts)
    placed = np.lexsort((values[order], times[order], ordered))
    cells = ordered[placed]
    found: Floats = values[order][placed][np.concatenate([[True], cells[1:] != cells[:-1]])]
    return found


def _percentile(whole: Pieces, cells: int, order: Ints, firsts: Ints, percent: float) -> Floats:
    """As SQL's PERCENTILE_CONT: between the two nearest rows by their distance."""
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.repeat(np.arange(cells), np.diff(np.append(firsts, len(order))))
    if cells > _MANY_CELLS:
        rows = np.repeat(numbers, whole.counts)
        return _ranked(whole.values[np.lexsort((whole.values, rows))], np.bincount(rows, minlength=cells), percent)
    if cells == 1:
        return np.array([_between(whole.values, percent)])
    rows = np.repeat(numbers, whole.counts)
    return np.array([_between(whole.values[rows == cell], percent) for cell in range(cells)])


def _ranked(values: Floats, counts: Ints, percent: float) -> Floats:
    """`values` sorted within each cell."""
    ranks = (counts - 1) * (percent / 100)
    below = np.floor(ranks).astype(np.int64)
    above = np.minimum(below + 1, counts - 1)
    starts = _starts(counts)
    low, high = values[starts + below], values[starts + above]
    found: Floats = low + (high - low) * (ranks - below)
    return found


def _between(values: Floats, percent: float) -> float:
    rank = (len(values) - 1) * (percent / 100)
    below = int(rank)
    above = min(below + 1, len(values) - 1)
    part = np.partition(values, (below, above))
    return float(part[below] + (part[above] - part[below]) * (rank - below))
