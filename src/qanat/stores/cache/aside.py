"""Answers from the cache, or made and put there: what serving calls. The cache never turns an answer into an error.

    answer = await aside.fetch(key, make, tags=[tag_of("readings", "temperature")])
    await aside.invalidate([tag_of("readings", "temperature")])         # a row came in

What an answer is and how it is made is the caller's affair. Lives in one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from qanat.errors import CacheError
from qanat.model.cache import Cache
from qanat.stores.cache.entry import Entry
from qanat.stores.cache.far import Far
from qanat.stores.cache.flights import Flight, Flights
from qanat.stores.cache.near import Near
from qanat.stores.cache.place import Found
from qanat.stores.cache.switch import Switch
from qanat.stores.cache.tags import EVERYTHING

Make = Callable[[], Awaitable[bytes]]

#: So many answers are made anew behind a stale one at the same time; the others stay stale until there is room.
MOST_REFRESHES = 16


class Aside:
    """Cache-aside over the caches of a `Switch`, which it owns."""

    def __init__(self, switch: Switch) -> None:
        self._switch, self._clock = switch, switch.clock
        self._counts = switch.metrics.caches
        self._flights = Flights()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshes = 0

    def peek(self, key: str) -> bytes | None:
        """The answer, where a fresh one is in this process; never waits. None: `fetch` it."""
        place = self._switch.pick()
        return place.peek(key) if isinstance(place, Near) else None

    def fetch_at_once(
        self,
        key: str,
        make: Callable[[], bytes | None],
        *,
        tags: Sequence[str] = (),
        ttl_ms: int | None = None,
        stale_ms: int | None = None,
    ) -> bytes | None:
        """As `fetch`, where `make` gives an answer without waiting, the cache is in this process, and nobody makes or
        has this answer already. None: `fetch` it. Raises what `make` raises."""
        place = self._switch.pick()
        ttl, stale = self._lasting(ttl_ms, stale_ms)
        if not isinstance(place, Near) or ttl <= 0 or self._flights.get(key) is not None or place.has(key):
            return None
        marked, made_ms = self._marked(tags), self._clock.now_ms()
        answer = make()
        if answer is None:
            return None
        self._counts.made(True)
        stamps = place.look(key, marked).stamps  # nothing was invalidated since: that takes a turn of the event loop
        if stamps is not None:
            place.keep(key, Entry(answer, made_ms, ttl, stale, stamps), marked)
        return answer

    async def fetch(
        self, key: str, make: Make, *, tags: Sequence[str] = (), ttl_ms: int | None = None, stale_ms: int | None = None
    ) -> bytes:
        """The answer for the key: the kept one, or the one that `make` gives, which is called once for all who wait.

        `tags`: what the answer is made of, see `tag_of`; the same ones whenever the key is the same. `ttl_ms` and
        `stale_ms`: other than the settings say. Raises what `make` raises, to all who wait; errors are not kept.
        Who is cancelled stops waiting, no more.
        """
        place = self._switch.pick()
        if isinstance(place, Near):
            answer = place.peek(key)
            if answer is not None:
                return answer
        flight = self._flights.get(key)
        if flight is None:
            ttl, stale = self._lasting(ttl_ms, stale_ms)
            flight = self._flights.begin(key, self._marked(tags))
            task = asyncio.get_running_loop().create_task(
                self._fly(flight, place if ttl > 0 else None, make, ttl, stale)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._counts.shared()
        return await flight.wait(self._clock.now_ms())

    def _lasting(self, ttl_ms: int | None, stale_ms: int | None) -> tuple[int, int]:
        settings = self._switch.settings
        return (
            int(settings.ttl) if ttl_ms is None else ttl_ms,
            int(settings.stale) if stale_ms is None else stale_ms,
        )

    def _marked(self, tags: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((EVERYTHING, *tags))) if self._switch.settings.invalidate else ()

    async def invalidate(self, tags: Iterable[str]) -> None:
        """Rows came in: give no answer with one of these tags that was made, or begun, before. Call it when the rows
        can be read already.

        Holds for this process at once, for others that share a server when this returns, unless the server is down:
        then when it is back. Does nothing where the settings do not say `invalidate`.
        """
        if not self._switch.settings.invalidate:
            return
        names = list(tags)
        self._flights.spoil(names)
        self._switch.invalidate(names)
        await self._switch.settle()

    async def use(self, settings: Cache) -> None:
        """Other settings from now on, see `Switch.use`. A changed `ttl` holds for answers made from then on."""
        await self._switch.use(settings)

    async def idle(self) -> None:
        """Wait until nothing is on its way any more: no answer, and none that is still being put away."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        """End what is on its way; who waits for it gets a `CacheError`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._switch.close()

    async def _fly(self, flight: Flight, place: Near | Far | None, make: Make, ttl: int, stale: int) -> None:
        refreshing = False
        try:
            found = Found() if place is None else await place.read(flight.key, flight.tags)
            if found.entry is not None:
                refreshing = self._give(flight, found.entry)
                if not refreshing:
                    return
            made_ms = self._clock.now_ms()  # before it is made: what comes in meanwhile may not be in it
            flight.land(answer := await self._made(make))
            if place is not None and found.stamps is not None and not flight.spoilt:
                await place.store(flight.key, Entry(answer, made_ms, ttl, stale, found.stamps), flight.tags)
        except asyncio.CancelledError:
            flight.fail(CacheError(f"the answer for {flight.key!r} was given up while it was made"))
            raise
        except Exception as error:
            if not flight.fail(error):  # the answer was given before
                raise
        finally:
            self._refreshes -= refreshing
            self._flights.end(flight)

    def _give(self, flight: Flight, entry: Entry) -> bool:
        """Give what was kept; whether a new one is to be made behind it."""
        if entry.fresh(self._clock.now_ms()):
            flight.land(entry.payload)
            return False
        flight.offer(entry.payload, entry.made_ms + entry.ttl_ms + entry.stale_ms)
        if self._refreshes >= MOST_REFRESHES:
            return False
        self._refreshes += 1
        return True

    async def _made(self, make: Make) -> bytes:
        ok = False
        try:
            answer = await make()
            if not isinstance(answer, bytes):
                raise TypeError(f"an answer is bytes; {type(answer).__name__} was made")
            ok = True
        finally:
            self._counts.made(ok)
        return answer
