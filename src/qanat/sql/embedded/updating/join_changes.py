"""A join of changelogs, row by row: what changes in the result with each row of either side.

As Flink's StreamingJoinOperator and StreamingSemiAntiJoinOperator: per key the distinct rows of each side with how many
there are and, where the side is outer, how many rows of the other side they match. Rows and keys are numbers here
(`RowIndex`, `JoinKeys`); residual conditions are evaluated beforehand for all pairs that some rows may bring up.
Where Flink sends -U rows of which not all are followed by their +U, these are -D and +I.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import (
    DELETE,
    INSERT,
    UPDATE_AFTER,
    UPDATE_BEFORE,
    Ints,
    Kinds,
    State,
    empty_frame,
    no_rows,
)
from qanat.sql.embedded.pairs import ENTRY_BYTES, JoinKeys, Residual, largest_keys, side_by_side
from qanat.sql.embedded.updating.row_index import RowIndex
from qanat.sql.plan import RegularJoin

_I, _UB, _UA, _D = int(INSERT), int(UPDATE_BEFORE), int(UPDATE_AFTER), int(DELETE)
#: Rows whose residual conditions are looked at together.
_AT_A_TIME = 512
_NONE = -1


class Entry:
    """Equal rows of one side: how many, how many rows of the other side each matches, when last touched (ms)."""

    __slots__ = ("count", "matched", "touched")

    def __init__(self, count: int, matched: int, touched: int) -> None:
        self.count, self.matched, self.touched = count, matched, touched

    def expired(self, ttl: int, now: int) -> bool:
        """Whether it was not touched for `ttl` ms; a time of arrival that is not known (0) expires nothing."""
        return self.touched != 0 and now - self.touched >= ttl


Entries = dict[int, Entry]


class Change(NamedTuple):
    """One row that comes: its side (0 left, 1 right), key (None: NULL), number, kind, event and arrival time (ms)."""

    side: int
    key: int | None
    row: int
    kind: int
    seq: int
    now: int


@dataclass(slots=True)
class Changes:
    """Output under way: numbers of left and right rows (-1: NULLs), kinds, events."""

    rows: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    kinds: list[int] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)

    def add(self, side: int, mine: int, other: int, kind: int, seq: int) -> None:
        """One row that consists of row `mine` of `side` and `other` of the other side."""
        self.rows[side].append(mine)
        self.rows[1 - side].append(other)
        self.kinds.append(kind)
        self.seqs.append(seq)

    def settle(self, start: int, middle: int, partner: int) -> None:
        """An input -U gave the rows from `start`, its +U those from `middle`. Where the same `partner` side's rows
        took part in both, each -U is put before its +U; otherwise they become deletes and inserts."""
        kinds, whose, half = self.kinds, self.rows[partner], middle - start
        fits = (
            len(kinds) == middle + half
            and all(kind == _UB for kind in kinds[start:middle])
            and all(kind == _UA for kind in kinds[middle:])
            and whose[start:middle] == whose[middle:]
        )
        if not fits:
            kinds[start:] = [_D if kind == _UB else _I if kind == _UA else kind for kind in kinds[start:]]
        elif half > 1:
            for column in (self.rows[0], self.rows[1], kinds):
                column[start:] = [
                    one for pair in zip(column[start:middle], column[middle:], strict=True) for one in pair
                ]


@dataclass(frozen=True, slots=True)
class Rows:
    """New rows of one side, with their events and kinds."""

    frame: pl.DataFrame
    seq: Ints
    kinds: Kinds


class ChangeJoin:
    """State: per side and key the distinct rows."""

    def __init__(self, node: RegularJoin, keys: JoinKeys) -> None:
        self._node, self._keys = node, keys
        self._outer = (node.kind in ("LEFT", "FULL"), node.kind in ("RIGHT", "FULL"))
        self._anti, self._half = node.kind == "ANTI", node.kind in ("SEMI", "ANTI")
        self._residual = Residual(node.residual, node.joined or node.schema)
        self._index = (RowIndex(empty_frame(node.left.schema)), RowIndex(empty_frame(node.right.schema)))
        self._entries: tuple[dict[int, Entries], dict[int, Entries]] = ({}, {})
        self._ttl = (node.left_ttl, node.right_ttl)
        self._live = [0, 0]
        self._swept = 0
        self._true: set[tuple[int, int]] = set()

    def add(self, side: int, frame: pl.DataFrame, keys: Sequence[int]) -> None:
        """Take rows of an inner join that have met their partners already."""
        for row, key in zip(self._index[side].encode(frame), keys, strict=True):
            self._store(side, key, row, 0, 0)

    # --- a micro-batch --------------------------------------------------------------------------------------------

    def process(self, left: Rows, right: Rows, arrived: Ints) -> Rows:
        """The changes of the result. `arrived`: arrival time (ms) per event."""
        changes = [*self._changes(0, left, arrived), *self._changes(1, right, arrived)]
        changes.sort(key=attrgetter("seq", "side"))
        out = Changes()
        for part in _parts(changes):
            if not self._residual.always:
                self._judge(part)
            self._run(part, out)
        self._true = set()
        result = Rows(self._frame(out), np.array(out.seqs, dtype=np.int64), np.array(out.kinds, dtype=np.int8))
        if changes:
            self._sweep(changes[-1].now)
            self._compact()
        return result

    def _changes(self, side: int, rows: Rows, arrived: Ints) -> Iterator[Change]:
        numbers, present = self._keys.encode(side, rows.frame)
        keys = (key if ok else None for key, ok in zip(numbers.tolist(), present.tolist(), strict=True))
        known = self._index[side].encode(rows.frame)
        columns = (known, rows.kinds.tolist(), rows.seq.tolist(), arrived[rows.seq].tolist())
        return map(Change, [side] * len(known), keys, *columns)

    def _judge(self, part: Sequence[Change]) -> None:
        """Find the pairs that rows of this part may bring up and for which the residual condition holds."""
        coming: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
        for change in part:
            if change.key is not None:
                coming[change.side].setdefault(change.key, []).append(change.row)
        pairs: set[tuple[int, int]] = set()
        for side in (0, 1):
            for key, rows in coming[side].items():
                others = (*self._entries[1 - side].get(key, ()), *coming[1 - side].get(key, ()))
                found = ((mine, other) if side == 0 else (other, mine) for mine in rows for other in others)
                pairs.update(found)
        order = sorted(pairs)
        left, right = np.array(order, dtype=np.int64).reshape(-1, 2).T
        holds = self._residual.holds(self._index[0].rows(left), self._index[1].rows(right)).tolist()
        self._true = {pair for pair, true in zip(order, holds, strict=True) if true}

    def _run(self, part: Sequence[Change], out: Changes) -> None:
        apply = self._apply_half if self._half else self._apply
        start, last = 0, len(part) - 1
        for place, change in enumerate(part):
            if change.kind in (_I, _D):
                apply(change, out)
                continue
            if change.kind == _UB or not _paired(part, place - 1):
                start = len(out.kinds)
            middle = len(out.kinds)
            apply(change, out)
            if change.kind == _UA or place == last or not _paired(part, place):
                out.settle(start, middle if change.kind == _UA else len(out.kinds), 1 - change.side)

    def _frame(self, out: Changes) -> pl.DataFrame:
        left = self._index[0].rows(np.array(out.rows[0], dtype=np.int64))
        if self._half:
            return left.rename(dict(zip(left.columns, (one.name for one in self._node.schema), strict=True)))
        right = self._index[1].rows(np.array(out.rows[1], dtype=np.int64))
        return side_by_side(left, right, self._node.schema)

    # --- one row --------------------------------------------------------------------------------------------------

    def _apply(self, change: Change, out: Changes) -> None:
        """INNER, LEFT, RIGHT, FULL."""
        side, row, seq, other = change.side, change.row, change.seq, 1 - change.side
        outer, other_outer = self._outer[side], self._outer[other]
        adds = change.kind in (_I, _UA)
        kind = change.kind if not (outer or other_outer) else _I if adds else _D
        partners = self._partners(change)
        if outer and not partners:
            out.add(side, row, _NONE, kind, seq)
        matched = 0
        for number, entry in partners:
            lonely = other_outer and entry.matched == (0 if adds else 1)
            for _ in range(entry.count):
                if lonely and adds:
                    out.add(other, number, _NONE, _D, seq)
                out.add(side, row, number, kind, seq)
                if lonely and not adds:
                    out.add(other, number, _NONE, _I, seq)
            matched += entry.count
            if other_outer:
                entry.matched += 1 if adds else -1
                entry.touched = change.now
        self._keep(change, matched)

    def _apply_half(self, change: Change, out: Changes) -> None:
        """SEMI, ANTI: only left rows come out."""
        partners = self._partners(change)
        if change.side == 0:
            if bool(partners) is not self._anti:
                out.add(0, change.row, _NONE, change.kind, change.seq)
            self._keep(change, sum(entry.count for _, entry in partners))
            return
        adds = change.kind in (_I, _UA)
        kind = change.kind if not self._anti else _D if adds else _I
        for number, entry in partners:
            if entry.matched == (0 if adds else 1):
                for _ in range(entry.count):
                    out.add(0, number, _NONE, kind, change.seq)
            entry.matched += 1 if adds else -1
            entry.touched = change.now
        self._keep(change, 0)

    def _partners(self, change: Change) -> list[tuple[int, Entry]]:
        others = self._entries[1 - change.side].get(change.key) if change.key is not None else None
        if not others:
            return []
        ttl, mine = self._ttl[1 - change.side], change.row
        found = list(others.items())
        if ttl is not None:
            found = [one for one in found if not one[1].expired(ttl, change.now)]
        if self._residual.always:
            return found
        if change.side == 0:
            return [one for one in found if (mine, one[0]) in self._true]
        return [one for one in found if (one[0], mine) in self._true]

    def _keep(self, change: Change, matched: int) -> None:
        if change.key is None:
            return  # a NULL key never finds a partner
        if change.kind in (_I, _UA):
            self._store(change.side, change.key, change.row, matched, change.now)
        else:
            self._remove(change.side, change.key, change.row, change.now)

    def _store(self, side: int, key: int, row: int, matched: int, now: int) -> None:
        rows = self._entries[side].setdefault(key, {})
        entry, ttl = rows.get(row), self._ttl[side]
        if entry is not None and ttl is not None and entry.expired(ttl, now):
            del rows[row]
            self._live[side] -= 1
            entry = None
        if entry is None:
            rows[row] = Entry(1, matched, now)
            self._live[side] += 1
            return
        entry.count += 1
        entry.matched, entry.touched = matched, now

    def _remove(self, side: int, key: int, row: int, now: int) -> None:
        rows = self._entries[side].get(key)
        entry = rows.get(row) if rows else None
        if rows is None or entry is None:
            return  # never seen, or forgotten
        ttl = self._ttl[side]
        if entry.count > 1 and not (ttl is not None and entry.expired(ttl, now)):
            entry.count -= 1
            entry.touched = now
            return
        del rows[row]
        self._live[side] -= 1
        if not rows:
            del self._entries[side][key]

    # --- state ----------------------------------------------------------------------------------------------------

    def _sweep(self, now: int) -> None:
        """Free what has expired. `_partners` does not see it any more, so when this happens changes nothing."""
        ttls = [ttl for ttl in self._ttl if ttl is not None]
        if not ttls or now - self._swept < min(ttls) // 4:
            return
        self._swept = now
        for side, ttl in enumerate(self._ttl):
            if ttl is None:
                continue
            entries = self._entries[side]
            for key in list(entries):
                kept = {row: entry for row, entry in entries[key].items() if not entry.expired(ttl, now)}
                self._live[side] -= len(entries[key]) - len(kept)
                if kept:
                    entries[key] = kept
                else:
                    del entries[key]

    def _compact(self) -> None:
        for side, index in enumerate(self._index):
            if self._live[side] * 2 <= len(index):
                live = [row for rows in self._entries[side].values() for row in rows]
                renumber = index.keep(np.array(live, dtype=np.int64))
                if renumber is not None:
                    numbers = renumber.tolist()
                    for key, rows in self._entries[side].items():
                        self._entries[side][key] = {numbers[row]: entry for row, entry in rows.items()}
        if sum(map(len, self._entries)) * 2 <= len(self._keys):
            renumber = self._keys.keep(np.array([key for side in self._entries for key in side], dtype=np.int64))
            if renumber is not None:
                numbers = renumber.tolist()
                left, right = ({numbers[key]: rows for key, rows in side.items()} for side in self._entries)
                self._entries = (left, right)

    def held(self) -> int:
        """About how many bytes of rows there are."""
        return sum(index.bytes for index in self._index) + sum(self._live) * ENTRY_BYTES

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys with most rows."""
        keys: list[int] = []
        sizes: list[int] = []
        for side, index in enumerate(self._index):
            each = ENTRY_BYTES + index.bytes // max(len(index), 1)
            keys += self._entries[side]
            sizes += [each * len(rows) for rows in self._entries[side].values()]
        return largest_keys(self._keys, np.array(keys, dtype=np.int64), np.array(sizes, dtype=np.int64), count)

    def snapshot(self) -> State:
        """Rows and what is known of each."""
        sides = []
        for index, entries in zip(self._index, self._entries, strict=True):
            flat = [
                (key, row, entry.count, entry.matched, entry.touched)
                for key, rows in entries.items()
                for row, entry in rows.items()
            ]
            sides.append({"rows": index.values, "entries": np.array(flat, dtype=np.int64).reshape(-1, 5)})
        return {"sides": sides, "swept": self._swept}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        self._swept = state["swept"]
        for side, one in enumerate(state["sides"]):
            self._index[side].restore(one["rows"])
            self._entries[side].clear()
            self._live[side] = len(one["entries"])
            for key, row, count, matched, touched in one["entries"].tolist():
                self._entries[side].setdefault(key, {})[row] = Entry(count, matched, touched)


def _paired(part: Sequence[Change], place: int) -> bool:
    """Whether the row at `place` is a -U and the next one its +U."""
    if not 0 <= place < len(part) - 1:
        return False
    one, two = part[place], part[place + 1]
    return (one.kind, two.kind) == (_UB, _UA) and (one.side, one.seq) == (two.side, two.seq)


def _parts(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """Some rows at a time, never a -U without its +U."""
    start = 0
    while start < len(changes):
        stop = min(start + _AT_A_TIME, len(changes))
        stop += _paired(changes, stop - 1)
        yield changes[start:stop]
        start = stop


def no_changes(node: RegularJoin) -> Rows:
    """No rows of the join's output."""
    return Rows(empty_frame(node.schema), no_rows(), np.zeros(0, dtype=np.int8))
