"""Rows of one micro-batch sorted by key, with a place for the state before the first row of each key. Pure numpy.

    rows of keys   a b a a b           sorted     a a a b b
    padded         [A] a a a [B] b b   [A] = head: the state of key a before the batch

A scan (running sum, running minimum) over a padded array gives for every row the accumulator after it; the one before
it stands one place to the left. A *life* of a key is a segment: it ends when its last row is retracted or when it was
not touched for its time to live; the next row of the key starts a new life with an empty state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qanat.sql.embedded.flow import Array, Ints

Mask = npt.NDArray[np.bool_]

#: Segments up to this many rows are scanned side by side, longer ones one by one.
_SIDE_BY_SIDE = 48


@dataclass(frozen=True, slots=True)
class Layout:
    """`order`: for each row in sorted order its position in the batch (rows that count for nothing are left out);
    `place`: its place in padded arrays. Per segment: `numbers` (of the key), `heads` (place of its head), `lengths`
    (rows), `fresh` (starts a new life), `last` (of the segments of its key). `sign`: +1 and -1 per row in sorted
    order; None: all +1."""

    order: Ints
    place: Ints
    numbers: Ints
    heads: Ints
    lengths: Ints
    fresh: Mask
    last: Mask
    sign: Ints | None

    @property
    def size(self) -> int:
        """Length of padded arrays."""
        return len(self.order) + len(self.heads)

    @property
    def starts(self) -> Ints:
        """Position of the first row of each segment in sorted order."""
        return self.heads - np.arange(len(self.heads))

    @property
    def ends(self) -> Ints:
        """Place of the last row of each segment."""
        return self.heads + self.lengths

    def padded(self, state: Array, neutral: float | int, rows: Array) -> Array:
        """Heads from `state` (by key number) or, in a new life, `neutral`; `rows` in sorted order behind them."""
        whole = np.empty(self.size, dtype=state.dtype)
        whole[self.heads] = np.where(self.fresh, np.asarray(neutral, dtype=state.dtype), state[self.numbers])
        whole[self.place] = rows
        return whole

    def store(self, state: Array, whole: Array) -> None:
        """The accumulators behind the last rows of the keys become their state."""
        state[self.numbers[self.last]] = whole[self.ends[self.last]]

    def scan(self, operation: np.ufunc, whole: Array) -> Array:
        """Running `operation` per segment, in place, strictly in row order."""
        if operation is np.add and whole.dtype.kind == "i":
            return self._count(whole)
        by_length = np.argsort(-self.lengths, kind="stable")
        longest_first = self.lengths[by_length]
        long = int(np.searchsorted(-longest_first, -_SIDE_BY_SIDE, side="left"))
        for head, length in zip(self.heads[by_length[:long]].tolist(), longest_first[:long].tolist(), strict=True):
            part = whole[head : head + length + 1]
            operation.accumulate(part, out=part)
        heads, lengths = self.heads[by_length[long:]], longest_first[long:]
        for step in range(1, int(lengths[0]) + 1 if len(lengths) else 0):
            here = heads[: int(np.searchsorted(-lengths, -step, side="right"))] + step
            whole[here] = operation(whole[here - 1], whole[here])
        return whole

    def _count(self, whole: Array) -> Array:
        """Integers may be summed across segments: what was before a segment is taken off again."""
        running = np.cumsum(whole)
        if len(self.heads) > 1:
            running -= np.repeat(running[self.heads] - whole[self.heads], self.lengths + 1)
        elif len(self.heads):
            running -= running[0] - whole[0]
        whole[:] = running
        return whole


@dataclass(frozen=True, slots=True)
class Keys:
    """The state by which lives are told: per key number the count of its rows (0: not alive) and when it was last
    touched (ms; 0: unknown)."""

    rows: Ints
    touched: Ints


def by_key(numbers: Ints) -> Ints:
    """Positions of the rows sorted by key number, stably."""
    if bool((numbers[1:] >= numbers[:-1]).all()):
        return np.arange(len(numbers))
    bits = np.int64(max(len(numbers) - 1, 1)).item().bit_length()
    both = (numbers << bits) | np.arange(len(numbers))
    both.sort()
    return np.asarray(both & ((1 << bits) - 1))


def lay_out(numbers: Ints, sign: Ints | None, times: Ints, keys: Keys, ttl: int | None) -> Layout:
    """The layout of a batch. `times`: arrival of each row. `keys` is not changed."""
    order = by_key(numbers)
    if sign is not None and not bool((sign < 0).any()):
        sign = None
    if sign is None:
        mine = numbers[order]
        opens = np.ones(len(mine), dtype=np.bool_)
        opens[1:] = mine[1:] != mine[:-1]
        fresh = opens & (keys.rows[mine] == 0)
        if ttl is not None:
            fresh |= _expired(mine, opens, times[order], keys, ttl)
    elif ttl is None:
        order, fresh = _lives(order, numbers, sign, keys)
    else:
        order, fresh = _lives_with_ttl(order, numbers, sign, times, keys, ttl)
    return _segments(order, numbers[order], fresh, None if sign is None else sign[order])


def _expired(mine: Ints, opens: Mask, times: Ints, keys: Keys, ttl: int) -> Mask:
    before = np.empty_like(times)
    before[1:] = times[:-1]
    before[opens] = keys.touched[mine[opens]]
    return np.asarray((before > 0) & (before + ttl <= times))


def _segments(order: Ints, mine: Ints, fresh: Mask, sign: Ints | None) -> Layout:
    opens = fresh.copy()
    opens[:1] = True
    opens[1:] |= mine[1:] != mine[:-1]
    starts = np.flatnonzero(opens)
    numbers = mine[starts]
    last = np.ones(len(starts), dtype=np.bool_)
    last[:-1] = numbers[1:] != numbers[:-1]
    return Layout(
        order=order,
        place=np.arange(len(order)) + np.cumsum(opens),
        numbers=numbers,
        heads=starts + np.arange(len(starts)),
        lengths=np.diff(starts, append=len(order)),
        fresh=fresh[starts],
        last=last,
        sign=sign,
    )


def _lives(order: Ints, numbers: Ints, sign: Ints, keys: Keys) -> tuple[Ints, Mask]:
    """Rows that count, and which of them start a life.

    A retraction where there is no row counts for nothing: with s the running sum of signs, the true count is
    s - min(0, lowest s so far), and the rows that count for nothing are those that lower the lowest.
    """
    mine = numbers[order]
    plain = _segments(order, mine, np.zeros(len(mine), dtype=np.bool_), sign[order])
    running = plain.scan(np.add, plain.padded(keys.rows, 0, sign[order]))
    lowest = plain.scan(np.minimum, np.minimum(running, 0))
    ignored = lowest[plain.place] < lowest[plain.place - 1]
    count = running - lowest
    before, after = count[plain.place - 1], count[plain.place]
    return order[~ignored], (before == 0)[~ignored] & (after > 0)[~ignored]


def _lives_with_ttl(order: Ints, numbers: Ints, sign: Ints, times: Ints, keys: Keys, ttl: int) -> tuple[Ints, Mask]:
    """As `_lives`, one by one: whether a row counts depends on what expired before it, and the other way round."""
    kept, fresh = [], []
    now, count, touched = -1, 0, 0
    for row, number, step, time in zip(
        order.tolist(), numbers[order].tolist(), sign[order].tolist(), times[order].tolist(), strict=True
    ):
        if number != now:
            now, count, touched = number, int(keys.rows[number]), int(keys.touched[number])
        if touched > 0 and touched + ttl <= time:
            count = 0
        if count == 0 and step < 0:
            continue
        kept.append(row)
        fresh.append(count == 0)
        count, touched = count + step, time
    return np.asarray(kept, dtype=np.int64), np.asarray(fresh, dtype=np.bool_)
