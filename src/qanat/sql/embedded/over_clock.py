"""Which rows OVER takes, and when the state of a key is cleared. Arrays by key number; see `over.py`."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from qanat.sql.embedded.flow import NULL_TIME, Batch, Ints, State
from qanat.sql.embedded.over_frames import Mask
from qanat.sql.plan import Over

_NEVER = np.iinfo(np.int64).min
_SMALLEST = 64
#: Per row: key, life, the watermark that sets the timer off, its time.
_NO_TIMERS = np.empty((0, 4), dtype=np.int64)
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
        self._idle = _NO_TIMERS
        self._replaced: list[Ints] = []

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
        self._fold(int(batch.track[0]))
        slow = np.zeros(len(self._last), dtype=np.bool_)
        slow[keys[behind]] = True
        fast = np.flatnonzero(~slow[keys] & ~late)
        lives[fast] = self._accept(keys[fast], times[fast], before[fast])
        rows = np.flatnonzero(slow[keys] & ~late)
        if len(rows):
            mine = slow[waiting]
            pending = _pending(waiting[mine], due[mine], int(batch.track[0]))
            self._one_by_one(rows, (keys[rows], times[rows], before[rows]), pending, (late, lives))
        return late, lives

    def _fold(self, watermark: int) -> None:
        """Replaced timers that the watermark has reached."""
        if self._replaced:
            self._idle = np.concatenate([self._idle, *self._replaced])
            self._replaced = []
        done = self._idle[:, 2] <= watermark
        if done.any():
            keys, life, _, time = self._idle[done].T
            mine = life == self._lives[keys]
            np.maximum.at(self._last, keys[mine], time[mine])
            self._idle = self._idle[~done]

    def _replace(self, keys: Ints) -> None:
        """The timers of these keys are replaced by later ones."""
        if len(keys):
            columns = (keys, self._lives[keys], self._clears[keys], self._until[keys])
            self._replaced.append(np.stack(columns, axis=1))

    # -- rows ahead of the watermark ----------------------------------------------------------------------------------

    def _accept(self, keys: Ints, times: Ints, before: Ints) -> Ints:
        """Keys of which no row is behind the watermark: all rows are taken. In rounds, each with at most one row of a
        key: the next one that moves its timer."""
        lives = self._lives[keys]
        if self._preceding is None:
            return lives
        needs = times + self._preceding + 1
        todo = np.flatnonzero((self._until[keys] == _NEVER) | (needs > self._until[keys]))
        cleared: list[Ints] = []
        while len(todo):
            first = todo[np.unique(keys[todo], return_index=True)[1]]
            cleared.append(first[self._clear(keys[first], before[first])])
            mine = keys[first]
            self._replace(mine[self._until[mine] != _NEVER])
            self._until[mine] = times[first] + int(self._preceding * 1.5) + 1
            self._clears[mine] = np.maximum(self._until[mine], before[first] + 1)
            todo = todo[needs[todo] > self._until[keys[todo]]]
        return lives + _count(np.concatenate(cleared), keys) if cleared else lives

    def _clear(self, keys: Ints, watermarks: Ints) -> Mask:
        """Clear the state of the keys whose time is up: which of them."""
        gone = (self._until[keys] != _NEVER) & (self._clears[keys] <= watermarks)
        up = keys[gone]
        self._lives[up] += 1
        self._last[up] = self._until[up] = self._clears[up] = _NEVER
        return np.asarray(gone)

    # -- rows behind it -----------------------------------------------------------------------------------------------

    def _one_by_one(
        self, rows: Ints, columns: tuple[Ints, Ints, Ints], pending: Pending, found: tuple[Mask, Ints]
    ) -> None:
        """Rows of keys of which some row is behind the watermark: in order of arrival."""
        late, lives = found
        last, life = self._last, self._lives
        idle = self._timers(columns[0])
        each = (column.tolist() for column in columns)
        for row, key, time, watermark in zip(rows.tolist(), *each, strict=True):
            for heap in (pending.setdefault(key, []), idle.setdefault(key, [])):
                while heap and heap[0][0] <= watermark:
                    last[key] = max(int(last[key]), heappop(heap)[1])
            if self._until[key] != _NEVER and self._clears[key] <= watermark:
                self._clear(np.array([key]), np.array([watermark]))
            if time <= last[key]:
                late[row] = True
                continue
            self._use(key, time, watermark, idle[key])
            lives[row] = life[key]
            heappush(pending[key], (max(time, watermark + 1), time))

    def _timers(self, keys: Ints) -> Pending:
        """The replaced timers of these keys, as heaps."""
        wanted = np.zeros(len(self._last), dtype=np.bool_)
        wanted[keys] = True
        mine = self._idle[wanted[self._idle[:, 0]]]
        found: Pending = {}
        for key, when, time in mine[mine[:, 1] == self._lives[mine[:, 0]]][:, [0, 2, 3]].tolist():
            heappush(found.setdefault(key, []), (when, time))
        return found

    def _use(self, key: int, time: int, watermark: int, idle: list[tuple[int, int]]) -> None:
        """A row is taken: the state is needed until its frame is over, and half as long again."""
        reach, until = self._preceding, int(self._until[key])
        if reach is None or (until != _NEVER and until >= time + reach + 1):
            return
        if until != _NEVER:
            self._replace(np.array([key]))
            heappush(idle, (int(self._clears[key]), until))
        self._until[key] = time + int(reach * 1.5) + 1
        self._clears[key] = max(int(self._until[key]), watermark + 1)

    # -- state --------------------------------------------------------------------------------------------------------

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
        self._fold(_NEVER)
        self._idle = self._idle[used[self._idle[:, 0]]]
        self._idle[:, 0] = (np.cumsum(used) - 1)[self._idle[:, 0]]

    def snapshot(self, count: int) -> State:
        """The arrays."""
        arrays = (self._last, self._until, self._clears, self._lives)
        self._fold(_NEVER)
        return {"arrays": [array[:count] for array in arrays], "idle": self._idle}

    def restore(self, state: State) -> None:
        """Take them."""
        self._last, self._until, self._clears, self._lives = (array.copy() for array in state["arrays"])
        self._idle = state["idle"].copy()


def _count(cleared: Ints, keys: Ints) -> Ints:
    """For each row how many of the rows `cleared` have its key and stand at or before it."""
    width = len(keys) + 1
    codes = np.sort(keys[cleared] * width + cleared)
    upto = np.searchsorted(codes, keys * width + np.arange(len(keys)), side="right")
    return np.asarray(upto - np.searchsorted(codes, keys * width))


def _pending(keys: Ints, times: Ints, watermark: int) -> Pending:
    """Per key the rows that wait, as a heap: the watermark that lets each go, and its time."""
    found: Pending = {}
    # a row that the watermark had reached when it came waits for the watermark's next step
    for key, time in zip(keys.tolist(), times.tolist(), strict=True):
        heappush(found.setdefault(key, []), (max(time, watermark + 1), time))
    return found
