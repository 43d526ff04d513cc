"""Top-N over inserts with one row of an array per partition.

Rows that cannot enter are dropped in bulk. The others are worked off in rounds, each with at most one row of a
partition; where few partitions are left their rows are worked off one by one.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import numpy.typing as npt
import polars as pl

from qanat.sql.embedded.flow import DELETE, INSERT, UPDATE_AFTER, UPDATE_BEFORE, Ints, Kinds, empty_frame, no_rows
from qanat.sql.embedded.sort_keys import numbers
from qanat.sql.embedded.updating.top import Emitted, shows_ranks
from qanat.sql.plan import Rank

Mask = npt.NDArray[np.bool_]
#: With fewer partitions than this a round costs more than going row by row.
_FEW = 24
_SMALLEST = 64


class TopArrays:
    """`_count[p]` rows of partition p, their numbers `_number[p]` and sort keys `_score[p]` in order."""

    def __init__(self, node: Rank) -> None:
        self._order, self._schema = node.order, node.input.schema
        self._width = numbers(empty_frame(node.input.schema), node.order, node.input.schema).shape[1]
        self._first, self._last = node.first, node.last
        self._shows = shows_ranks(node)
        self.written = no_rows()
        self._touched = no_rows()
        self._partitions = 0
        self._allocate(_SMALLEST)

    def _allocate(self, size: int) -> None:
        self._count = np.zeros(size, dtype=np.int64)
        self._number = np.zeros((size, self._last), dtype=np.int64)
        self._score = np.zeros((size, self._last, self._width), dtype=np.int64)

    def grow(self, partitions: int) -> None:
        """Room for so many partitions."""
        self._partitions = partitions
        if partitions <= len(self._count):
            return
        old, held = (self._count, self._number, self._score), len(self._count)
        self._allocate(max(2 * held, partitions))
        self._count[:held], self._number[:held], self._score[:held] = old

    def clear(self, partitions: Ints) -> None:
        """These have no rows (any more)."""
        self._count[partitions] = 0

    # -- rows in ------------------------------------------------------------------------------------------------------

    def take(self, frame: pl.DataFrame, keys: Ints, seq: Ints, kinds: Kinds | None, base: int) -> Emitted:
        """Work off inserted rows."""
        del seq, kinds
        scores = numbers(frame, self._order, self._schema)
        todo = np.arange(len(keys))
        parts: list[Emitted] = [_NOTHING]
        written: list[Ints] = [no_rows()]
        while len(todo):
            todo = todo[self._enter(keys[todo], scores[todo])]
            now = todo[np.unique(keys[todo], return_index=True)[1]]
            if len(now) < _FEW:
                self._one_by_one(todo, keys, scores, base, parts)
                written.append(todo)
                break
            parts.append(self._round(np.sort(now), keys, scores, base))
            written.append(now)
            later = np.ones(len(keys), dtype=np.bool_)
            later[now] = False
            todo = todo[later[todo]]
        self.written = np.concatenate(written)
        self.written.sort()
        self._touched = np.unique(keys[self.written])
        return _in_order(parts)

    def _enter(self, keys: Ints, scores: Ints) -> Mask:
        """Which rows would stand among the first of their partition."""
        full = self._count[keys] == self._last
        return np.asarray(~full | _less(scores, self._score[keys, self._last - 1]))

    def _round(self, rows: Ints, keys: Ints, scores: Ints, base: int) -> Emitted:
        """One entering row for each of several partitions."""
        at = keys[rows]
        count, old, ranks = self._count[at], self._number[at], np.arange(self._last)
        score, mine = self._score[at], scores[rows]
        place = ((ranks < count[:, None]) & ~_less(mine[:, None, :], score)).sum(axis=1)[:, None]
        behind = np.maximum(ranks - 1, 0)
        new = np.where(ranks < place, old, np.where(ranks == place, base + rows[:, None], old[:, behind]))
        here = place[:, :, None]
        rank3 = ranks[None, :, None]
        moved = np.where(rank3 == here, mine[:, None, :], score[:, behind])
        self._score[at] = np.where(rank3 < here, score, moved)
        self._number[at] = new
        self._count[at] = np.minimum(count + 1, self._last)
        if self._shows or self._last == 1:
            return self._shifts(rows, place, count[:, None], old, new)
        return self._changed_ends(rows, count == self._last, old[:, -1], base)

    def _shifts(self, rows: Ints, place: Ints, count: Ints, old: Ints, new: Ints) -> Emitted:
        """-U and +U for every rank from the row's place on, +I where the list grew."""
        ranks = np.arange(self._last)
        shown = (ranks >= place) & (ranks >= self._first - 1)
        mask = np.stack([shown & (ranks < count), shown & (ranks <= count)], axis=2)
        after = np.where(ranks < count, UPDATE_AFTER, INSERT).astype(np.int8)
        kind = np.stack([np.full(mask.shape[:2], UPDATE_BEFORE, dtype=np.int8), after], axis=2)
        number = np.stack([old, new], axis=2)
        which = np.broadcast_to(rows[:, None, None], mask.shape)
        rank = np.broadcast_to(ranks[None, :, None] + 1, mask.shape)
        return Emitted(which[mask], number[mask], rank[mask], kind[mask])

    def _changed_ends(self, rows: Ints, full: Mask, last: Ints, base: int) -> Emitted:
        """-D of the row that leaves, +I of the one that enters."""
        mask = np.stack([full, np.ones(len(full), dtype=np.bool_)], axis=1)
        number = np.stack([last, base + rows], axis=1)[mask]
        kind = np.broadcast_to(np.array([DELETE, INSERT], dtype=np.int8), mask.shape)[mask]
        row = np.broadcast_to(rows[:, None], mask.shape)[mask]
        return Emitted(row, number, np.zeros(len(row), dtype=np.int64), kind)

    def _one_by_one(self, rows: Ints, keys: Ints, scores: Ints, base: int, parts: list[Emitted]) -> None:
        """Rows of few partitions, in order of arrival."""
        lists: dict[int, tuple[list[tuple[int, ...]], list[int]]] = {}
        row_, number, rank, kind = [], [], [], []
        for row, key, score in zip(rows.tolist(), keys[rows].tolist(), map(tuple, scores[rows].tolist()), strict=True):
            if key not in lists:
                count = int(self._count[key])
                lists[key] = (
                    [tuple(one) for one in self._score[key, :count].tolist()],
                    self._number[key, :count].tolist(),
                )
            have, own = lists[key]
            place = bisect_right(have, score)
            if place >= self._last:
                continue
            changes = self._insert(own, place, base + row)
            have.insert(place, score)
            del have[self._last :]
            row_ += [row] * len(changes)
            for one in changes:
                number.append(one[0])
                rank.append(one[1])
                kind.append(one[2])
        for key, (have, own) in lists.items():
            self._count[key] = len(own)
            self._number[key, : len(own)] = own
            self._score[key, : len(own)] = np.array(have, dtype=np.int64).reshape(len(own), self._width)
        first, second, third = (np.array(values, dtype=np.int64) for values in (row_, number, rank))
        parts.append(Emitted(first, second, third, np.array(kind, dtype=np.int8)))

    def _insert(self, own: list[int], place: int, number: int) -> list[tuple[int, int, int]]:
        """Put a row into one partition's list: (number, rank, kind) of what that says."""
        full = len(own) == self._last
        own.insert(place, number)
        if self._shows or self._last == 1:
            found: list[tuple[int, int, int]] = []
            for at in range(max(place, self._first - 1), len(own) - 1):
                found += ((own[at + 1], at + 1, 1), (own[at], at + 1, 2))
            if not full and len(own) >= self._first:
                found.append((own[-1], len(own), 0))
        else:
            found = [(own[-1], 0, 3), (number, 0, 0)] if full else [(number, 0, 0)]
        del own[self._last :]
        return found

    def settle(self, frame: pl.DataFrame, base: int) -> pl.DataFrame:
        """The rows of the batch that are among the first."""
        at = self._touched
        held = np.arange(self._last) < self._count[at][:, None]
        number = self._number[at]
        fresh = held & (number >= base)
        kept = np.unique(number[fresh])
        number[fresh] = base + np.searchsorted(kept, number[fresh])
        self._number[at] = number
        return frame[kept - base]

    # -- state --------------------------------------------------------------------------------------------------------

    def _held(self) -> Mask:
        return np.asarray(np.arange(self._last) < self._count[: self._partitions, None])

    def numbers(self) -> Ints:
        """Numbers of all rows, partition by partition, in their order."""
        return np.asarray(self._number[: self._partitions][self._held()])

    def number_afresh(self) -> None:
        """The rows are numbered 0, 1, ... in the order of `numbers`."""
        held = self._held()
        self._number[: self._partitions][held] = np.arange(int(held.sum()))

    def counts(self) -> Ints:
        """Rows per partition."""
        return self._count[: self._partitions].copy()

    def size(self) -> int:
        """Rows of all partitions."""
        return int(self._count[: self._partitions].sum())

    def renumber(self, partitions: Ints) -> None:
        """Partitions have new numbers: old -> new (-1: forgotten)."""
        kept = np.flatnonzero(partitions >= 0)
        old = self._count[kept], self._number[kept], self._score[kept]
        self._allocate(max(len(kept), _SMALLEST))
        self._count[: len(kept)], self._number[: len(kept)], self._score[: len(kept)] = old
        self._partitions = len(kept)

    def restore(self, rows: pl.DataFrame, counts: Ints) -> None:
        """Take all rows, partition by partition, in their order."""
        self._allocate(max(len(counts), _SMALLEST))
        self._partitions = len(counts)
        self._count[: len(counts)] = counts
        self.number_afresh()
        self._score[: len(counts)][self._held()] = numbers(rows, self._order, self._schema)

    def held(self) -> int:
        """About how many bytes."""
        return self._count.nbytes + self._number.nbytes + self._score.nbytes


_NOTHING = Emitted(no_rows(), no_rows(), no_rows(), np.empty(0, dtype=np.int8))


def _less(left: Ints, right: Ints) -> Mask:
    """Whether the rows of numbers (last axis) on the left stand before those on the right."""
    less = left[..., 0] < right[..., 0]
    equal = left[..., 0] == right[..., 0]
    for column in range(1, left.shape[-1]):
        less = less | (equal & (left[..., column] < right[..., column]))
        equal = equal & (left[..., column] == right[..., column])
    return np.asarray(less)


def _in_order(parts: list[Emitted]) -> Emitted:
    """All of it in order of the input rows."""
    row, number, rank = (np.concatenate([getattr(one, name) for one in parts]) for name in ("row", "number", "rank"))
    kind = np.concatenate([one.kind for one in parts])
    if len(parts) < 3:
        return Emitted(row, number, rank, kind)
    order = np.argsort(row, kind="stable")
    return Emitted(row[order], number[order], rank[order], kind[order])
