"""Rows that are kept because an aggregate needs them as they came. Arrival order in, sorted by key and time out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Ints, State

KEY, TIME, ARRIVAL = "__key", "__time", "__arrival"


@dataclass(frozen=True, slots=True)
class Sorted:
    """Rows in order of (key rank, time, arrival) with their sort columns as arrays."""

    frame: pl.DataFrame
    rank: Ints
    time: Ints

    def start(self, ranks: Ints, time: int) -> Ints:
        """For each rank the place of its first row at or after `time`."""
        low = int(self.time.min(initial=time))
        span = max(int(self.time.max(initial=time)) - low, time - low, 0) + 2
        code = self.rank * span + (self.time - low)
        return np.searchsorted(code, ranks * span + max(time - low, 0))


class RowBuffer:
    """Rows with the columns `__key` (number), `__time` (ms), `__arrival` (running number) and what is aggregated."""

    def __init__(self, empty: pl.DataFrame) -> None:
        """`empty`: a frame without rows that has the aggregated columns."""
        numbers = pl.Series(KEY, [], dtype=pl.Int64)
        columns = [numbers, numbers.alias(TIME), numbers.alias(ARRIVAL)]
        self._empty = empty.with_columns(columns)
        self._parts: list[pl.DataFrame] = []
        self._bytes = 0
        self._next = 0

    def add(self, frame: pl.DataFrame, keys: Ints, times: Ints, arrival: Ints | None = None) -> None:
        """Keep rows; without `arrival` they are numbered in the order in which they are added."""
        if frame.height or len(keys):
            if arrival is None:
                arrival = np.arange(self._next, self._next + len(keys))
                self._next += len(keys)
            columns = [pl.Series(KEY, keys), pl.Series(TIME, times), pl.Series(ARRIVAL, arrival)]
            self._parts.append(frame.with_columns(columns) if frame.width else pl.DataFrame(columns))
            self._bytes += int(self._parts[-1].estimated_size())

    def _set(self, rows: pl.DataFrame) -> None:
        self._parts, self._bytes = [rows], int(rows.estimated_size())

    def held(self) -> int:
        """About how many bytes the rows take."""
        return self._bytes

    def weight(self) -> tuple[Ints, float]:
        """The key of every row, and about how many bytes a row takes: see `KeyIndex.largest`."""
        keys = self.keys()
        return keys, self._bytes / max(len(keys), 1)

    def rows(self) -> pl.DataFrame:
        """All rows in order of arrival."""
        if len(self._parts) != 1:
            self._parts = [pl.concat(self._parts) if self._parts else self._empty]
        return self._parts[0]

    def sorted(self, rank: Ints, before: int) -> Sorted:
        """Rows with time < `before`, sorted; `rank`: key number -> place of the key in the output."""
        rows = self.rows()
        rows = rows.filter(pl.col(TIME) < before) if before < 2**61 else rows
        keys, times = rank[rows[KEY].to_numpy()], rows[TIME].to_numpy()
        order = sort_order(keys, times)
        return Sorted(rows[order], keys[order], times[order])

    def drop_before(self, time: int) -> None:
        """Forget rows with an event time below `time` (ms)."""
        if self._parts:
            self._set(self.rows().filter(pl.col(TIME) >= time))

    def keys(self) -> Ints:
        """Key numbers in use (with repetitions)."""
        return np.asarray(self.rows()[KEY].to_numpy(), dtype=np.int64)

    def renumber(self, keys: Ints) -> None:
        """Keys have new numbers: old number -> new one."""
        if self._parts:
            rows = self.rows()
            self._set(rows.with_columns(pl.Series(KEY, keys[rows[KEY].to_numpy()])))

    def snapshot(self) -> State:
        """All rows."""
        return {"rows": self.rows(), "next": self._next}

    def restore(self, state: State) -> None:
        """Take the rows of a snapshot."""
        self._set(state["rows"])
        self._next = state["next"]


def sort_order(major: Ints, minor: Ints) -> Ints:
    """The stable order of rows by (major, minor)."""
    count = len(major)
    if count < 2:
        return np.arange(count)
    low = int(minor.min())
    span = int(minor.max()) - low + 1
    if (int(major.max()) + 1) * span * count < 2**63 and int(major.min()) >= 0:
        # one distinct number per row: numpy's fast (unstable) sort then gives the stable order
        code = (major * span + (minor - low)) * count + np.arange(count)
        return np.argsort(code)
    return np.lexsort((minor, major))
