"""What rows made wrong is given by no process that shares a server, whatever becomes of the server meanwhile."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.stores.cache.conftest import Bench, Within, settings
from tests.stores.cache.servers import Peer, Server, Way

from qanat.clock import SYSTEM
from qanat.stores.cache import open_cache
from qanat.stores.cache.far import MOST_OWED
from qanat.stores.cache.tags import EVERYTHING

Started = Callable[..., Server]

PRODUCTS = ("redis", "memcached")
CALM = {"timeout": 1000, "slow": 500, "clock": SYSTEM, "invalidate": True}


def url(product: str, port: int) -> str:
    return f"{product}://127.0.0.1:{port}"


def other(bench: Bench, product: str, port: int) -> Bench:
    """Another process, as far as the server can tell."""
    limits = {key: value for key, value in CALM.items() if key != "clock"}
    return bench.also(Bench(SYSTEM, {}, settings(url(product, port), **limits)))


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_row_in_one_process_drops_the_answers_of_all(within: Within, started: Started, product: str) -> None:
    port = started(product).port

    async def scenario(bench: Bench) -> None:
        two = other(bench, product, port)
        assert await bench.aside.fetch("k", bench.maker(b"old"), tags=["t"]) == b"old"
        await bench.settled()
        # the second process begins anew: what it did not see, it does not trust
        assert await two.aside.fetch("k", two.maker(b"old"), tags=["t"]) == b"old"
        await two.settled()
        assert await bench.aside.fetch("k", bench.maker(), tags=["t"]) == b"old"
        assert (bench.made, two.made) == (1, 1)
        await two.aside.invalidate(["t"])
        assert await bench.aside.fetch("k", bench.maker(b"new"), tags=["t"]) == b"new"
        await bench.settled()
        assert await two.aside.fetch("k", two.maker(), tags=["t"]) == b"new"
        await bench.aside.invalidate(["elsewhere"])
        assert await two.aside.fetch("k", two.maker(), tags=["t"]) == b"new"

    within(scenario, url(product, port), **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
def test_what_one_process_is_making_while_a_row_comes_to_another_is_given_to_nobody_later(
    within: Within, started: Started, product: str
) -> None:
    port = started(product).port

    async def scenario(bench: Bench) -> None:
        two = other(bench, product, port)
        await two.aside.fetch("warm", two.maker(), tags=["t"])
        making = asyncio.create_task(bench.aside.fetch("k", bench.maker(b"old", wait=0.1), tags=["t"]))
        await asyncio.sleep(0.05)
        await two.aside.invalidate(["t"])
        assert await making == b"old"
        await bench.settled()
        assert await bench.aside.fetch("k", bench.maker(b"new"), tags=["t"]) == b"new"
        await bench.settled()
        assert await two.aside.fetch("k", two.maker(), tags=["t"]) == b"new"

    within(scenario, url(product, port), **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_given_what_was_made_before_a_row_that_he_could_have_read(
    within: Within, started: Started, product: str, seed: int
) -> None:
    """Two processes over one server that loses things, readers, rows and slow makers in a random order.

    Who joins an answer that his process has begun before a row came to the other one is given that one.
    """
    port = started(product).port

    async def scenario(bench: Bench) -> None:
        both = [bench, other(bench, product, port)]
        thief = bench.also(open_cache(url(product, port)))
        chance = random.Random(seed)
        rows = {f"tag-{number}": 0 for number in range(3)}
        announced = dict(rows)
        begun: dict[tuple[Bench, str], int] = {}

        async def read(tag: str) -> None:
            one, key = chance.choice(both), f"key-of-{tag}"
            if one.aside._flights.get(key) is None:
                begun[one, tag] = announced[tag]
            before = begun[one, tag]

            async def make() -> bytes:
                at = rows[tag]
                await asyncio.sleep(chance.random() * 0.003)
                return str(at).encode()

            assert int(await one.aside.fetch(key, make, tags=[tag])) >= before

        async def write(tag: str) -> None:
            rows[tag] += 1
            written = rows[tag]
            await chance.choice(both).aside.invalidate([tag])
            announced[tag] = max(announced[tag], written)

        async def steal(tag: str) -> None:
            await thief.drop([chance.choice([f"qanat:t:{tag}", f"qanat:t:{EVERYTHING}", f"qanat:e:key-of-{tag}"])])

        acts = [read] * 20 + [write] * 3 + [steal]
        tasks = []
        for _ in range(800):
            tasks.append(asyncio.create_task(chance.choice(acts)(chance.choice(list(rows)))))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.003)
        await asyncio.gather(*tasks)
        assert sum(one.reads(product).get("hit", 0) for one in both) > 10

    within(scenario, url(product, port), **CALM)


@pytest.mark.parametrize("product", PRODUCTS)
def test_rows_that_came_while_a_server_could_not_be_told_are_not_forgotten(
    within: Within, started: Started, product: str
) -> None:
    way = Way(started(product).port)

    async def scenario(bench: Bench) -> None:
        async with Peer(way) as peer:
            await bench.aside.use(
                settings(url(product, peer.port), "memory://", timeout=500, slow=300, invalidate=True)
            )
            for key in ("k", "kept"):
                await bench.aside.fetch(key, bench.maker(b"old"), tags=[key])
            await bench.settled()
            assert await bench.aside.fetch("kept", bench.maker(), tags=["kept"]) == b"old"
            way.delay = 15  # it has everything, and cannot be reached
            await bench.aside.invalidate(["k"])
            assert bench.counted("owed", driver=product) == 1
            for number in range(10):
                await bench.aside.fetch(f"other-{number}", bench.maker(), tags=["k"])
            assert await bench.aside.fetch("k", bench.maker(b"new"), tags=["k"]) == b"new"
            way.delay = 0
            while not bench.counted("in_use", driver=product):
                await bench.aside.fetch("looking", bench.maker(), ttl_ms=5)
                await asyncio.sleep(0.01)
            assert bench.counted("owed", driver=product) == 0
            bench.made = 0
            assert await bench.aside.fetch("k", bench.maker(b"newer"), tags=["k"]) == b"newer"
            assert await bench.aside.fetch("kept", bench.maker(), tags=["kept"]) == b"old"
            await bench.aside.close()

    within(scenario, **CALM)


def test_too_much_that_is_owed_becomes_everything(within: Within, started: Started) -> None:
    server = started("redis")

    async def scenario(bench: Bench) -> None:
        for key in ("a", "b"):
            await bench.aside.fetch(key, bench.maker(b"old"), tags=[key])
        await bench.settled()
        server.freeze()
        for _ in range(6):
            await bench.aside.invalidate(["a"])
        await bench.aside.invalidate([f"tag-{number}" for number in range(MOST_OWED)])
        assert bench.counted("owed", driver="redis") == 1
        server.thaw()
        while not bench.counted("in_use", driver="redis"):
            await bench.aside.fetch("looking", bench.maker(), ttl_ms=5)
            await asyncio.sleep(0.01)
        for key in ("a", "b"):
            assert await bench.aside.fetch(key, bench.maker(b"new"), tags=[key]) == b"new"

    within(scenario, url("redis", server.port), **{**CALM, "timeout": 500, "slow": 300})


def test_a_cache_that_was_not_asked_for_a_while_has_been_told_all_the_same(within: Within, started: Started) -> None:
    server = started("redis")

    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker(b"old"), tags=["t"])
        await bench.settled()
        memory_first = settings("memory://", url("redis", server.port), timeout=1000, slow=500, invalidate=True)
        await bench.aside.use(memory_first)
        await bench.aside.fetch("k", bench.maker(b"old"), tags=["t"])
        await bench.settled()
        await bench.aside.invalidate(["t"])
        assert bench.aside.peek("k") is None
        await bench.aside.use(settings(url("redis", server.port), timeout=1000, slow=500, invalidate=True))
        assert await bench.aside.fetch("k", bench.maker(b"new"), tags=["t"]) == b"new"

    within(scenario, url("redis", server.port), **CALM)


OTHER = """
import asyncio, sys
from qanat.model.cache import Cache
from qanat.model.sections import Duration
from qanat.stores.cache.aside import Aside
from qanat.stores.cache.switch import Switch

async def main():
    limits = {"timeout": Duration(5000), "slow": Duration(5000)}
    aside = Aside(Switch(Cache(url=sys.argv[1], invalidate=True, **limits)))
    async def make():
        return b"made by the other"
    print((await aside.fetch("k", make, tags=["t"])).decode(), flush=True)
    await aside.idle()
    sys.stdin.readline()
    await aside.invalidate(["t"])
    print("done", flush=True)
    sys.stdin.readline()
    await aside.close()

asyncio.run(main())
"""


def test_a_process_of_its_own(within: Within, started: Started) -> None:
    port = started("redis").port

    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("warm", bench.maker(), tags=["t"])
        await bench.settled()
        command = [sys.executable, "-c", OTHER, url("redis", port)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            assert process.stdout.readline() == "made by the other\n"
            assert await bench.aside.fetch("k", bench.maker(b"never"), tags=["t"]) == b"made by the other"
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            assert await bench.aside.fetch("k", bench.maker(b"new"), tags=["t"]) == b"new"
            process.stdin.write("\n")

    within(scenario, url("redis", port), **CALM)
