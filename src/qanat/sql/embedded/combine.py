"""Panes -> windows on a dense grid. Pure numpy.

Sliding windows over many panes use the two-scan algorithm of van Herk (1992) and Gil and Werman (1993): about three
operations per window however long it is. Blocks are aligned to absolute panes, so that the order of floating-point
additions, and with it the result, does not depend on which windows happen to be computed together.
"""

from __future__ import annotations

import numpy as np

from qanat.sql.embedded.flow import Array, Ints
from qanat.sql.embedded.folds import Cell
from qanat.sql.embedded.panes import Panes

#: Up to this many panes per window, adding them one by one is faster than two scans.
_DIRECT = 24


def combine(cell: Cell, grid: Array, base: int, windows: Ints, panes: Panes) -> Array:
    """Accumulators of whole windows.

    `grid`: (panes, keys), row i is pane base + i; it covers every pane of `windows` (window numbers, ascending).
    Result: (windows, keys).
    """
    first = panes.first_pane(windows) - base
    end = panes.end_pane(windows) - base
    if panes.span == 1:
        return np.asarray(grid[first])
    if panes.anchored:
        return _prefixes(cell, grid, first, end)
    if panes.span <= _DIRECT:
        return _direct(cell, grid, first, panes)
    return _two_scans(cell, grid, base, first, panes.span)


def _direct(cell: Cell, grid: Array, first: Ints, panes: Panes) -> Array:
    step = panes.stride
    consecutive = len(first) == 1 or bool((np.diff(first) == step).all())
    result = cell.empty((len(first), grid.shape[1]))
    for pane in range(panes.span):
        if consecutive:
            rows = grid[first[0] + pane : first[-1] + pane + 1 : step]
        else:
            rows = grid[first + pane]
        cell.operation(result, rows, out=result)
    return result


def _prefixes(cell: Cell, grid: Array, first: Ints, end: Ints) -> Array:
    result = np.empty((len(first), grid.shape[1]), dtype=cell.dtype)
    for start in np.unique(first):
        mine = first == start
        scan = cell.operation.accumulate(grid[start : int(end[mine].max())], axis=0)
        result[mine] = scan[end[mine] - start - 1]
    return result


def _two_scans(cell: Cell, grid: Array, base: int, first: Ints, span: int) -> Array:
    before = base % span
    height = -(-(before + len(grid)) // span) * span
    padded = cell.empty((height, grid.shape[1]))
    padded[before : before + len(grid)] = grid
    blocks = padded.reshape(-1, span, grid.shape[1])
    ahead = cell.operation.accumulate(blocks, axis=1).reshape(height, -1)
    behind = cell.operation.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].reshape(height, -1)
    start = first + before
    whole = ahead[start + span - 1]
    aligned = (start % span == 0)[:, None]
    return np.asarray(np.where(aligned, whole, cell.operation(behind[start], whole)))
