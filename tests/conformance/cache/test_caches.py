"""What `CacheDriver` promises, over every driver."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qanat.errors import CacheError
from qanat.stores.cache.base import MAX_KEY, MAX_VALUE

HOUR = 3_600_000
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=MAX_KEY)
shared = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@shared
@given(values=st.dictionaries(KEYS, st.binary(max_size=300), max_size=8), other=KEYS)
def test_what_was_put_is_there_and_nothing_else(within, values, other):
    async def scenario(cache):
        await cache.drop([*values, other])
        await cache.put(values, HOUR)
        assert await cache.get(list(values)) == list(values.values())
        assert await cache.get([other, *values]) == [values.get(other), *values.values()]
        await cache.drop(list(values))
        assert await cache.get(list(values)) == [None] * len(values)

    within(scenario)


@shared
@given(
    keys=st.lists(KEYS, min_size=1, max_size=5), value=st.sampled_from([b"", b"\r\nEND\r\n", b"VALUE a 0 1\r\n", b"\0"])
)
def test_values_that_look_like_the_protocol_are_values(within, keys, value):
    async def scenario(cache):
        await cache.put(dict.fromkeys(keys, value), HOUR)
        assert await cache.get(keys) == [value] * len(keys)
        assert await cache.get(keys[::-1]) == [value] * len(keys)

    within(scenario)


@shared
@given(
    st.one_of(
        st.just(""),
        st.text("!~k", min_size=MAX_KEY + 1, max_size=MAX_KEY + 60),
        st.builds(
            lambda before, odd, after: before + odd + after,
            st.text("abc", max_size=5),
            st.one_of(st.sampled_from(" \r\n\t\0\x7f"), st.characters(min_codepoint=0x80, codec="utf-8")),
            st.text("abc", max_size=5),
        ),
    )
)
def test_keys_that_are_none_are_refused_and_nothing_is_sent(within, key):
    async def scenario(cache):
        for call in (cache.get([key]), cache.put({key: b"v"}, HOUR), cache.drop([key])):
            with pytest.raises(CacheError, match="no key of a cache"):
                await call
        await cache.put({"k": b"v"}, HOUR)
        assert await cache.get(["k"]) == [b"v"]

    within(scenario)


@pytest.mark.parametrize("size", [100_000, MAX_VALUE - 200, MAX_VALUE, MAX_VALUE + 1])
def test_large_values_are_kept_whole_or_not_at_all(within, kind, size):
    async def scenario(cache):
        await cache.put({"large": b"before"}, HOUR)
        value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        await cache.put({"large": value}, HOUR)
        found = await cache.get(["large"])
        # a Memcached with its usual settings holds items of 1 MB, their keys and heads included
        fits = size <= MAX_VALUE and (size < MAX_VALUE or kind != "memcached")
        assert found == [value if fits else None]
        await cache.put({"large": b"after"}, HOUR)
        assert await cache.get(["large"]) == [b"after"]

    within(scenario)


def test_values_are_gone_after_their_time(within, kind, clock):
    async def scenario(cache):
        ttl = 1000 if kind.startswith("memcached") else 120
        await cache.put({"short": b"s", "zero": b"z"}, ttl)
        await cache.put({"long": b"l"}, HOUR)
        await cache.put({"zero": b"z"}, 0)
        assert await cache.get(["zero"]) == [None]
        if kind == "memory":
            clock.ahead = 0.119
            assert await cache.get(["short"]) == [b"s"]
            clock.ahead = 0.121
        else:
            end = time.monotonic() + 5
            while await cache.get(["short"]) != [None]:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
            if kind == "redis":
                assert time.monotonic() > end - 5 + 0.1
        assert await cache.get(["short", "long"]) == [None, b"l"]

    within(scenario)


def test_a_time_is_renewed_with_the_value(within, clock):
    async def scenario(cache):
        await cache.put({"k": b"1"}, HOUR)
        await cache.put({"k": b"2"}, 90 * 24 * HOUR)  # longer than Memcached counts in seconds
        clock.ahead = 2 * HOUR / 1000
        assert await cache.get(["k"]) == [b"2"]

    within(scenario)


def test_less_than_a_second_is_kept_by_memcached_not_at_all(within, kind):
    async def scenario(cache):
        await cache.put({"k": b"before"}, HOUR)
        await cache.put({"k": b"v"}, 999)
        assert await cache.get(["k"]) in ([None] if kind.startswith("memcached") else [b"v"], [b"v"])
        if kind.startswith("memcached"):
            assert await cache.get(["k"]) == [None]

    within(scenario)


def test_nothing_of_nothing(within):
    async def scenario(cache):
        assert await cache.get([]) == []
        await cache.put({}, HOUR)
        await cache.drop([])
        await cache.drop(["was", "never", "there"])
        await cache.ping()

    within(scenario)


def test_many_at_once_do_not_mix_up_their_answers(within):
    async def scenario(cache):
        values = {f"key-{number}": str(number).encode() * (number % 50) for number in range(300)}
        await asyncio.gather(*(cache.put({key: value}, HOUR) for key, value in values.items()))
        found = await asyncio.gather(*(cache.get([key]) for key in values))
        assert [one for [one] in found] == list(values.values())

    within(scenario)


def test_who_gives_up_spoils_nothing_for_those_after_him(within):
    async def scenario(cache):
        values = {f"key-{number}": str(number).encode() * 1000 for number in range(50)}
        await cache.put(values, HOUR)
        for wait in (0, 0.0001, 0.0005, 0.001, 0.002):
            tasks = [asyncio.create_task(cache.get([key])) for key in values]
            await asyncio.sleep(wait)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for key, value in values.items():
                assert await cache.get([key]) == [value]

    within(scenario)


def test_a_closed_cache_says_so(within):
    async def scenario(cache):
        await cache.put({"k": b"v"}, HOUR)
        await cache.close()
        with pytest.raises(CacheError, match="closed"):
            await cache.get(["k"])
        with pytest.raises(CacheError, match="closed"):
            await cache.ping()
        await cache.close()

    within(scenario)


def test_every_driver_says_which_product_it_is(within, kind):
    async def scenario(cache):
        assert cache.name == kind.split()[0]

    within(scenario)
