"""Which cache is asked now: the first of the declared ones that works. Changes by itself, and when it is told to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from qanat.clock import SYSTEM, Clock
from qanat.model.cache import Cache, CacheServer
from qanat.observe.caches import CacheMeter
from qanat.observe.metrics import Metrics
from qanat.stores.cache import open_server
from qanat.stores.cache.breaker import BreakerLimits
from qanat.stores.cache.far import Far, FarSettings
from qanat.stores.cache.near import InProcessDriver, Near
from qanat.stores.cache.tags import EVERYTHING, Keys


@dataclass(frozen=True, slots=True)
class _Opened:
    """A place, and what it was opened with: while that stays the same, so does the place."""

    place: Near | Far
    declared: tuple[object, ...]
    meter: CacheMeter


class Switch:
    """All caches of a project in the folder `base`. Made and used in one event loop. `settings` are those in force.

    Raises `ConfigError` where they name what cannot be opened; servers are not connected to before they are asked.
    """

    def __init__(
        self,
        settings: Cache,
        metrics: Metrics | None = None,
        clock: Clock = SYSTEM,
        env: Mapping[str, str] = os.environ,
        base: Path | None = None,
    ) -> None:
        self.metrics, self.clock, self._env, self._base = metrics or Metrics(), clock, env, base
        self._in_use: _Opened | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.settings = settings
        self._opened = self._open(settings, [])

    def pick(self) -> Near | Far | None:
        """The cache to ask now; None while all are down. Has those tried again for which it is time."""
        for opened in self._opened:
            place = opened.place
            if place.usable():
                if opened is not self._in_use:
                    self._show(opened)
                return place
            if isinstance(place, Far) and place.probe_due():
                self._spawn(place)
        self._show(None)
        return None

    async def use(self, settings: Cache) -> None:
        """Other settings from now on. What stays declared stays open, with all that it knows; the others are closed.

        Raises `ConfigError` where the new ones cannot be opened; then the old ones stay in force.
        """
        before, opened = self._opened, self._open(settings, self._opened)
        self.settings, self._opened = settings, opened
        await self._leave([one for one in before if one not in opened])

    def invalidate(self, tags: Collection[str]) -> None:
        """Give no answer with one of these tags any more, from whichever cache, now or when it is back."""
        for opened in self._opened:
            opened.place.invalidate(tags)

    async def settle(self) -> None:
        """Wait until all servers that answer know what was invalidated."""
        for opened in self._opened:
            await opened.place.settle()

    async def close(self) -> None:
        """Let go of everything."""
        opened, self._opened = self._opened, []
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._leave(opened)

    # --- opening and closing -----------------------------------------------------------------------------------------

    def _open(self, settings: Cache, kept: list[_Opened]) -> list[_Opened]:
        opened: list[_Opened] = []
        for server in settings.servers:
            declared = _declared(server, settings)
            old = next((one for one in kept if one.declared == declared and one not in opened), None)
            opened.append(old or self._open_one(server, settings, declared, [one.place.label for one in opened + kept]))
        return opened

    def _open_one(
        self, server: CacheServer, settings: Cache, declared: tuple[object, ...], taken: Collection[str]
    ) -> _Opened:
        driver = open_server(server, int(settings.memory), self.clock, self._env, self._base)
        label = driver.name
        number = 1
        while label in taken:
            number += 1
            label = f"{driver.name}-{number}"
        meter = self.metrics.caches.meter(label)
        if _in_process(server):
            return _Opened(Near(cast(InProcessDriver, driver), meter, self.clock, label), declared, meter)
        limits = BreakerLimits(slow=int(settings.slow) / 1000)
        guarded = FarSettings(Keys(settings.prefix), int(settings.timeout) / 1000, limits)
        far = Far(driver, guarded, meter, self.clock, label)
        if settings.invalidate:
            far.invalidate([EVERYTHING])  # what came in while nobody here listened, nobody knows
        return _Opened(far, declared, meter)

    async def _leave(self, opened: Collection[_Opened]) -> None:
        for one in opened:
            one.meter.in_use(False)
            await one.place.close()

    # --- by itself ---------------------------------------------------------------------------------------------------

    def _show(self, opened: _Opened | None) -> None:
        if self._in_use is not None:
            self._in_use.meter.in_use(False)
        if opened is not None:
            opened.meter.in_use(True)
        self._in_use = opened

    def _spawn(self, place: Far) -> None:
        task = asyncio.get_running_loop().create_task(place.probe())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _in_process(server: CacheServer) -> bool:
    return server.url.startswith("memory:")


def _declared(server: CacheServer, settings: Cache) -> tuple[object, ...]:
    """Everything that a place is opened with."""
    if _in_process(server):
        return (server, int(settings.memory), settings.invalidate)
    return (server, settings.prefix, int(settings.timeout), int(settings.slow), settings.invalidate)
