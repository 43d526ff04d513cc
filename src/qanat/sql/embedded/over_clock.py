"""Which rows OVER takes, and when the state of a key is cleared. Arrays by key number; see `over.py`."""

from __future__ import annotations

import numpy as np

from qanat.sql.embedded.flow import NULL_TIME, Batch, Ints, State
from qanat.sql.embedded.over_frames import Mask
from qanat.sql.plan import Over

_NEVER = np.iinfo(np.int64).min
_SMALLEST = 64


class OverClock:
    """`_last`: event time of the last row emitted. RANGE frames also have `_until`: the time of the timer that clears
    the state, `_clears`: the watermark that sets it off, `_lives`: how often that happened. A timer that a later one
    has replaced (`_idle`) does not clear the state, but Flink takes its time for that of a row emitted."""

    def __init__(self, node: Over) -> None:
        self._timed = node.time is not None
        self._bounded = node.preceding is not None
        self._preceding = None if node.rows or node.preceding is None or not self._timed else node.preceding
        self.reason = "a later row of its key is out already" if self._bounded else "the watermark has reached the row"
        self._last, self._until, self._clears, self._lives = (np.empty(0, dtype=np.int64) for _ in range(4))
        self._idle: dict[int, list[tuple[int, int]]] = {}

    def grow(self, count: int) -> None:
        """There are so many keys."""
        if len(self._last) >= count:
            return
        size = max(2 * len(self._last), count, _SMALLEST)
        arrays = ((self._last, _NEVER), (self._until, _NEVER), (self._clears, _NEVER), (self._lives, 0))
        self._last, self._until, self._clears, self._lives = (
            np.concatenate([array, np.full(size - len(array), fill, dtype=np.int64)]) for array, fill in arrays
        )

    def judge(self, keys: Ints, times: Ints, batch: Batch, waiting: Ints, due: Ints) -> tuple[Mask, Mask]:
        """Rows that are late for sure, and rows of which only the state at their event can tell. `waiting`, `due`: keys
        and times of the rows that wait."""
        none = np.zeros(len(keys), dtype=np.bool_)
        if not self._timed:
            return none, none
        behind = times <= batch.before
        if not self._bounded:
            return behind | (times == NULL_TIME), none
        late = times == NULL_TIME
        rows = np.flatnonzero(behind & ~late)
        if not len(rows):
            return late, none
        before, mine, at = batch.before[rows], keys[rows], times[rows]
        sure = (at <= self._last[mine]) & ~self._cleared(mine, before)
        ahead = ~behind & ~late
        found, time = _before(
            np.concatenate([waiting, keys[ahead]]),
            # a row that waits for the watermark's next step has not been emitted at this one
            np.concatenate([np.maximum(due, batch.track[0] + 1), times[ahead]]),
            np.concatenate([due, times[ahead]]),
            mine,
            before,
        )
        kept = True if self._preceding is None else before <= time + self._preceding
        sure |= found & (at <= time) & kept
        late[rows] = sure
        unsure = none.copy()
        unsure[rows] = ~sure
        return late, unsure

    def _cleared(self, keys: Ints, watermarks: Ints | int) -> Mask:
        if self._preceding is None:
            return np.zeros(len(keys), dtype=np.bool_)
        return np.asarray((self._clears[keys] <= watermarks) & (self._until[keys] != _NEVER))

    def decide(self, keys: Ints, times: Ints, watermark: int) -> Mask:
        """Which of the rows behind the watermark are late, given all that was emitted before their event."""
        for key in np.unique(keys).tolist():
            self._set_off(key, watermark)
        return np.asarray(times <= self._last[keys])

    def _set_off(self, key: int, watermark: int) -> None:
        """The timers of a key that the watermark has reached."""
        idle = self._idle.get(key)
        if idle is not None:
            done = [time for when, time in idle if when <= watermark]
            if done:
                self._last[key] = max(int(self._last[key]), *done)
                self._idle[key] = [one for one in idle if one[0] > watermark]
                if not self._idle[key]:
                    del self._idle[key]
        if self._until[key] != _NEVER and self._clears[key] <= watermark and self._preceding is not None:
            self._lives[key] += 1
            self._last[key] = self._until[key] = self._clears[key] = _NEVER

    def accept(self, keys: Ints, times: Ints, before: Ints) -> Ints:
        """The rows are taken: the life of its key that each belongs to."""
        lives = self._lives[keys]
        if self._preceding is None:
            return lives
        reach = self._preceding
        until, clears, life = self._until, self._clears, self._lives
        rows = np.flatnonzero((until[keys] == _NEVER) | (times + reach + 1 > until[keys]))
        some = (keys[rows].tolist(), times[rows].tolist(), before[rows].tolist())
        for row, key, time, watermark in zip(rows.tolist(), *some, strict=True):
            self._set_off(key, watermark)
            if until[key] == _NEVER or until[key] < time + reach + 1:
                if until[key] != _NEVER:
                    self._idle.setdefault(key, []).append((int(clears[key]), int(until[key])))
                until[key] = time + int(reach * 1.5) + 1
                clears[key] = max(until[key], watermark + 1)
            lives[row] = life[key]
        return lives

    def emitted(self, keys: Ints, times: Ints, lives: Ints) -> None:
        """These rows are out."""
        now = lives == self._lives[keys]
        np.maximum.at(self._last, keys[now], times[now])

    def used(self, watermark: int) -> Mask:
        """For each key whether it still has state; only that of RANGE frames ends."""
        if self._preceding is None:
            return np.ones(len(self._last), dtype=np.bool_)
        return np.asarray((self._clears > watermark) & (self._until != _NEVER))

    def keep(self, used: Mask) -> None:
        """Forget the keys that are not used; the others move up."""
        arrays = (self._last, self._until, self._clears, self._lives)
        self._last, self._until, self._clears, self._lives = (array[: len(used)][used] for array in arrays)
        renumber = np.cumsum(used) - 1
        self._idle = {int(renumber[key]): idle for key, idle in self._idle.items() if used[key]}

    def snapshot(self, count: int) -> State:
        """The arrays."""
        arrays = (self._last, self._until, self._clears, self._lives)
        idle = [[key, *one] for key, timers in self._idle.items() for one in timers]
        return {"arrays": [array[:count] for array in arrays], "idle": idle}

    def restore(self, state: State) -> None:
        """Take them."""
        self._last, self._until, self._clears, self._lives = (array.copy() for array in state["arrays"])
        self._idle = {}
        for key, when, time in state["idle"]:
            self._idle.setdefault(key, []).append((when, time))


def _before(keys: Ints, order: Ints, times: Ints, wanted: Ints, watermarks: Ints) -> tuple[Mask, Ints]:
    """For each wanted key the row with the greatest `order` <= the watermark: whether there is one, and its time."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.bool_), np.zeros(len(wanted), dtype=np.int64)
    moments, rank = np.unique(order, return_inverse=True)
    width = len(moments) + 1
    code = keys * width + rank
    by_code = np.argsort(code, kind="stable")
    upto = np.searchsorted(moments, watermarks, side="right") - 1
    place = np.searchsorted(code[by_code], wanted * width + upto, side="right") - 1
    row = by_code[np.maximum(place, 0)]
    return np.asarray((place >= 0) & (upto >= 0) & (keys[row] == wanted)), times[row]
