"""Many keys <-> small integers: a hash table of numpy arrays, for state that has about as many keys as rows.

Takes a batch of keys at a time (`keys.KeyIndex` looks up one Python object per key). Open addressing with linear
probing over 64-bit hashes of whole keys. Exact: keys that share a hash are noticed, and the table takes another seed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from qanat.sql.embedded.flow import Ints, State
from qanat.sql.embedded.updating.row_store import RowStore

Hashes = npt.NDArray[np.uint64]
_FREE = -1
_SMALLEST = 1024


class KeyTable:
    """Numbers the distinct rows of the key columns 0, 1, 2 ... in order of appearance; NULL is a key like any other."""

    def __init__(self, empty: pl.DataFrame) -> None:
        """`empty`: a frame without rows that has the key columns."""
        self._seed = 0
        self._values = RowStore(empty)
        self._names = empty.columns
        self._hashes = np.empty(0, dtype=np.uint64)
        self._places = np.full(_SMALLEST, _FREE, dtype=np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def encode(self, keys: pl.DataFrame) -> Ints:
        """The number of each row's key; new keys get new numbers."""
        if not self._names:
            self._count = max(self._count, min(keys.height, 1))
            return np.zeros(keys.height, dtype=np.int64)
        known = self._count
        hashes = self._hash(keys)
        numbers, fresh = self._find(hashes)
        self._values.add(keys[fresh])
        if self._equal(keys, numbers):
            return numbers
        kept = self._values.rows(np.arange(known))
        self._rebuild(kept, self._seed + 1)
        return self.encode(keys)

    def rows(self, numbers: Ints) -> pl.DataFrame:
        """The key columns for these numbers."""
        return self._values.rows(numbers)

    def keep(self, used: npt.NDArray[np.bool_]) -> Ints:
        """Forget the keys that are not `used`. Returns an array old number -> new number (-1: forgotten)."""
        renumber = np.where(used, np.cumsum(used) - 1, _FREE).astype(np.int64)
        if self._names:
            self._rebuild(self._values.rows(np.flatnonzero(used)), self._seed)
        else:
            self._count = int(np.count_nonzero(used))
        return renumber

    def held(self) -> int:
        """About how many bytes."""
        return self._values.held() + self._hashes.nbytes + self._places.nbytes

    def snapshot(self) -> State:
        """The keys in order of their numbers."""
        return {"values": self._values.all(), "count": self._count}

    def restore(self, state: State) -> None:
        """Take the keys of a snapshot."""
        if self._names:
            self._rebuild(state["values"], self._seed)
        else:
            self._count = state["count"]

    # -- the table ----------------------------------------------------------------------------------------------------

    def _hash(self, keys: pl.DataFrame) -> Hashes:
        return keys.hash_rows(seed=self._seed).to_numpy()

    def _equal(self, keys: pl.DataFrame, numbers: Ints) -> bool:
        stored = self._values.rows(numbers)
        pairs = zip(stored.get_columns(), keys.get_columns(), strict=True)
        return all(bool(mine.eq_missing(theirs).all()) for mine, theirs in pairs)

    def _find(self, hashes: Hashes) -> tuple[Ints, Ints]:
        """The number of each hash, and the rows that brought new ones, in order of their numbers."""
        self._reserve(self._count + len(hashes))
        mask = np.uint64(len(self._places) - 1)
        numbers = np.full(len(hashes), _FREE, dtype=np.int64)
        place = (hashes & mask).astype(np.int64)
        todo = np.arange(len(hashes))
        fresh: list[tuple[Ints, Ints]] = []
        while len(todo):
            at = place[todo]
            entry = self._places[at]
            free = entry == _FREE
            if free.any():
                fresh.append(self._claim(todo[free], at[free], hashes))
                entry = self._places[at]
            hit = self._hashes[entry] == hashes[todo]
            numbers[todo[hit]] = entry[hit]
            todo = todo[~hit]
            place[todo] = (place[todo] + 1) & int(mask)
        return self._ordered(numbers, fresh)

    def _claim(self, rows: Ints, at: Ints, hashes: Hashes) -> tuple[Ints, Ints]:
        """New entries at free places; of several rows that want one place the first gets it. Rows and places."""
        self._places[at[::-1]] = rows[::-1]
        first = self._places[at] == rows
        won, where = rows[first], at[first]
        entries = self._count + np.arange(len(won))
        self._places[where] = entries
        self._hashes[entries] = hashes[won]
        self._count += len(won)
        return won, where

    def _ordered(self, numbers: Ints, fresh: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
        """Number what is new by the rows that brought it, so that numbers do not depend on how probing went."""
        if len(fresh) < 2:
            return numbers, fresh[0][0] if fresh else np.empty(0, dtype=np.int64)
        rows, where = (np.concatenate(parts) for parts in zip(*fresh, strict=True))
        known = self._count - len(rows)
        order = np.argsort(rows)
        turned = np.empty(len(rows), dtype=np.int64)
        turned[order] = known + np.arange(len(rows))
        self._hashes[known : self._count] = self._hashes[known + order]
        self._places[where] = turned
        new = numbers >= known
        numbers[new] = turned[numbers[new] - known]
        return numbers, rows[order]

    def _reserve(self, count: int) -> None:
        if len(self._hashes) < count:
            grown = np.empty(max(2 * len(self._hashes), count), dtype=np.uint64)
            grown[: self._count] = self._hashes[: self._count]
            self._hashes = grown
        if len(self._places) >= 2 * count:
            return
        size = len(self._places)
        while size < 3 * count:
            size *= 2
        self._places = np.full(size, _FREE, dtype=np.int64)
        self._settle()

    def _settle(self) -> None:
        """Put every entry at a free place of an empty table."""
        mask = len(self._places) - 1
        entries = np.arange(self._count)
        place = (self._hashes[: self._count] & np.uint64(mask)).astype(np.int64)
        while len(entries):
            at = place[entries]
            free = self._places[at] == _FREE
            self._places[at[free]] = entries[free]
            entries = entries[self._places[at] != entries]
            place[entries] = (place[entries] + 1) & mask

    def _rebuild(self, values: pl.DataFrame, seed: int) -> None:
        self._values.restore({"rows": values})
        self._count = values.height
        self._seed = seed
        hashes = self._hash(values)
        while len(np.unique(hashes)) < len(hashes):
            self._seed += 1
            hashes = self._hash(values)
        self._hashes = hashes.copy()
        self._places = np.full(_SMALLEST, _FREE, dtype=np.int64)
        self._reserve(max(self._count, 1))
        if len(self._places) == _SMALLEST:
            self._settle()
