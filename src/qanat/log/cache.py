"""The newest appends in memory, so that readers at the tail need neither SQLite nor a copy."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import islice
from threading import Lock

from qanat.log.admission import Entry
from qanat.log.base import Place
from qanat.log.chunks import Stored, decode_rows

_TRIM_AFTER = 1024


class _Tail:
    """The appends of one place from `head` on; what lies before is forgotten and cut off now and then."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.batches: list[Stored | None] = []
        self.head = 0

    def add(self, stored: Stored) -> None:
        self.offsets.append(stored.offset)
        self.batches.append(stored)

    def forget(self, offset: int) -> None:
        if self.head < len(self.offsets) and self.offsets[self.head] == offset:
            self.batches[self.head] = None  # the rows go now, the places when many have gathered
            self.head += 1
            if self.head >= min(_TRIM_AFTER, len(self.offsets)):
                del self.offsets[: self.head], self.batches[: self.head]
                self.head = 0

    def find(self, offset: int, max_rows: int) -> list[Stored] | None:
        place = bisect_right(self.offsets, offset, lo=self.head) - 1
        if place < self.head:
            return None
        rows = self.offsets[place] - offset
        found: list[Stored] = []
        for stored in islice(self.batches, place, None):
            if stored is None or (found and rows >= max_rows):
                break
            rows += stored.span
            found.append(stored)
        return found


class TailCache:
    """Bounded by bytes over all places. What it holds of a place has no gap and reaches to the newest commit."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = Lock()
        self._tails: dict[Place, _Tail] = {}
        self._order: deque[tuple[Place, int, int]] = deque()  # place, offset, bytes; oldest first

    def add(self, appends: list[tuple[Entry, int, int]]) -> None:
        """Take what was committed: entry, seq, offset; in the order of the log."""
        with self._lock:
            for entry, seq, offset in appends:
                rows = decode_rows(entry.data, entry.known.schema)
                stored = Stored(entry.place, seq, offset, entry.count, entry.append.at, None, rows)
                self._tails.setdefault(entry.place, _Tail()).add(stored)
                self._order.append((entry.place, offset, entry.data.size))
                self._bytes += entry.data.size
            self._shrink()

    def drop(self, place: Place) -> None:
        """Forget a place, since older rows of it were deleted or rewritten."""
        with self._lock:
            self._tails.pop(place, None)

    def find(self, place: Place, offset: int, max_rows: int) -> list[Stored] | None:
        """The append that holds `offset` and those after it, up to `max_rows` rows; None where it is not held."""
        with self._lock:
            tail = self._tails.get(place)
            return None if tail is None else tail.find(offset, max_rows)

    def _shrink(self) -> None:
        while self._bytes > self._max_bytes:
            place, offset, size = self._order.popleft()
            self._bytes -= size
            if place in self._tails:
                self._tails[place].forget(offset)
