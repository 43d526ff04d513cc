"""Group keys <-> small integers. Keys without state are forgotten by `keep`, so the integers stay small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Ints, State

#: About what one key takes beside its values: a row object in a dict.
_ENTRY_BYTES = 150


class KeyIndex:
    """Numbers the distinct rows of the key columns 0, 1, 2 ...; NULL is a key like any other."""

    def __init__(self, empty: pl.DataFrame) -> None:
        """`empty`: a frame without rows that has the key columns."""
        self.values = empty
        self._numbers: dict[Any, int] = {}
        self._rank: Ints | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def encode(self, keys: pl.DataFrame) -> Ints:
        """The number of each row's key; new keys get new numbers."""
        if not keys.width:
            self._numbers.setdefault((), 0)
            return np.zeros(keys.height, dtype=np.int64)
        if not keys.height:
            return np.empty(0, dtype=np.int64)
        codes, distinct = _distinct(keys)
        numbers = self._numbers
        rows = distinct.to_series().to_list() if keys.width == 1 else distinct.rows()
        count = len(numbers)
        known = list(map(numbers.get, rows))  # most often all of them are, and nothing is quicker
        if None in known:
            known = [numbers.setdefault(row, len(numbers)) for row in rows]
        found = np.array(known, dtype=np.int64)
        if len(numbers) > count:
            fresh = distinct.filter(pl.Series(found >= count)).cast(dict(self.values.schema))  # type: ignore[arg-type]
            self.values = pl.concat([self.values, fresh])
            self._rank = None
        return found[codes]

    def rank(self) -> Ints:
        """For each number the place of its key in sorted order: the order of output within a window."""
        if self._rank is None or len(self._rank) != max(len(self._numbers), 1):
            if not self.values.width:
                return np.zeros(1, dtype=np.int64)
            order = self.values.select(pl.arg_sort_by(self.values.columns)).to_series().to_numpy()
            self._rank = np.empty(len(order), dtype=np.int64)
            self._rank[order] = np.arange(len(order))
        return self._rank

    def rows(self, numbers: Ints) -> pl.DataFrame:
        """The key columns for these numbers."""
        return self.values[numbers] if self.values.width else self.values

    def held(self) -> int:
        """About how many bytes the keys take."""
        return len(self._numbers) * _ENTRY_BYTES + int(self.values.estimated_size())

    def largest(self, weighed: Sequence[tuple[Ints, float]], count: int) -> list[tuple[str, int]]:
        """The keys that hold most, with their bytes. `weighed`: key numbers (one per entry), bytes of such an entry."""
        sizes = np.zeros(max(len(self._numbers), 1))
        for numbers, size in weighed:
            sizes += size * np.bincount(numbers, minlength=len(sizes))
        order = np.argsort(-sizes, kind="stable")[:count]
        order = order[sizes[order] > 0]
        return list(zip(self.texts(order), sizes[order].astype(np.int64).tolist(), strict=True))

    def texts(self, numbers: Ints) -> list[str]:
        """The keys with these numbers as a person would write them."""
        if not self.values.width:
            return ["(no key)" for _ in numbers]
        rows = self.values[numbers].rows()
        return [", ".join("NULL" if value is None else str(value) for value in row) for row in rows]

    def keep(self, live: Ints) -> Ints | None:
        """Forget keys that are not among `live` once they are most of the index.

        Returns an array old number -> new number (-1: forgotten), or None where nothing changed.
        """
        if len(self._numbers) <= 4096 or not self.values.width:
            return None
        used = np.zeros(len(self._numbers), dtype=np.bool_)
        used[live] = True
        kept = int(np.count_nonzero(used))
        if kept * 2 > len(self._numbers):
            return None
        renumber = np.where(used, np.cumsum(used) - 1, -1).astype(np.int64)
        self.restore({"values": self.values.filter(pl.Series(used))})
        return renumber

    def snapshot(self) -> State:
        """The keys in order of their numbers."""
        return {"values": self.values}

    def restore(self, state: State) -> None:
        """Take the keys of a snapshot."""
        self.values = state["values"]
        rows: list[Any] = self.values.to_series().to_list() if self.values.width == 1 else self.values.rows()
        self._numbers = {row: number for number, row in enumerate(rows)}
        self._rank = None


def _distinct(keys: pl.DataFrame) -> tuple[Ints, pl.DataFrame]:
    """Codes of the rows and the distinct rows that they number."""
    if keys.width == 1:
        encoded = keys.to_series().to_arrow().dictionary_encode(null_encoding="encode")
        dictionary = pl.from_arrow(encoded.dictionary)
        if isinstance(dictionary, pl.Series):
            codes = encoded.indices.to_numpy(zero_copy_only=False)
            return codes.astype(np.int64, copy=False), dictionary.alias(keys.columns[0]).to_frame()
    distinct = keys.unique(maintain_order=True)
    numbered = distinct.with_row_index("__code")
    joined = keys.join(numbered, on=keys.columns, how="left", nulls_equal=True, maintain_order="left")
    return joined["__code"].to_numpy().astype(np.int64), distinct
