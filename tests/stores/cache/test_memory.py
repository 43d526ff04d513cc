"""The cache in this process: its bound, its order, its clock."""

from __future__ import annotations

import asyncio
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from tests.stores.cache.hand import Hand

from qanat.observe.metrics import Metrics
from qanat.stores.cache.entry import Entry, new_stamp
from qanat.stores.cache.memory import MemoryCache
from qanat.stores.cache.near import Near

HOUR = 3_600_000


def test_the_least_recently_used_goes_first() -> None:
    cache = MemoryCache(4 * (1000 + 300 + 1), Hand())
    for key in "abcd":
        cache.hold(key, key.upper(), 1000, HOUR)
    assert cache.look("a") == "A"
    cache.hold("e", "E", 1000, HOUR)
    assert [cache.look(key) for key in "abcde"] == ["A", None, "C", "D", "E"]
    cache.hold("f", "F", 2000, HOUR)
    assert [cache.look(key) for key in "acdef"] == [None, None, "D", "E", "F"]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3000)), max_size=60))
def test_it_never_holds_more_than_its_bound(puts: list[tuple[str, int]]) -> None:
    cache = MemoryCache(5000, Hand())
    for key, size in puts:
        cache.hold(key, key, size, HOUR)
        assert cache.size <= 5000
        assert (cache.look(key) is None) == (size + 301 > 5000)
    cache.forget(list("abcdefgh"))
    assert cache.size == 0


def test_a_value_that_is_larger_than_everything_takes_its_key_with_it_and_nothing_else() -> None:
    cache = MemoryCache(5000, Hand())
    cache.hold("a", "A", 1000, HOUR)
    cache.hold("b", "B", 1000, HOUR)
    cache.hold("b", "too large", 5000, HOUR)
    assert [cache.look(key) for key in "ab"] == ["A", None]


def test_time_is_kept_to_the_millisecond() -> None:
    clock = Hand()
    cache = MemoryCache(5000, clock)
    cache.hold("k", "v", 1, 120_000)
    clock.move(119.999)
    assert cache.look("k") == "v"
    clock.move(0.001)
    assert cache.look("k") is None
    assert cache.size == 0


def test_the_bound_is_that_of_the_memory_it_takes() -> None:
    limit = 4_000_000
    clock = Hand()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = MemoryCache(limit, clock)
        near = Near(cache, Metrics().caches.meter("memory"), clock, "memory")

        async def fill() -> None:
            for number in range(20_000):
                tags = ("*", "readings", f"readings/{number % 500}")
                stamps = (await near.read(f"aggregate/{number}", tags)).stamps
                assert stamps is not None
                await near.store(f"aggregate/{number}", Entry(b"x" * (number % 700), 0, HOUR, 0, stamps), tags)

        asyncio.run(fill())
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * limit < held < 1.3 * limit, held
    assert new_stamp() != new_stamp()
