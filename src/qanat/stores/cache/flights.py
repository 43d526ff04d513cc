"""Answers that are on their way: one flight per key, whoever else wants the key waits for it.

It keeps the accounts; what a flight does is `aside`'s affair. Lives in one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Flight:
    """One answer on its way. `spoilt`: a tag of it was invalidated since it began, so the answer must not be kept.

    Waiters may be cancelled; the flight goes on.
    """

    __slots__ = ("_answer", "_stale", "_stale_until", "key", "spoilt", "tags")

    def __init__(self, key: str, tags: tuple[str, ...]) -> None:
        self.key, self.tags, self.spoilt = key, tags, False
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._stale: bytes | None = None
        self._stale_until = 0

    async def wait(self, now_ms: int) -> bytes:
        """The answer, or a stale one for as long as that may be given. Raises what `fail` was told."""
        if self._stale is not None and now_ms < self._stale_until:
            return self._stale
        return await asyncio.shield(self._answer)

    def offer(self, stale: bytes, until_ms: int) -> None:
        """An old answer is there to be given until then, while a new one is made."""
        waiting, self._answer = self._answer, asyncio.get_running_loop().create_future()
        self._stale, self._stale_until = stale, until_ms
        waiting.set_result(stale)

    def land(self, answer: bytes) -> None:
        """Here it is."""
        self._stale = None
        self._answer.set_result(answer)

    def fail(self, error: Exception) -> bool:
        """It could not be made. False where it has landed already."""
        if self._answer.done():
            return False
        self._stale = None
        self._answer.set_exception(error)
        self._answer.exception()  # looked at, should nobody wait
        return True


class Flights:
    """All that are on their way now."""

    def __init__(self) -> None:
        self._by_key: dict[str, Flight] = {}
        self._by_tag: dict[str, set[Flight]] = {}

    def get(self, key: str) -> Flight | None:
        """The one for the key, if its answer may be given to somebody who comes now."""
        return self._by_key.get(key)

    def begin(self, key: str, tags: tuple[str, ...]) -> Flight:
        """A new one."""
        flight = Flight(key, tags)
        self._by_key[key] = flight
        for tag in tags:
            self._by_tag.setdefault(tag, set()).add(flight)
        return flight

    def end(self, flight: Flight) -> None:
        """It is over, whatever came of it."""
        self._forget(flight)
        for tag in flight.tags:
            flights = self._by_tag[tag]
            flights.discard(flight)
            if not flights:
                del self._by_tag[tag]

    def spoil(self, tags: Iterable[str]) -> None:
        """What is being made of these tags is old already: it goes to those who wait, and to nobody who comes now."""
        for tag in tags:
            for flight in self._by_tag.get(tag, ()):
                flight.spoilt = True
                self._forget(flight)

    def _forget(self, flight: Flight) -> None:
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]
