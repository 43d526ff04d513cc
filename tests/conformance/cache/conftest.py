"""One suite for all caches: `cache` opens an empty one of every driver, servers are real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from tests.stores.cache.servers import Server, memcached_server, redis_server

from qanat.clock import SystemClock
from qanat.stores.cache import open_cache
from qanat.stores.cache.base import CacheDriver, CacheOptions

DRIVERS = ("memory", "redis", "memcached", "memcached with larger items")

#: What a test does with a cache that is open, in an event loop.
Scenario = Callable[[CacheDriver], Coroutine[Any, Any, None]]


class Moved(SystemClock):
    """The system's clock, put forward by the tests that need it."""

    ahead = 0.0

    def seconds(self) -> float:
        return super().seconds() + self.ahead


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Each server is started when it is first needed, and stopped at the end."""
    started: dict[str, Server] = {}

    def get(name: str) -> Server:
        if name not in started:
            folder = tmp_path_factory.mktemp("server")
            if name == "redis":
                server = redis_server(folder)
            else:
                server = memcached_server(folder, *(["-I", "2m"] if "larger" in name else []))
            server.start()
            started[name] = server
        return started[name]

    yield get
    for server in started.values():
        server.kill()


@pytest.fixture(params=DRIVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> Moved:
    return Moved()


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def within(kind: str, loop: str, servers: Callable[[str], Server], clock: Moved) -> Callable[[Scenario], None]:
    """`within(scenario)` runs it with a cache of this kind, in a loop of its own."""
    url = "memory://" if kind == "memory" else f"{kind.split()[0]}://127.0.0.1:{servers(kind).port}"

    def run(scenario: Scenario) -> None:
        async def begin() -> None:
            cache = open_cache(url, CacheOptions(clock=clock))
            try:
                await scenario(cache)
            finally:
                await cache.close()

        (uvloop.run if loop == "uvloop" else asyncio.run)(begin())

    return run
