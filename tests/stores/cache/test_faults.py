"""Servers that die, freeze, lie, are slow or full: the answer comes all the same, soon; then they are used again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from tests.stores.cache.conftest import Bench, Within, settings
from tests.stores.cache.servers import Behaviour, Peer, Server, Way, free_port, reset, saying, silence

from qanat.clock import SYSTEM
from qanat.errors import CacheError
from qanat.stores.cache import open_cache

Started = Callable[..., Server]

PRODUCTS = ("redis", "memcached")
#: Limits that only a real fault breaks, on a machine that others use, too. A fetch may wait a second for a cache.
CALM = {"timeout": 1000, "slow": 500, "ttl": 60_000, "clock": SYSTEM}
#: What a fetch may take when a cache has used up its time: that, and something for the machine.
LONGEST = 1.0 + 1.0


def url(product: str, port: int) -> str:
    return f"{product}://127.0.0.1:{port}"


async def soon(what: Callable[[], Awaitable[object]], seconds: float = 20) -> None:
    """Again and again until it is so."""
    end = time.monotonic() + seconds
    while not await what():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.01)


async def answered(bench: Bench, times: int = 30) -> float:
    """So many fetches of different keys, one after the other; what the slowest one took."""
    slowest = 0.0
    for number in range(times):
        began = time.monotonic()
        assert await bench.aside.fetch(f"answered-{number}", bench.maker(b"right")) == b"right"
        slowest = max(slowest, time.monotonic() - began)
    return slowest


async def uses(bench: Bench, driver: str) -> None:
    """Until this is the cache that is asked."""

    async def look() -> bool:
        await bench.aside.fetch("looking", bench.maker(), ttl_ms=5)
        return bool(bench.counted("in_use", driver=driver))

    await soon(look)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_server_that_dies_is_replaced_and_taken_back_when_it_lives(
    within: Within, started: Started, product: str
) -> None:
    server = started(product)

    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker())
        await bench.settled()
        assert await bench.aside.fetch("k", bench.maker()) == b"answer"
        assert bench.reads(product) == {"miss": 1, "hit": 1}
        server.kill()
        assert await answered(bench) < LONGEST
        assert bench.reads(product)["error"] >= 5
        assert bench.counted("breaker_state", driver=product) > 0
        await uses(bench, "memory")
        made = bench.made
        await bench.aside.fetch("k", bench.maker())
        await bench.settled()
        assert bench.aside.peek("k") == b"answer"
        assert bench.made == made + 1
        server.start()
        await uses(bench, product)
        assert bench.counted("breaker_state", driver=product) == 0
        assert bench.counted("in_use", driver="memory") == 0
        await bench.aside.fetch("after", bench.maker())
        await bench.settled()
        before = bench.reads(product).get("hit", 0)
        await bench.aside.fetch("after", bench.maker())
        assert bench.reads(product)["hit"] == before + 1

    within(scenario, url(product, server.port), "memory://", **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_server_that_was_started_again_between_two_answers_costs_a_miss_at_most(
    within: Within, started: Started, product: str
) -> None:
    server = started(product)

    async def scenario(bench: Bench) -> None:
        await asyncio.gather(*(bench.aside.fetch(f"k-{number}", bench.maker()) for number in range(20)))
        await bench.settled()
        server.kill()
        server.start()
        assert await answered(bench, 5) < LONGEST
        await bench.settled()
        assert bench.counted("breaker_state", driver=product) == 0
        assert bench.reads(product).get("error", 0) <= 1

    within(scenario, url(product, server.port), **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(
    "behaviour",
    [
        silence,
        reset,
        saying(b"*2\r\n$400\r\nhalf of"),
        saying(b"VALUE qanat:e:answered-0 0 400\r\nhalf of", then_close=True),
        saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        saying(b"+OK\r\n"),
        saying(b"\x00\xff\x17" * 5000),
        saying(b"*-1\r\n:7\r\n$-1\r\n"),
        saying(b"END\r\nSTORED\r\nDELETED\r\n"),
        saying(b"-ERR no\r\nERROR\r\n"),
    ],
    ids=["silent", "reset", "half", "half and closed", "http", "ok", "bytes", "shapes", "too much", "error"],
)
def test_whatever_a_server_says_the_answer_comes_and_soon(within: Within, product: str, behaviour: Behaviour) -> None:
    async def scenario(bench: Bench) -> None:
        async with Peer(behaviour) as peer:
            await bench.aside.use(settings(url(product, peer.port), "memory://", timeout=200, slow=150))
            assert await answered(bench) < LONGEST
            assert bench.made == 30
            await uses(bench, "memory")
            began = time.monotonic()
            assert await answered(bench, 100) < LONGEST
            assert time.monotonic() - began < 10  # a tenth of what waiting each time would take
            assert bench.counted("breaker_state", driver=product) > 0
            # nobody hammers it
            assert peer.connections < 60
            await bench.aside.close()

    within(scenario, **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(
    "behaviour",
    [reset, saying(b"VALUE k 0 400\r\nhalf of", then_close=True), saying(b"*2\r\n$400\r\nhalf of", then_close=True)],
    ids=["reset", "half in text", "half in RESP"],
)
def test_the_end_of_a_connection_is_noticed_without_any_limit_of_time(product: str, behaviour: Behaviour) -> None:
    async def scenario() -> None:
        async with Peer(behaviour) as peer:
            cache = open_cache(url(product, peer.port))
            try:
                for call in (cache.get(["k"]), cache.put({"k": b"v"}, 60_000), cache.drop(["k"]), cache.ping()):
                    with pytest.raises(CacheError):
                        await asyncio.wait_for(call, 20)
            finally:
                await cache.close()

    uvloop.run(scenario())


def test_everything_is_down_and_answers_come_without_waiting(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        await answered(bench, 30)
        began = time.monotonic()
        await answered(bench, 300)
        assert time.monotonic() - began < 15
        assert bench.made == 330
        for driver in PRODUCTS:
            assert bench.counted("in_use", driver=driver) == 0

    within(scenario, url("redis", free_port()), url("memcached", free_port()), **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_slow_server_is_left_and_taken_back_when_it_is_quick_again(
    within: Within, started: Started, product: str
) -> None:
    way = Way(started(product).port)

    async def scenario(bench: Bench) -> None:
        async with Peer(way) as peer:
            await bench.aside.use(settings(url(product, peer.port), "memory://", timeout=3000, slow=200))
            assert await answered(bench, 10) < LONGEST
            assert bench.counted("in_use", driver=product) == 1
            way.delay = 0.3
            await answered(bench, 10)
            assert bench.counted("breaker_state", driver=product) > 0
            assert bench.reads(product).get("error", 0) == 0  # slow, not failed
            await uses(bench, "memory")
            # it stays away while it is slow, however often it is tried
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                await bench.aside.fetch("looking", bench.maker(), ttl_ms=5)
                assert bench.counted("in_use", driver=product) == 0
                await asyncio.sleep(0.01)
            way.delay = 0
            await uses(bench, product)
            await bench.aside.close()

    within(scenario, **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_frozen_server_costs_the_timeout_and_no_more(within: Within, started: Started, product: str) -> None:
    server = started(product)

    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker())
        await bench.settled()
        server.freeze()
        try:
            found = await asyncio.gather(*(bench.aside.fetch(f"k-{number}", bench.maker()) for number in range(200)))
            assert found == [b"answer"] * 200
            assert await answered(bench) < LONGEST
        finally:
            server.thaw()
        await uses(bench, product)
        assert await bench.aside.fetch("k", bench.maker(b"never")) == b"answer"

    within(scenario, url(product, server.port), "memory://", **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
def test_an_answer_that_was_spoilt_on_its_way_is_counted_dropped_and_made_anew(
    within: Within, started: Started, product: str
) -> None:
    way = Way(started(product).port)

    async def scenario(bench: Bench) -> None:
        async with Peer(way) as peer:
            await bench.aside.use(settings(url(product, peer.port), timeout=1000, slow=500))
            await bench.aside.fetch("k", bench.maker(b"the right answer"))
            await bench.settled()
            way.spoil = lambda data: data.replace(b"right", b"wrong")
            assert await bench.aside.fetch("k", bench.maker(b"a new answer")) == b"a new answer"
            await bench.settled()
            assert bench.reads(product) == {"miss": 1, "corrupt": 1}
            way.spoil = None
            assert await bench.aside.fetch("k", bench.maker()) == b"a new answer"
            await bench.aside.close()

    within(scenario, **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("found", [b"", b"QC", b"garbage" * 100])
def test_an_entry_that_is_none_is_counted_dropped_and_made_anew(
    within: Within, started: Started, product: str, found: bytes
) -> None:
    port = started(product).port

    async def scenario(bench: Bench) -> None:
        cache = bench.also(open_cache(url(product, port)))
        await cache.put({"qanat:e:k": found}, 60_000)
        with pytest.raises(ValueError, match="no"):
            await bench.aside.fetch("k", bench.maker(ValueError("no")))
        assert bench.reads(product) == {"corrupt": 1}
        assert await cache.get(["qanat:e:k"]) == [None]
        assert await bench.aside.fetch("k", bench.maker()) == b"answer"

    within(scenario, url(product, port), **CALM)


def test_a_full_server_is_replaced_and_taken_back_when_there_is_room(within: Within, started: Started) -> None:
    from redis import Redis

    server = started("redis", "--maxmemory", "100mb", "--maxmemory-policy", "noeviction")
    control = Redis(port=server.port)

    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker(), tags=["t"])
        await bench.settled()
        control.config_set("maxmemory", "1kb")
        assert await bench.aside.fetch("k", bench.maker(b"never"), tags=["t"]) == b"answer"
        # what is no longer true can be dropped in a full server, too
        await bench.aside.invalidate(["t"])
        assert bench.counted("owed", driver="redis") == 0
        assert await bench.aside.fetch("k", bench.maker(b"new"), tags=["t"]) == b"new"
        for number in range(40):
            assert await bench.aside.fetch(f"k-{number}", bench.maker(), tags=["t"]) == b"answer"
            await bench.settled()
        assert bench.counted("breaker_state", driver="redis") > 0
        await uses(bench, "memory")
        control.config_set("maxmemory", "0")
        await uses(bench, "redis")

    try:
        within(scenario, url("redis", server.port), "memory://", invalidate=True, **CALM)
    finally:
        control.close()


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_thousand_at_once_make_one_call_and_one_look(within: Within, started: Started, product: str) -> None:
    server = started(product)

    async def scenario(bench: Bench) -> None:
        make = bench.maker(wait=0.02)
        assert await asyncio.gather(*(bench.aside.fetch("k", make) for _ in range(1000))) == [b"answer"] * 1000
        assert bench.made == 1
        await bench.settled()
        assert await asyncio.gather(*(bench.aside.fetch("k", make) for _ in range(1000))) == [b"answer"] * 1000
        assert bench.made == 1
        assert bench.reads(product) == {"miss": 1, "hit": 1}

    within(scenario, url(product, server.port), **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
def test_answers_that_are_too_large_for_a_server_are_given_all_the_same(
    within: Within, started: Started, product: str
) -> None:
    server = started(product)

    async def scenario(bench: Bench) -> None:
        large = b"x" * 5_000_000
        for _ in range(12):
            assert await bench.aside.fetch("k", bench.maker(large)) == large
            await bench.settled()
        assert bench.made == 12
        assert bench.counted("breaker_state", driver=product) == 0

    within(scenario, url(product, server.port), **CALM)
