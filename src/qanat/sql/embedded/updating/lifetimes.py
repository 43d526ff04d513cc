"""Keys with state that dies: number them, remember when each was last touched, forget those whose time is up.

Time is the arrival time of events (`Context.arrived`, ms, never falling; 0: unknown, then nothing dies).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from qanat.sql.embedded.flow import Ints, State
from qanat.sql.embedded.updating.key_table import KeyTable

#: Stands for the time of a key that has no state.
_ABSENT = -1
_SMALLEST = 4096


class Lifetimes:
    """The keys of one operator. `touched[number]`: when its state was last written; a key without state is absent."""

    def __init__(self, empty: pl.DataFrame, ttl: int | None) -> None:
        """`empty`: a frame without rows that has the key columns. `ttl`: ms, None: for ever."""
        self._names = empty.columns
        self._table = KeyTable(empty)
        self._ttl = ttl
        self._touched = np.full(_SMALLEST, _ABSENT, dtype=np.int64)
        self._sweep_at = 2 * _SMALLEST

    def __len__(self) -> int:
        return len(self._table)

    def encode(self, frame: pl.DataFrame) -> Ints:
        """Numbers of the rows' keys; a new key is absent."""
        keys = frame.select(self._names) if self._names else pl.DataFrame(height=frame.height)
        numbers = self._table.encode(keys)
        if len(self._touched) < len(self._table):
            self._touched = grown(self._touched, len(self._table), _ABSENT)
        return numbers

    def rows(self, numbers: Ints) -> pl.DataFrame:
        """The keys of these numbers."""
        return self._table.rows(numbers)

    def present(self) -> npt.NDArray[np.bool_]:
        """For each number whether the key has state."""
        return np.asarray(self._touched[: len(self._table)] != _ABSENT)

    def has(self, keys: Ints) -> npt.NDArray[np.bool_]:
        """Which of these keys have state."""
        return np.asarray(self._touched[keys] != _ABSENT)

    def touch(self, keys: Ints, arrivals: Ints) -> None:
        """These keys have state, written at these times (of equal keys the last counts)."""
        self._touched[keys] = arrivals

    def stretches(self, keys: Ints, arrivals: Ints) -> Iterator[tuple[int, int]]:
        """Cut rows [0, n) so that within a stretch [low, high) every key either has state throughout or had none at its
        start. Keys whose time is up are made absent before their stretch is given out, which must then be worked off
        before the next one is asked for."""
        todo = [(0, len(keys))] if len(keys) else []
        while todo:
            low, high = todo.pop()
            if self._certain(keys[low:high], arrivals[low], arrivals[high - 1]):
                yield low, high
            else:
                middle = (low + high) // 2
                todo += [(middle, high), (low, middle)]

    def _certain(self, keys: Ints, first: int, last: int) -> bool:
        if self._ttl is None:
            return True
        touched = self._touched[keys]
        known = touched > 0
        up = known & (touched + self._ttl <= last)
        if first != last and (last - first >= self._ttl or bool((up & (touched + self._ttl > first)).any())):
            return False
        self._touched[keys[up]] = _ABSENT
        return True

    def sweep(self, now: int, needed: Ints | None = None) -> Ints | None:
        """Forget absent keys and those whose time is up, once they may be many: old number -> new (-1: forgotten).
        `needed`: keys that stay although they are absent."""
        if self._ttl is None or len(self._table) < self._sweep_at:
            return None
        touched = self._touched[: len(self._table)]
        touched[(touched > 0) & (touched + self._ttl <= now)] = _ABSENT
        used = touched != _ABSENT
        if needed is not None:
            used[needed] = True
        renumber = self.keep(used)
        self._sweep_at = max(2 * len(self._table), 2 * _SMALLEST)
        return renumber

    def keep(self, used: npt.NDArray[np.bool_]) -> Ints:
        """Forget the keys that are not `used`: old number -> new (-1: forgotten)."""
        kept = self._touched[: len(used)][used]
        self._touched = grown(kept, max(len(kept), _SMALLEST), _ABSENT)
        return self._table.keep(used)

    def held(self) -> int:
        """About how many bytes."""
        return self._table.held() + self._touched.nbytes

    def names(self, numbers: Ints) -> list[str]:
        """The keys of these numbers as people read them."""
        return [describe(row) for row in self._table.rows(numbers).rows()] if self._names else ["(all rows)"]

    def largest(self, count: int, held: int) -> list[tuple[str, int]]:
        """For operators whose keys all hold about the same: some of them, with an equal share of `held`."""
        names = self.names(np.arange(min(count, len(self._table))))
        return [(name, held // max(len(self._table), 1)) for name in names]

    def snapshot(self) -> State:
        """Keys and times."""
        return {"keys": self._table.snapshot(), "touched": self._touched[: len(self._table)]}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._table.restore(state["keys"])
        self._touched = grown(state["touched"], max(len(state["touched"]), _SMALLEST), _ABSENT)


def grown(values: Ints, least: int, fill: int) -> Ints:
    """A longer copy, so that growing one by one costs a constant time each."""
    longer = np.full(max(2 * len(values), least), fill, dtype=values.dtype)
    longer[: len(values)] = values
    return longer


def describe(key: tuple[object, ...]) -> str:
    """A key as people read it in an error."""
    return ", ".join("NULL" if part is None else str(part) for part in key)
