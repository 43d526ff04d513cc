"""An inner join of two inputs that only insert: each new row meets all earlier rows of the other side. Vectorised.

Rows are kept in chunks in order of arrival, each with its keys sorted. Chunks merge when the newer one has grown to
half of the older one, so that there are few of them and a row is copied about log2(n) times in its life.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from qanat.sql.embedded.flow import Ints, State, no_rows
from qanat.sql.embedded.pairs import JoinKeys, Residual, largest_keys, side_by_side
from qanat.sql.embedded.panes import expand
from qanat.sql.plan import RegularJoin


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in order of arrival (`first`: number of the first one), their keys sorted, and where each stands."""

    frame: pl.DataFrame
    first: int
    key: Ints
    place: Ints
    bytes: int

    @staticmethod
    def of(frame: pl.DataFrame, first: int, keys: Ints) -> Chunk:
        """Sort the keys of new rows."""
        place = np.argsort(keys, kind="stable")
        return Chunk(frame, first, keys[place], place, int(frame.estimated_size()) + 16 * len(keys))

    def merged(self, newer: Chunk) -> Chunk:
        """This chunk and the one after it."""
        key = np.concatenate([self.key, newer.key])
        place = np.concatenate([self.place, newer.place + len(self.key)])
        order = np.argsort(key, kind="stable")
        frame = pl.concat([self.frame, newer.frame], rechunk=True)
        return Chunk(frame, self.first, key[order], place[order], self.bytes + newer.bytes)


@dataclass(frozen=True, slots=True)
class Fresh:
    """New rows of one side as a chunk, and for each the event that brought it and its turn among all new rows."""

    chunk: Chunk
    seq: Ints
    turn: Ints


@dataclass(frozen=True, slots=True)
class Found:
    """Pairs: joined rows, the event, the turn of the later row, the arrival number of the earlier one."""

    frame: pl.DataFrame
    seq: Ints
    turn: Ints
    earlier: Ints


def turns(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """The place of each row among the rows of both sides by event, the left one's first (`seq` of each side in)."""
    at_left = np.arange(len(left)) + np.searchsorted(right, left, side="left")
    at_right = np.arange(len(right)) + np.searchsorted(left, right, side="right")
    return at_left, at_right


def matches(one: Chunk, two: Chunk) -> tuple[Ints, Ints]:
    """Places (in one, in two) of all rows with equal keys."""
    small, large = (one, two) if len(one.key) <= len(two.key) else (two, one)
    first = np.searchsorted(large.key, small.key)
    last = np.searchsorted(large.key, small.key, side="right")
    mine, theirs = expand(first, last - 1)
    places = (small.place[mine], large.place[theirs])
    return places if small is one else (places[1], places[0])


class InsertJoin:
    """State: all rows of both sides whose key is not NULL."""

    def __init__(self, node: RegularJoin, keys: JoinKeys) -> None:
        self._node, self._keys = node, keys
        self._residual = Residual(node.residual, node.joined or node.schema)
        self._chunks: tuple[list[Chunk], list[Chunk]] = ([], [])
        self._arrived = [0, 0]

    def process(self, frames: tuple[pl.DataFrame, pl.DataFrame], seqs: tuple[Ints, Ints]) -> list[Found]:
        """Joined rows, in order. One frame per side with the events of its rows."""
        fresh = self._take(frames, seqs)
        found = [one for pair in self._candidates(fresh) if (one := self._found(*pair)) is not None]
        for side, new in enumerate(fresh):
            self._keep(side, new.chunk)
        return [_ordered(found)] if found else []

    def _take(self, frames: tuple[pl.DataFrame, pl.DataFrame], seqs: tuple[Ints, Ints]) -> list[Fresh]:
        fresh = []
        for side, (frame, seq, turn) in enumerate(zip(frames, seqs, turns(*seqs), strict=True)):
            keys, present = self._keys.encode(side, frame)
            if not bool(present.all()):
                frame, keys, seq, turn = frame.filter(pl.Series(present)), keys[present], seq[present], turn[present]
            fresh.append(Fresh(Chunk.of(frame, self._arrived[side], keys), seq, turn))
            self._arrived[side] += len(keys)
        return fresh

    def _candidates(self, fresh: list[Fresh]) -> Iterator[tuple[Chunk, Chunk, Fresh | None, Fresh | None]]:
        left, right = fresh
        if len(left.seq):
            yield from ((left.chunk, old, left, None) for old in self._chunks[1])
        if len(right.seq):
            yield from ((old, right.chunk, None, right) for old in self._chunks[0])
        if len(left.seq) and len(right.seq):
            yield left.chunk, right.chunk, left, right

    def _found(self, left: Chunk, right: Chunk, new_left: Fresh | None, new_right: Fresh | None) -> Found | None:
        one, two = matches(left, right)
        if not len(one):
            return None
        turn_left = new_left.turn[one] if new_left else np.int64(-1)
        turn_right = new_right.turn[two] if new_right else np.int64(-1)
        by_left = turn_left > turn_right
        earlier = np.where(by_left, right.first + two, left.first + one)
        seqs = [fresh.seq[at] for fresh, at in ((new_left, one), (new_right, two)) if fresh]
        joined = side_by_side(left.frame[one], right.frame[two], self._node.schema)
        found = Found(joined, np.maximum.reduce(seqs), np.maximum(turn_left, turn_right), earlier)
        keep = self._residual.of(joined)
        if bool(keep.all()):
            return found
        return Found(joined.filter(pl.Series(keep)), found.seq[keep], found.turn[keep], earlier[keep])

    def _keep(self, side: int, new: Chunk) -> None:
        chunks = self._chunks[side]
        if not len(new.key):
            return
        chunks.append(new)
        while len(chunks) > 1 and len(chunks[-1].key) * 2 >= len(chunks[-2].key):
            newer = chunks.pop()
            chunks[-1] = chunks[-1].merged(newer)

    def rows(self, side: int) -> Iterator[tuple[pl.DataFrame, Ints]]:
        """All rows of a side in order of arrival, with the numbers of their keys."""
        for chunk in self._chunks[side]:
            keys = np.empty_like(chunk.key)
            keys[chunk.place] = chunk.key
            yield chunk.frame, keys

    def held(self) -> int:
        """About how many bytes of rows there are."""
        return sum(chunk.bytes for side in self._chunks for chunk in side)

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The keys with most rows."""
        chunks = [chunk for side in self._chunks for chunk in side]
        numbers = np.concatenate([no_rows(), *(chunk.key for chunk in chunks)])
        each = [np.full(len(chunk.key), chunk.bytes // len(chunk.key)) for chunk in chunks]
        return largest_keys(self._keys, numbers, np.concatenate([no_rows(), *each]), count)

    def snapshot(self) -> State:
        """The chunks of both sides."""
        names = ("frame", "first", "key", "place", "bytes")
        sides = [[{name: getattr(chunk, name) for name in names} for chunk in side] for side in self._chunks]
        return {"chunks": sides, "arrived": self._arrived}

    def restore(self, state: State) -> None:
        """Take a snapshot."""
        left, right = ([Chunk(**chunk) for chunk in side] for side in state["chunks"])
        self._chunks, self._arrived = (left, right), list(state["arrived"])


def _ordered(found: list[Found]) -> Found:
    if len(found) == 1:
        frame, seq, turn, earlier = found[0].frame, found[0].seq, found[0].turn, found[0].earlier
    else:
        frame = pl.concat([one.frame for one in found])
        columns = ([one.seq for one in found], [one.turn for one in found], [one.earlier for one in found])
        seq, turn, earlier = (np.concatenate(parts) for parts in columns)
    order = np.lexsort((earlier, turn))
    return Found(frame[order], seq[order], turn[order], earlier[order])
