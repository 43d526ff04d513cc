"""Accumulators per (pane, key): sparse, sorted by pane, then key number. Rows are folded in, panes are taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qanat.sql.embedded.flow import Array, Ints, State, no_rows
from qanat.sql.embedded.folds import FoldSet, Inputs

#: A lookup table is used instead of a sort where it has at most this many entries per row.
_DENSE = 6


class PaneStore:
    """One entry per pane and key that has rows; `columns[c]` is accumulator column c of `folds`."""

    def __init__(self, folds: FoldSet) -> None:
        self.folds = folds
        self.pane = no_rows()
        self.key = no_rows()
        self.columns: list[Array] = [cell.empty(0) for cell in folds.cells]

    def add(self, panes: Ints, keys: Ints, inputs: Sequence[Inputs]) -> None:
        """Fold rows in, in their order. `inputs`: one per fold."""
        if not len(panes):
            return
        low, high = int(panes.min()), int(panes.max())
        begin, end = (int(i) for i in np.searchsorted(self.pane, [low, high + 1]))
        slots = self._slots(panes, keys, begin, end, low, high)
        self.folds.add([column[begin:] for column in self.columns], slots, inputs)

    def _slots(self, panes: Ints, keys: Ints, begin: int, end: int, low: int, high: int) -> Ints:
        """The entry of each row, counted from `begin`; makes missing entries in the stretch [begin, end)."""
        width = max(int(keys.max()), int(self.key[begin:end].max(initial=0))) + 1
        area = (high - low + 1) * width
        if area <= max(_DENSE * (len(panes) + end - begin), 65_536):
            code = (panes - low) * width + keys
            old = (self.pane[begin:end] - low) * width + self.key[begin:end]
            present = np.zeros(area, dtype=np.bool_)
            present[code] = True
            present[old] = True
            codes = np.flatnonzero(present)
            table = np.empty(area, dtype=np.int64)
            table[codes] = np.arange(len(codes))
            self._widen(begin, end, codes // width + low, codes % width, table[old])
            return np.asarray(table[code])
        distinct = np.unique(np.concatenate([panes, self.pane[begin:end]]))
        code = np.searchsorted(distinct, panes) * width + keys
        old = np.searchsorted(distinct, self.pane[begin:end]) * width + self.key[begin:end]
        codes = np.unique(np.concatenate([code, old]))
        self._widen(begin, end, distinct[codes // width], codes % width, np.searchsorted(codes, old))
        return np.searchsorted(codes, code)

    def _widen(self, begin: int, end: int, pane: Ints, key: Ints, kept: Ints) -> None:
        """Replace the stretch [begin, end) by entries `pane`, `key`, of which `kept` are those that were there."""
        if len(pane) == end - begin:
            return
        self.pane = np.concatenate([self.pane[:begin], pane, self.pane[end:]])
        self.key = np.concatenate([self.key[:begin], key, self.key[end:]])
        for i, (cell, column) in enumerate(zip(self.folds.cells, self.columns, strict=True)):
            fresh = cell.empty(len(pane))
            fresh[kept] = column[begin:end]
            self.columns[i] = np.concatenate([column[:begin], fresh, column[end:]])

    def panes(self) -> Ints:
        """The panes that have entries, ascending."""
        if not len(self.pane):
            return self.pane
        fresh = np.concatenate([[True], self.pane[1:] != self.pane[:-1]])
        found: Ints = self.pane[fresh]
        return found

    def stretch(self, first: int, end: int) -> tuple[int, int]:
        """The entries of panes first <= pane < end, as a range of indices."""
        begin, stop = np.searchsorted(self.pane, [first, end])
        return int(begin), int(stop)

    def drop_before(self, pane: int) -> None:
        """Forget panes below `pane`."""
        cut = int(np.searchsorted(self.pane, pane))
        if cut:
            self.pane, self.key = self.pane[cut:].copy(), self.key[cut:].copy()
            self.columns = [column[cut:].copy() for column in self.columns]

    def held(self) -> int:
        """How many bytes the entries take."""
        return int(self.pane.nbytes + self.key.nbytes + sum(column.nbytes for column in self.columns))

    def weight(self) -> tuple[Ints, float]:
        """The key of every entry, and how many bytes an entry takes: see `KeyIndex.largest`."""
        return self.key, self.held() / max(len(self.key), 1)

    def renumber(self, keys: Ints) -> None:
        """Keys have new numbers: old number -> new one."""
        self.key = keys[self.key]

    def snapshot(self) -> State:
        """All entries."""
        return {"pane": self.pane, "key": self.key, "columns": list(self.columns)}

    def restore(self, state: State) -> None:
        """Take the entries of a snapshot."""
        self.pane, self.key, self.columns = state["pane"], state["key"], list(state["columns"])
