"""A cache in this process, as a place for answers: they are kept as objects, and a hit waits for nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from qanat.clock import Clock
from qanat.observe.caches import CacheMeter
from qanat.stores.cache.base import CacheDriver, InProcess
from qanat.stores.cache.entry import STAMP_SIZE, Entry, new_stamp
from qanat.stores.cache.place import Found

#: So long a stamp is kept, at most. Without it the answers are made anew, which is all.
_STAMP_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class _Held:
    """What is kept under a key: the answer, and where its tags have their stamps."""

    entry: Entry
    stamp_keys: tuple[str, ...]


class InProcessDriver(CacheDriver, InProcess, Protocol):
    """A driver that can do both."""


class Near:
    """See `Place`. Always usable; neither slow nor down."""

    def __init__(self, driver: InProcessDriver, meter: CacheMeter, clock: Clock, label: str) -> None:
        self.label = label
        self._driver, self._meter, self._clock = driver, meter, clock
        self._look = driver.look

    def usable(self) -> bool:
        """See `Place`."""
        return True

    def peek(self, key: str) -> bytes | None:
        """The fresh answer, at once, or None. Only a hit is counted: who finds none goes on to fetch."""
        began = self._clock.seconds()
        entry = self._valid(key)
        if entry is None or not entry.fresh(self._clock.now_ms()):
            return None
        self._meter.hit(self._clock.seconds() - began)
        return entry.payload

    def has(self, key: str) -> bool:
        """Whether there is an answer that may be given, fresh or stale. Not counted."""
        entry = self._valid(key)
        return entry is not None and entry.usable(self._clock.now_ms())

    async def read(self, key: str, tags: Sequence[str]) -> Found:
        """See `Place`."""
        return self.look(key, tags)

    def look(self, key: str, tags: Sequence[str]) -> Found:
        """As `read`, at once."""
        began, now = self._clock.seconds(), self._clock.now_ms()
        entry = self._valid(key)
        outcome = "miss"
        if entry is not None:
            outcome = "hit" if entry.fresh(now) else "stale" if entry.usable(now) else "miss"
        stamps = tuple(map(self._stamp, tags))
        self._meter.read(outcome, self._clock.seconds() - began)
        return Found(None if outcome == "miss" else entry, stamps)

    async def store(self, key: str, entry: Entry, tags: Sequence[str]) -> None:
        """See `Place`."""
        self.keep(key, entry, tags)

    def keep(self, key: str, entry: Entry, tags: Sequence[str]) -> None:
        """As `store`, at once."""
        began = self._clock.seconds()
        held = _Held(entry, tuple("t:" + tag for tag in tags))
        size = len(entry.payload) + 150 * len(tags)
        self._driver.hold("e:" + key, held, size, entry.ttl_ms + entry.stale_ms)
        self._meter.wrote(True, self._clock.seconds() - began)

    def invalidate(self, tags: Collection[str]) -> None:
        """See `Place`."""
        self._driver.forget(["t:" + tag for tag in tags])
        self._meter.dropped(len(tags))

    async def settle(self) -> None:
        """See `Place`. There is nobody else."""

    async def close(self) -> None:
        """See `Place`."""
        await self._driver.close()

    def _valid(self, key: str) -> Entry | None:
        held = self._look("e:" + key)
        if not isinstance(held, _Held):
            return None
        entry = held.entry
        for stamp_key, stamp in zip(held.stamp_keys, entry.stamps, strict=True):
            if self._look(stamp_key) != stamp:
                return None
        return entry

    def _stamp(self, tag: str) -> bytes:
        found = self._look("t:" + tag)
        if isinstance(found, bytes):
            return found
        stamp = new_stamp()
        self._driver.hold("t:" + tag, stamp, STAMP_SIZE, _STAMP_MS)
        return stamp
