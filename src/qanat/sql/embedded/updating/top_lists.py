"""Top-N with a sorted list per partition, row by row: for changelogs, for orders by text, for a large N."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE, Ints, Kinds, no_rows
from qanat.sql.embedded.sort_keys import SortKey, has_numbers, numbers
from qanat.sql.embedded.updating.top import Emitted, shows_ranks
from qanat.sql.plan import Rank

_I, _UB, _UA, _D = int(INSERT), int(UPDATE_BEFORE), int(UPDATE_AFTER), int(DELETE)
#: One object for every NaN, so that rows with NaN equal themselves (`==` on tuples looks at identity first).
_NAN = float("nan")


@dataclass(slots=True)
class _Rows:
    """One partition: sort keys, numbers and, where rows may be taken back, contents; all in order."""

    keys: list[Any] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    contents: list[tuple[Any, ...]] = field(default_factory=list)


class TopLists:
    """`keep_all`: the input takes rows back, so those behind the first N are kept, too. `improving`: an update only
    moves its row up, and is one change of it, as Flink's UpdatableTopN does."""

    def __init__(self, node: Rank, *, keep_all: bool, improving: bool) -> None:
        self._order, self._schema = node.order, node.input.schema
        self._first, self._last = node.first, node.last
        self._keep_all, self._improving = keep_all, improving
        self._shows = shows_ranks(node)
        # of a single rank one row takes the place of another, unless rows may go away without another
        self._replaces = self._last == 1 and (improving or not keep_all)
        self._partitions: list[_Rows] = []
        self._reals = any(one.type.kind.value in ("FLOAT", "DOUBLE") for one in self._schema)
        self._numeric = has_numbers(node.order, self._schema)
        self.written = no_rows()
        self._out: list[tuple[int, int, int, int]] = []
        self._row = 0
        self._touched: set[int] = set()

    def grow(self, partitions: int) -> None:
        """Room for so many partitions."""
        self._partitions += [_Rows() for _ in range(partitions - len(self._partitions))]

    def clear(self, partitions: Ints) -> None:
        """These have no rows (any more)."""
        for partition in set(partitions.tolist()):
            self._partitions[partition] = _Rows()

    def _sort_keys(self, frame: pl.DataFrame) -> list[Any]:
        if self._numeric:
            return list(map(tuple, numbers(frame, self._order, self._schema).tolist()))
        return [SortKey(row, self._order) for row in frame.select(one.column for one in self._order).rows()]

    def _contents(self, frame: pl.DataFrame) -> list[tuple[Any, ...]]:
        if not self._keep_all:
            return [()] * frame.height
        rows = frame.rows()
        if not self._reals:
            return rows
        return [tuple(_NAN if one != one else one for one in row) for row in rows]

    # -- rows in ------------------------------------------------------------------------------------------------------

    def take(self, frame: pl.DataFrame, keys: Ints, seq: Ints, kinds: Kinds | None, base: int) -> Emitted:
        """Work off rows of any kind."""
        self._out, written, row = [], [], 0
        sort_keys, contents = self._sort_keys(frame), self._contents(frame)
        kind = [_I] * len(keys) if kinds is None else kinds.tolist()
        partition, event = keys.tolist(), seq.tolist()
        while row < len(kind):
            mine, self._row = self._partitions[partition[row]], row
            if kind[row] in (_I, _UA):
                if self._add(mine, sort_keys[row], base + row, contents[row]):
                    written.append(row)
            else:
                after = row + 1
                pair = self._improving and after < len(kind) and kind[after] == _UA and event[after] == event[row]
                written.append(row)
                if pair and partition[after] == partition[row]:
                    self._row = row = after
                    written.append(row)
                    self._update(
                        mine, (sort_keys[row - 1], contents[row - 1]), sort_keys[row], base + row, contents[row]
                    )
                else:
                    self._remove(mine, sort_keys[row], contents[row])
            row += 1
        self.written = np.array(written, dtype=np.int64)
        self._touched = set(partition)
        columns = np.array(self._out, dtype=np.int64).reshape(-1, 4)
        return Emitted(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3].astype(np.int8))

    def _say(self, number: int, rank: int, kind: int) -> None:
        self._out.append((self._row, number, rank, kind))

    def _exchange(self, old: int, new: int, rank: int) -> None:
        if rank >= self._first:
            self._say(old, rank, _UB)
            self._say(new, rank, _UA)

    def _put(self, mine: _Rows, place: int, key: Any, number: int, content: tuple[Any, ...]) -> None:
        mine.keys.insert(place, key)
        mine.numbers.insert(place, number)
        mine.contents.insert(place, content)

    def _cut(self, mine: _Rows, place: int) -> None:
        del mine.keys[place], mine.numbers[place], mine.contents[place]

    def _add(self, mine: _Rows, key: Any, number: int, content: tuple[Any, ...]) -> bool:
        place = bisect_right(mine.keys, key)
        if place >= self._last and not self._keep_all:
            return False
        self._put(mine, place, key, number, content)
        own, last = mine.numbers, self._last
        if place < last:
            if self._shows or self._replaces:
                for at in range(place, min(len(own) - 1, last)):
                    self._exchange(own[at + 1], own[at], at + 1)
                if self._first <= len(own) <= last:
                    self._say(own[-1], len(own), _I)
            else:
                if len(own) > last:
                    self._say(own[last], last, _D)
                self._say(number, 1, _I)
        if not self._keep_all and len(own) > last:
            self._cut(mine, last)
        return True

    def _find(self, mine: _Rows, key: Any, content: tuple[Any, ...]) -> int | None:
        for place in range(bisect_left(mine.keys, key), bisect_right(mine.keys, key)):
            if mine.contents[place] == content:
                return place
        return None

    def _remove(self, mine: _Rows, key: Any, content: tuple[Any, ...]) -> None:
        place = self._find(mine, key, content)
        if place is None:  # forgotten after its time to live, or never there
            return
        own, last = mine.numbers, self._last
        if place < last:
            if self._shows:
                for at in range(place, min(len(own) - 1, last)):
                    self._exchange(own[at], own[at + 1], at + 1)
                if self._first <= len(own) <= last:
                    self._say(own[-1], len(own), _D)
            else:
                self._say(own[place], 1, _D)
                if len(own) > last:
                    self._say(own[last], last, _I)
        self._cut(mine, place)

    def _update(
        self, mine: _Rows, old: tuple[Any, tuple[Any, ...]], key: Any, number: int, content: tuple[Any, ...]
    ) -> None:
        place = self._find(mine, *old)
        if place is None or place >= self._last:
            if place is not None:
                self._cut(mine, place)
            self._add(mine, key, number, content)
            return
        before = mine.numbers[: self._last]
        gone = mine.numbers[place]
        self._cut(mine, place)
        target = place if key == old[0] else bisect_right(mine.keys, key)
        self._put(mine, target, key, number, content)
        if self._shows:
            for at in range(target, place + 1):
                self._exchange(before[at], mine.numbers[at], at + 1)
        else:
            self._exchange(gone, number, 1)

    def settle(self, frame: pl.DataFrame, base: int) -> pl.DataFrame:
        """The rows of the batch that a partition has."""
        touched = [self._partitions[one] for one in self._touched]
        kept = sorted(number for one in touched for number in one.numbers if number >= base)
        settled = {number: base + place for place, number in enumerate(kept)}
        for one in touched:
            one.numbers = [settled.get(number, number) for number in one.numbers]
        return frame[np.array(kept, dtype=np.int64) - base]

    # -- state --------------------------------------------------------------------------------------------------------

    def numbers(self) -> Ints:
        """Numbers of all rows, partition by partition, in their order."""
        return np.array([number for one in self._partitions for number in one.numbers], dtype=np.int64)

    def number_afresh(self) -> None:
        """The rows are numbered 0, 1, ... in the order of `numbers`."""
        start = 0
        for one in self._partitions:
            one.numbers = list(range(start, start + len(one.numbers)))
            start += len(one.numbers)

    def counts(self) -> Ints:
        """Rows per partition."""
        return np.array([len(one.numbers) for one in self._partitions], dtype=np.int64)

    def size(self) -> int:
        """Rows of all partitions."""
        return sum(len(one.numbers) for one in self._partitions)

    def renumber(self, partitions: Ints) -> None:
        """Partitions have new numbers: old -> new (-1: forgotten)."""
        self._partitions = [self._partitions[place] for place in np.flatnonzero(partitions >= 0).tolist()]

    def restore(self, rows: pl.DataFrame, counts: Ints) -> None:
        """Take all rows, partition by partition, in their order."""
        keys, contents = self._sort_keys(rows), self._contents(rows)
        self._partitions, start = [], 0
        for count in counts.tolist():
            mine = slice(start, start + count)
            self._partitions.append(_Rows(keys[mine], list(range(start, start + count)), contents[mine]))
            start += count

    def held(self) -> int:
        """About how many bytes: what Python needs for a row beside its frame."""
        return self.size() * (120 + 60 * len(self._schema) * self._keep_all)
