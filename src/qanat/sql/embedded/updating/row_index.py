"""Whole rows <-> small integers, so that row-by-row work runs on numbers. NULL equals NULL, NaN equals NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Ints
from qanat.sql.embedded.pairs import ENTRY_BYTES, picked

_COMPACT_ABOVE = 4096


class RowIndex:
    """Numbers distinct rows of one schema 0, 1, 2 ..., in the order in which they are first seen."""

    def __init__(self, empty: pl.DataFrame) -> None:
        """`empty`: a frame of the schema without rows."""
        self._empty = empty
        self._parts: list[pl.DataFrame] = []
        self._numbers: dict[Any, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def encode(self, frame: pl.DataFrame) -> list[int]:
        """The number of each row; new rows get new numbers."""
        numbers, count = self._numbers, len(self._numbers)
        found: list[int] = []
        fresh: list[int] = []
        for place, row in enumerate(_hashable(frame)):
            number = numbers.setdefault(row, len(numbers))
            found.append(number)
            if number == count + len(fresh):
                fresh.append(place)
        if fresh:
            self._add(frame[fresh])
        return found

    def _add(self, part: pl.DataFrame) -> None:
        self._bytes += int(part.estimated_size()) + ENTRY_BYTES * part.height
        self._parts.append(part)
        while len(self._parts) > 1 and self._parts[-1].height * 2 >= self._parts[-2].height:
            newer = self._parts.pop()
            self._parts[-1] = pl.concat([self._parts[-1], newer], rechunk=True)

    def rows(self, numbers: Ints) -> pl.DataFrame:
        """The rows with these numbers; -1 gives a row of NULLs."""
        if len(self._parts) < 2:
            return picked(self.values, numbers)
        starts = np.cumsum([0, *(part.height for part in self._parts)])
        whose = np.searchsorted(starts, numbers, side="right") - 1  # -1 for NULLs
        frames, places = [], []
        for which in range(-1, len(self._parts)):
            mine = np.flatnonzero(whose == which)
            if len(mine):
                at = numbers[mine] - starts[which] if which >= 0 else numbers[mine]
                frames.append(picked(self._parts[max(which, 0)], at))
                places.append(mine)
        if not frames:
            return self._empty
        order = np.argsort(np.concatenate(places))
        return pl.concat(frames)[order]

    @property
    def values(self) -> pl.DataFrame:
        """All rows in order of their numbers."""
        if len(self._parts) > 1:
            self._parts = [pl.concat(self._parts, rechunk=True)]
        return self._parts[0] if self._parts else self._empty

    @property
    def bytes(self) -> int:
        """About how many bytes the rows take."""
        return self._bytes

    def keep(self, live: Ints) -> Ints | None:
        """Forget rows that are not among `live` once they are most of all: old number -> new one, or None."""
        if len(self) <= _COMPACT_ABOVE or len(live) * 2 > len(self):
            return None
        used = np.zeros(len(self), dtype=np.bool_)
        used[live] = True
        renumber = np.where(used, np.cumsum(used) - 1, -1).astype(np.int64)
        self.restore(self.values.filter(pl.Series(used)))
        return renumber

    def restore(self, values: pl.DataFrame) -> None:
        """Take rows that are numbered by their place."""
        self._parts, self._numbers, self._bytes = [], {}, 0
        self.encode(values)


def _hashable(frame: pl.DataFrame) -> list[Any]:
    """Each row as a value that equals that of an equal row, and no other."""
    if not frame.width:
        return [()] * frame.height
    columns = [_values(column) for column in frame.get_columns()]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _values(column: pl.Series) -> list[Any]:
    dtype = column.dtype
    if dtype.is_nested():
        return [repr(value) for value in column.to_list()]
    if dtype.is_temporal():
        return column.to_physical().to_list()
    values = column.to_list()
    if dtype.is_float() and bool(column.is_nan().any()):
        return ["NaN" if value is not None and value != value else value for value in values]
    return values
