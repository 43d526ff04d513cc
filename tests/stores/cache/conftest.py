"""An `Aside` over caches of a test, in a loop of its own, with a clock to move; servers that are stopped at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.stores.cache.hand import Hand
from tests.stores.cache.servers import Server, memcached_server, redis_server

from qanat.clock import Clock
from qanat.model.cache import Cache, CacheServer
from qanat.model.sections import Duration
from qanat.observe.metrics import Metrics
from qanat.stores.cache.aside import Aside
from qanat.stores.cache.switch import Switch


class Bench:
    """An `Aside`, and what is around it. `made` counts the calls of the makers that `maker` gives."""

    def __init__(self, clock: Clock, env: Mapping[str, str], settings: Cache) -> None:
        self.clock, self.metrics = clock, Metrics()
        self.switch = Switch(settings, self.metrics, clock, env)
        self.aside = Aside(self.switch)
        self.made = 0
        self.others: list[Any] = []

    def also(self, one: Any) -> Any:
        """Closed when this is, however the test goes: another process's aside, or a driver."""
        self.others.append(one)
        return one

    async def close(self) -> None:
        for one in self.others:
            await one.close()
        await self.aside.close()

    def maker(self, answer: bytes | Exception = b"answer", wait: float = 0) -> Callable[[], Coroutine[Any, Any, bytes]]:
        async def make() -> bytes:
            self.made += 1
            if wait:
                await asyncio.sleep(wait)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return make

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"qanat_cache_{name}", labels) or 0.0

    def reads(self, driver: str = "memory") -> dict[str, float]:
        outcomes = ("hit", "stale", "miss", "corrupt", "error")
        found = {one: self.counted("reads_total", driver=driver, outcome=one) for one in outcomes}
        return {one: count for one, count in found.items() if count}

    async def settled(self) -> None:
        """Wait until nothing is on its way any more."""
        await self.aside.idle()


def settings(*urls: str, **more: Any) -> Cache:
    """What qanat.yaml would say; times in milliseconds."""
    times = {name: Duration(more.pop(name)) for name in ("ttl", "stale", "timeout", "slow") if name in more}
    servers = [CacheServer(url=url) for url in urls or ("memory://",)]
    return Cache(url=servers[0].url, fallback=tuple(servers[1:]), **times, **more)


Scenario = Callable[[Bench], Coroutine[Any, Any, None]]
Within = Callable[..., None]


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def within(hand: Hand) -> Within:
    """`within(scenario, *urls, **settings)`: runs it with an aside over these caches; `clock=` as needed."""

    def run(
        scenario: Scenario, *urls: str, clock: Clock = hand, env: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        async def begin() -> None:
            bench = Bench(clock, env or {}, settings(*urls, **more))
            try:
                await asyncio.wait_for(scenario(bench), 60)
            finally:
                await bench.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not others, "something goes on after close"

        uvloop.run(begin())  # as the gateway does

    return run


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`started("redis", *options)` gives a running server of our own."""
    running: list[Server] = []

    def start(name: str, *more: str) -> Server:
        server = {"redis": redis_server, "memcached": memcached_server}[name](tmp_path, *more)
        running.append(server)
        server.start()
        return server

    yield start
    for server in running:
        server.kill()
