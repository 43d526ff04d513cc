"""Which rows OVER takes, and when the state of a key is cleared. Arrays by key number; see `over.py`."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from qanat.sql.embedded.flow import NULL_TIME, Batch, Ints, State
from qanat.sql.embedded.over_frames import Mask
from qanat.sql.plan import Over

_NEVER = np.iinfo(np.int64).min
_SMALLEST = 64
Pending = dict[int, list[tuple[int, int]]]


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

    def judge(self, keys: Ints, times: Ints, batch: Batch, waiting: Ints, due: Ints) -> tuple[Mask, Ints]:
        """Which rows are late, and the life of its key that each of the others belongs to. `waiting`, `due`: keys and
        times of the rows that wait."""
        late = np.zeros(len(keys), dtype=np.bool_)
        lives = np.zeros(len(keys), dtype=np.int64)
        if not self._timed:
            return late, lives
        before = batch.before
        late |= times == NULL_TIME
        behind = (times <= before) & ~late
        if not self._bounded:
            return late | behind, lives
        slow = np.zeros(len(self._last), dtype=np.bool_)
        slow[keys[behind]] = True
        fast = np.flatnonzero(~slow[keys] & ~late)
        lives[fast] = self._accept(keys[fast], times[fast], before[fast])
        rows = np.flatnonzero(slow[keys] & ~late)
        if len(rows):
            mine = slow[waiting]
            pending = _pending(waiting[mine], due[mine], int(batch.track[0]))
            self._one_by_one(rows, (keys[rows], times[rows], before[rows]), pending, late, lives)
        return late, lives

    def _one_by_one(
        self, rows: Ints, columns: tuple[Ints, Ints, Ints], pending: Pending, late: Mask, lives: Ints
    ) -> None:
        """Rows of keys of which some row is behind the watermark: in order of arrival."""
        last, life = self._last, self._lives
        each = (column.tolist() for column in columns)
        for row, key, time, watermark in zip(rows.tolist(), *each, strict=True):
            waits = pending.setdefault(key, [])
            while waits and waits[0][0] <= watermark:
                last[key] = max(int(last[key]), heappop(waits)[1])
            self._set_off(key, watermark)
            if time <= last[key]:
                late[row] = True
                continue
            self._use(key, time, watermark)
            lives[row] = life[key]
            heappush(waits, (max(time, watermark + 1), time))

    def _accept(self, keys: Ints, times: Ints, before: Ints) -> Ints:
        """Rows ahead of the watermark are taken: the life of its key that each belongs to."""
        lives = self._lives[keys]
        if self._preceding is None:
            return lives
        rows = np.flatnonzero((self._until[keys] == _NEVER) | (times + self._preceding + 1 > self._until[keys]))
        some = (keys[rows].tolist(), times[rows].tolist(), before[rows].tolist())
        for row, key, time, watermark in zip(rows.tolist(), *some, strict=True):
            self._set_off(key, watermark)
            self._use(key, time, watermark)
            lives[row] = self._lives[key]
        return lives

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
        if self._until[key] != _NEVER and self._clears[key] <= watermark:
            self._lives[key] += 1
            self._last[key] = self._until[key] = self._clears[key] = _NEVER

    def _use(self, key: int, time: int, watermark: int) -> None:
        """A row is taken: the state is needed until its frame is over, and half as long again."""
        reach, until = self._preceding, int(self._until[key])
        if reach is None or (until != _NEVER and until >= time + reach + 1):
            return
        if until != _NEVER:
            self._idle.setdefault(key, []).append((int(self._clears[key]), until))
        self._until[key] = time + int(reach * 1.5) + 1
        self._clears[key] = max(int(self._until[key]), watermark + 1)

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


def _pending(keys: Ints, times: Ints, watermark: int) -> Pending:
    """Per key the rows that wait, as a heap: the watermark that lets each go, and its time."""
    found: Pending = {}
    # a row that the watermark had reached when it came waits for the watermark's next step
    for key, time in zip(keys.tolist(), times.tolist(), strict=True):
        heappush(found.setdefault(key, []), (max(time, watermark + 1), time))
    return found
