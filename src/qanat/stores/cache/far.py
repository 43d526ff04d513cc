"""A cache in a server, as a place for answers: every call has a limit of time, a breaker decides whether it is asked.

What was invalidated while the server could not be told is owed to it: until it knows, answers with these tags are taken
for old here, and the breaker does not close before everything is paid.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qanat.clock import Clock
from qanat.errors import CacheError
from qanat.observe.caches import CacheMeter
from qanat.stores.cache.base import CacheDriver
from qanat.stores.cache.breaker import Breaker, BreakerLimits, State
from qanat.stores.cache.entry import STAMP_SIZE, Entry, new_stamp, pack, unpack
from qanat.stores.cache.place import Found
from qanat.stores.cache.tags import EVERYTHING, Keys

T = TypeVar("T")

#: More tags than that are not owed one by one: everything is invalidated instead.
MOST_OWED = 1000
#: So long a stamp is kept, at most. Without it the answers are made anew, which is all.
_STAMP_MS = 86_400_000
#: For how long what a probe writes is kept.
_PROBE_MS = 10_000


@dataclass(frozen=True, slots=True)
class FarSettings:
    """`timeout`: seconds that one step may take. `draw`: of the back-off, in [0, 1)."""

    keys: Keys
    timeout: float
    breaker: BreakerLimits
    draw: Callable[[], float] = random.random


class Far:
    """See `Place`."""

    def __init__(self, driver: CacheDriver, settings: FarSettings, meter: CacheMeter, clock: Clock, label: str) -> None:
        self.label, self.breaker = label, Breaker(settings.breaker)
        self._driver, self._keys, self._timeout = driver, settings.keys, settings.timeout
        self._meter, self._clock, self._draw = meter, clock, settings.draw
        self._owed: set[str] = set()
        self._sending: set[str] = set()
        self._round: asyncio.Task[None] | None = None
        meter.breaker(self.breaker.state.value)

    def usable(self) -> bool:
        """See `Place`."""
        return self.breaker.state is State.CLOSED

    # --- answers -----------------------------------------------------------------------------------------------------

    async def read(self, key: str, tags: Sequence[str]) -> Found:
        """See `Place`."""
        began = self._clock.seconds()
        try:
            outcome, found = await self._limited(self._read(key, tags))
        except CacheError:  # counted; the answer is made without the cache
            outcome, found = "error", Found()
        self._meter.read(outcome, self._clock.seconds() - began)
        return found

    async def store(self, key: str, entry: Entry, tags: Sequence[str]) -> None:
        """See `Place`."""
        if self.owes(tags):
            return
        place = self._keys.entry(key)
        began, kept = self._clock.seconds(), True
        try:
            await self._limited(
                self._call(self._driver.put({place: pack(place, entry)}, entry.ttl_ms + entry.stale_ms))
            )
        except CacheError:  # counted; the answer was given before
            kept = False
        self._meter.wrote(kept, self._clock.seconds() - began)

    async def close(self) -> None:
        """See `Place`."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)
        await self._driver.close()

    async def _read(self, key: str, tags: Sequence[str]) -> tuple[str, Found]:
        if self.owes(tags):
            await self.settle()
        place, stamp_keys = self._keys.entry(key), self._keys.stamps(tags)
        data, *found = await self._call(self._driver.get([place, *stamp_keys]))
        stamps = [stamp if stamp and len(stamp) == STAMP_SIZE else None for stamp in found]
        entry = None if data is None else unpack(place, data)
        outcome = "miss" if data is None else "corrupt" if entry is None else self._judge(entry, stamps, tags)
        if outcome in ("hit", "stale"):
            return outcome, Found(entry, tuple(stamp for stamp in stamps if stamp is not None))
        if outcome == "corrupt":
            await self._call(self._driver.drop([place]))
        if self.owes(tags):
            return outcome, Found()
        missing = {place: new_stamp() for place, stamp in zip(stamp_keys, stamps, strict=True) if stamp is None}
        if missing:
            # before the answer is made: a row that comes meanwhile must find a stamp to drop
            await self._call(self._driver.put(missing, _STAMP_MS))
        complete = zip(stamp_keys, stamps, strict=True)
        return outcome, Found(None, tuple(missing[place] if stamp is None else stamp for place, stamp in complete))

    def _judge(self, entry: Entry, stamps: Sequence[bytes | None], tags: Sequence[str]) -> str:
        now = self._clock.now_ms()
        if tuple(stamps) != entry.stamps or not entry.usable(now) or self.owes(tags):
            return "miss"
        return "hit" if entry.fresh(now) else "stale"

    # --- what is no longer true --------------------------------------------------------------------------------------

    def owes(self, tags: Collection[str]) -> bool:
        """Whether one of these was invalidated and the server does not know yet."""
        return bool(self._owed or self._sending) and any(tag in self._owed or tag in self._sending for tag in tags)

    def invalidate(self, tags: Collection[str]) -> None:
        """See `Place`."""
        self._owed.update(tags)
        if len(self._owed) > MOST_OWED:
            self._owed = {EVERYTHING}
        self._meter.owed(len(self._owed) + len(self._sending))

    async def settle(self) -> None:
        """See `Place`."""
        for _ in range(2):  # the round that is under way may have begun before; the next one has everything
            if not self.usable() or not (self._owed or self._sending):
                return
            if self._round is None or self._round.done():
                self._round = asyncio.get_running_loop().create_task(self._pay())
            await asyncio.shield(self._round)

    async def _pay(self) -> None:
        try:
            await self._limited(self._send_owed())
        except CacheError:
            return  # still owed, and counted by the breaker

    async def _send_owed(self) -> None:
        self._sending, self._owed = self._owed, set()
        try:
            await self._call(self._driver.drop(self._keys.stamps(self._sending)))
            self._meter.dropped(len(self._sending))
        except BaseException:
            self._owed |= self._sending
            raise
        finally:
            self._sending = set()
            self._meter.owed(len(self._owed))

    # --- whether it is asked at all ----------------------------------------------------------------------------------

    def probe_due(self) -> bool:
        """Whether it should be tried again now."""
        return self.breaker.due(self._clock.seconds())

    async def probe(self) -> None:
        """Try it: what is owed, one write, one read. How that went decides what the breaker does."""
        self.breaker.begin_probe(self._clock.seconds())
        self._meter.breaker(self.breaker.state.value)
        slowest, ok = 0.0, False
        try:
            async with asyncio.timeout(self._timeout * 2):
                slowest, ok = await self._try()
        except (CacheError, TimeoutError):
            ok = False
        self.breaker.probed(ok, slowest, self._clock.seconds(), self._draw())
        self._meter.breaker(self.breaker.state.value)

    async def _try(self) -> tuple[float, bool]:
        while self._owed:
            await self._send_owed()
        place, value = self._keys.probe, new_stamp()
        began = self._clock.seconds()
        await self._driver.put({place: value}, _PROBE_MS)
        written = self._clock.seconds()
        found = await self._driver.get([place])
        return max(written - began, self._clock.seconds() - written), found == [value]

    async def _call(self, call: Awaitable[T]) -> T:
        """One call of the driver, whose outcome the breaker learns."""
        began = self._clock.seconds()
        try:
            result = await call
        except CacheError:
            self._record(False, began)
            raise
        self._record(True, began)
        return result

    async def _limited(self, step: Coroutine[None, None, T]) -> T:
        """Raises `CacheError` where a step takes too long, and tells the breaker."""
        began = self._clock.seconds()
        try:
            async with asyncio.timeout(self._timeout):
                return await step
        except TimeoutError as error:
            self._record(False, began)
            raise CacheError(f"{self.label} did not answer within {self._timeout * 1000:g} ms") from error

    def _record(self, ok: bool, began: float) -> None:
        now = self._clock.seconds()
        self.breaker.record(ok, now - began, now, self._draw())
        if self.breaker.state is not State.CLOSED:
            self._meter.breaker(self.breaker.state.value)
