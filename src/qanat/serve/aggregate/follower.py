"""Feeds the rows in memory from the log, in a thread of its own: from as far back as there is room, then as they come.

Like any consumer without a stored position it holds nothing back, and begins again when the process does, and when the
rows of a stream were replaced (`qanat replay`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from qanat.clock import now_ms
from qanat.errors import QanatError
from qanat.log.base import Listed, Log
from qanat.model.lake import is_archived
from qanat.model.serve import RecentRows as Settings
from qanat.serve.aggregate.blocks import ROW_BYTES
from qanat.serve.aggregate.measure import Measure
from qanat.serve.aggregate.recent import RecentRows
from qanat.serve.aggregate.tally import Ints

#: Called in the thread of the follower: rows of these series were taken; a series stands there once or more often.
OnRows = Callable[[RecentRows, Sequence[Ints]], None]
#: Called in the thread of the follower: rows of this measure that were taken are no longer there.
OnAnew = Callable[[str], None]

#: s between two looks at what has come: rows of many commits are taken together.
_LINGER_S = 0.05
#: s after which it looks although nothing seems to have come, and after a failure.
_IDLE_S = 1.0
_ROWS = 1 << 17
#: How much later than its event a row may have arrived and still count as in time, where older rows are gone (ms).
_SKEW_MS = 300_000
_STEPS = 24


@dataclass(frozen=True, slots=True)
class _Followed:
    """`begin`: partition -> the offset where reading began."""

    recent: RecentRows
    begin: Mapping[int, int]


class Follower:
    """Rows of all `measures` that can be kept. `fault`: what keeps it from reading, None while all is well."""

    def __init__(
        self,
        log: Log,
        measures: Mapping[str, Measure],
        settings: Settings,
        clock: Callable[[], int] = now_ms,
        on_rows: OnRows | None = None,
        on_size: Callable[[str, int], None] | None = None,
        on_anew: OnAnew | None = None,
    ) -> None:
        self._on_size, self._on_anew = on_size, on_anew
        self._log, self._settings, self._clock, self._on_rows = log, settings, clock, on_rows
        self._measures = {name: one for name, one in measures.items() if one.follows_log}
        self._began: dict[str, _Followed] = {}
        self._ready: dict[str, RecentRows] = {}
        self._woken, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="qanat-recent", daemon=True)
        self._unwatch: Callable[[], None] | None = None
        self.fault: str | None = None

    def recent(self, name: str) -> RecentRows | None:
        """The rows of a measure; None while it has not caught up, and where none are kept."""
        return self._ready.get(name)

    def start(self) -> None:
        """Begin."""
        if self._measures:
            self._unwatch = self._log.watch(self._woken.set)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; the log may be closed then."""
        if self._unwatch is not None:
            self._unwatch()
            self._ended.set()
            self._woken.set()
            self._thread.join()

    def catch_up(self) -> None:
        """Take everything that the log has now. Raises `LogError`."""
        for name, measure in self._measures.items():
            if name not in self._began:
                self._began[name] = self._begin(measure)
            while not self._read_on(self._began[name]):
                self._ready.pop(name, None)  # SQL answers until the new rows have been read
                self._began[name] = self._begin(measure)
                if self._on_anew is not None:
                    self._on_anew(name)
            if self._ended.is_set():
                return
            recent = self._began[name].recent
            recent.expire(self._clock())
            self._ready[name] = recent
            if self._on_size is not None:
                self._on_size(name, recent.bytes)

    def _read_on(self, followed: _Followed) -> bool:
        """Take what is new; False where what was taken before is not what the stream holds now."""
        recent = followed.recent
        if self._is_replaced(followed):
            return False
        for partition in recent.positions:
            while chunks := self._log.read((recent.measure.stream.name, partition), recent.positions[partition], _ROWS):
                if self._is_replaced(followed):  # after the read: so these rows are of the version that was taken
                    return False
                touched = recent.take(chunks, self._clock())
                if self._ended.is_set():
                    return True
                if self._on_rows is not None and touched:
                    self._on_rows(recent, touched)
        return True

    def _is_replaced(self, followed: _Followed) -> bool:
        """Whether the log has none of the rows any more that were read.

        Offsets go on where `Replaceable.replace` swaps a stream, so every partition then begins at or behind where this
        one stands. It is so, too, where retention has deleted all that was read; beginning anew is right then as well.
        """
        positions = followed.recent.positions
        if positions == followed.begin:
            return False
        starts = self._log.status()[followed.recent.measure.stream.name].starts
        return all(starts[partition] >= offset for partition, offset in positions.items())

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.catch_up()
                self.fault = None
            except QanatError as error:  # shown by /healthz, tried again; SQL answers meanwhile
                self.fault = str(error)
                self._ready.clear()
                self._began.clear()
            self._ended.wait(_LINGER_S if self.fault is None else _IDLE_S)
            self._woken.wait(_IDLE_S)
            self._woken.clear()

    def _begin(self, measure: Measure) -> _Followed:
        """An empty one that stands where rows of the horizon may begin, or as many as there is room for."""
        name, now = measure.stream.name, self._clock()
        memory = int(self._settings.memory) // len(self._measures)
        status = self._log.status()[name]
        since = now - int(self._settings.horizon)
        offsets = self._offsets(name, status.ends, since)
        ends = sum(status.ends.values())
        if ends - sum(offsets.values()) > memory // ROW_BYTES:
            low, high = since, now
            for _ in range(_STEPS):
                since = (low + high) // 2
                offsets = self._offsets(name, status.ends, since)
                fits = ends - sum(offsets.values()) <= memory // ROW_BYTES
                low, high = (low, since) if fits else (since, high)
            since, offsets = high, self._offsets(name, status.ends, high)
        for partition, start in status.starts.items():
            offsets[partition] = max(offsets[partition], start)
            # rows of the horizon may be gone from the log, not from the archive
            if start and start == offsets[partition] and is_archived(status.stream):
                first = self._log.read((name, partition), start, 1)
                since = max(since, (first[0].at if first else now) + _SKEW_MS)
        return _Followed(RecentRows(measure, int(self._settings.horizon), memory, since, offsets), offsets)

    def _offsets(self, stream: str, partitions: Mapping[int, int], since: int) -> dict[int, int]:
        listed = cast(Listed, self._log)  # all logs that a project can have are
        return {partition: listed.offset_at((stream, partition), since) for partition in partitions}
