"""Cache-aside over the cache in this process: who calls `make`, who waits, what is given when."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest
from tests.stores.cache.conftest import Bench, Within, settings

from qanat.clock import SYSTEM
from qanat.errors import CacheError
from qanat.stores.cache import tag_of
from qanat.stores.cache.aside import MOST_REFRESHES

TAG = tag_of("readings", "temperature")


def test_an_answer_is_made_once_and_given_until_its_time_is_over(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(3):
            assert await bench.aside.fetch("k", bench.maker()) == b"answer"
        await bench.settled()
        bench.clock.move(119.999)
        assert await bench.aside.fetch("k", bench.maker()) == b"answer"
        assert bench.made == 1
        bench.clock.move(0.001)
        assert await bench.aside.fetch("k", bench.maker(b"new")) == b"new"
        assert bench.made == 2
        assert bench.counted("made_total", outcome="ok") == 2
        assert bench.counted("writes_total", driver="memory", outcome="ok") == 2

    within(scenario)


def test_a_time_of_its_own(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker(), ttl_ms=1000)
        await bench.settled()
        bench.clock.move(1)
        await bench.aside.fetch("k", bench.maker(), ttl_ms=1000)
        assert bench.made == 2

    within(scenario)


def test_without_time_nothing_is_kept_and_still_made_once_for_all_who_wait(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        make = bench.maker(wait=0.01)
        assert await asyncio.gather(*(bench.aside.fetch("k", make) for _ in range(10))) == [b"answer"] * 10
        await bench.settled()
        await bench.aside.fetch("k", make)
        assert bench.made == 2
        assert bench.reads() == {}

    within(scenario, ttl=0)


def test_a_thousand_at_once_make_one_call(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        make = bench.maker(wait=0.02)
        assert await asyncio.gather(*(bench.aside.fetch("k", make) for _ in range(1000))) == [b"answer"] * 1000
        assert bench.made == 1
        assert bench.counted("shared_total") == 999
        others = [bench.aside.fetch(f"k-{number}", make) for number in range(100)]
        await asyncio.gather(*others)
        assert bench.made == 101

    within(scenario)


def test_an_error_goes_to_all_who_wait_and_is_not_kept(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        make = bench.maker(ValueError("no"), wait=0.01)
        found = await asyncio.gather(*(bench.aside.fetch("k", make) for _ in range(10)), return_exceptions=True)
        assert [str(one) for one in found if isinstance(one, ValueError)] == ["no"] * 10
        assert bench.made == 1
        assert bench.counted("made_total", outcome="error") == 1
        await bench.settled()
        assert await bench.aside.fetch("k", bench.maker()) == b"answer"
        with pytest.raises(TypeError, match="an answer is bytes; str was made"):
            await bench.aside.fetch("other", bench.maker("text"))  # type: ignore[arg-type]

    within(scenario)


def test_an_error_that_nobody_waits_for_any_more_is_not_complained_about(
    within: Within, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(bench: Bench) -> None:
        task = asyncio.create_task(bench.aside.fetch("k", bench.maker(ValueError("no"), wait=0.01)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bench.settled()
        assert bench.made == 1
        gc.collect()
        await asyncio.sleep(0)

    within(scenario)
    assert caplog.records == []


@pytest.mark.parametrize("who", [0, 1, 4])
def test_who_is_cancelled_stops_waiting_and_the_others_do_not(within: Within, who: int) -> None:
    async def scenario(bench: Bench) -> None:
        make = bench.maker(wait=0.02)
        tasks = [asyncio.create_task(bench.aside.fetch("k", make)) for _ in range(5)]
        await asyncio.sleep(0.005)
        tasks[who].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found.pop(who), asyncio.CancelledError)
        assert found == [b"answer"] * 4
        assert bench.made == 1

    within(scenario)


def test_what_all_have_given_up_is_kept_all_the_same(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        tasks = [asyncio.create_task(bench.aside.fetch("k", bench.maker(wait=0.01))) for _ in range(3)]
        await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bench.settled()
        assert await bench.aside.fetch("k", bench.maker()) == b"answer"
        assert bench.made == 1

    within(scenario)


def test_a_maker_that_is_cancelled_is_an_error_to_those_who_wait(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        async def make() -> bytes:
            raise asyncio.CancelledError

        with pytest.raises(CacheError, match="given up"):
            await bench.aside.fetch("k", make)

    within(scenario)


def test_closing_tells_those_who_wait(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        task = asyncio.create_task(bench.aside.fetch("k", bench.maker(wait=60)))
        await asyncio.sleep(0.001)
        await bench.aside.close()
        with pytest.raises(CacheError, match="given up"):
            await task

    within(scenario)


# --- stale while a new one is made -----------------------------------------------------------------------------------


def test_a_stale_answer_is_given_at_once_and_one_new_one_is_made_behind_it(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker(b"old"))
        await bench.settled()
        bench.clock.move(125)
        make = bench.maker(b"new", wait=0.5)
        began = time.monotonic()
        assert await asyncio.gather(*(bench.aside.fetch("k", make) for _ in range(50))) == [b"old"] * 50
        assert await bench.aside.fetch("k", make) == b"old"
        assert time.monotonic() - began < 0.4
        assert bench.aside.peek("k") is None
        await bench.settled()
        assert bench.made == 2
        assert await bench.aside.fetch("k", make) == b"new"
        assert bench.reads()["stale"] == 1

    within(scenario, stale=30_000)


def test_a_stale_answer_has_an_end_even_while_the_new_one_takes_long(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker(b"old"))
        await bench.settled()
        bench.clock.move(149)
        make = bench.maker(b"new", wait=0.02)
        assert await bench.aside.fetch("k", make) == b"old"
        bench.clock.move(1)
        assert await bench.aside.fetch("k", make) == b"new"
        assert bench.made == 2

    within(scenario, stale=30_000)


def test_a_refresh_that_fails_is_tried_again_and_the_old_answer_goes_on(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker(b"old"))
        await bench.settled()
        bench.clock.move(125)
        for number in range(3):
            assert await bench.aside.fetch("k", bench.maker(ValueError("no"))) == b"old"
            await bench.settled()
            assert bench.made == 2 + number
        bench.clock.move(30)
        with pytest.raises(ValueError, match="no"):
            await bench.aside.fetch("k", bench.maker(ValueError("no")))

    within(scenario, stale=30_000)


def test_so_many_refreshes_at_once_and_no_more(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        keys = [f"k-{number}" for number in range(3 * MOST_REFRESHES)]
        await asyncio.gather(*(bench.aside.fetch(key, bench.maker(b"old")) for key in keys))
        await bench.settled()
        bench.clock.move(125)
        bench.made = 0
        make = bench.maker(b"new", wait=0.02)
        assert await asyncio.gather(*(bench.aside.fetch(key, make) for key in keys)) == [b"old"] * len(keys)
        assert bench.made == MOST_REFRESHES
        await bench.settled()
        found = await asyncio.gather(*(bench.aside.fetch(key, make) for key in keys))
        assert found.count(b"new") == MOST_REFRESHES
        await bench.settled()
        assert bench.made == 2 * MOST_REFRESHES

    within(scenario, stale=30_000)


# --- invalidation ----------------------------------------------------------------------------------------------------


def test_a_row_drops_what_was_made_of_its_tag_and_nothing_else(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        humidity = tag_of("readings", "humidity")
        keys = {"t": [TAG], "h": [humidity], "both": [TAG, humidity], "none": []}
        for key, tags in keys.items():
            await bench.aside.fetch(key, bench.maker(), tags=tags)
        await bench.settled()
        await bench.aside.invalidate([TAG, tag_of("elsewhere")])
        assert {key: bench.aside.peek(key) for key in keys} == {
            "t": None,
            "h": b"answer",
            "both": None,
            "none": b"answer",
        }
        bench.made = 0
        for key, tags in keys.items():
            await bench.aside.fetch(key, bench.maker(), tags=tags)
        assert bench.made == 2
        await bench.settled()
        assert all(bench.aside.peek(key) for key in keys)

    within(scenario, invalidate=True)


def test_what_is_being_made_while_a_row_comes_is_not_kept_and_given_to_nobody_who_asks_later(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        first = asyncio.create_task(bench.aside.fetch("k", bench.maker(b"old", wait=0.02), tags=[TAG]))
        await asyncio.sleep(0.005)
        await bench.aside.invalidate([TAG])
        assert await bench.aside.fetch("k", bench.maker(b"new"), tags=[TAG]) == b"new"
        assert await first == b"old"
        await bench.settled()
        assert bench.aside.peek("k") == b"new"
        assert bench.made == 2

    within(scenario, invalidate=True)


def test_a_stale_answer_that_a_row_made_wrong_is_not_given(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker(b"old"), tags=[TAG])
        await bench.settled()
        bench.clock.move(125)
        refresh = bench.maker(b"refreshed", wait=0.02)
        assert await bench.aside.fetch("k", refresh, tags=[TAG]) == b"old"
        await asyncio.sleep(0.005)
        await bench.aside.invalidate([TAG])
        assert await bench.aside.fetch("k", bench.maker(b"new"), tags=[TAG]) == b"new"
        await bench.settled()
        assert bench.aside.peek("k") == b"new"

    within(scenario, invalidate=True, stale=30_000)


def test_without_the_option_rows_change_nothing(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.aside.fetch("k", bench.maker(), tags=[TAG])
        await bench.settled()
        await bench.aside.invalidate([TAG])
        assert bench.aside.peek("k") == b"answer"

    within(scenario)


def test_tags_take_no_memory_that_is_not_given_back(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        for number in range(2000):
            tag = tag_of("readings", number)
            await bench.aside.fetch(f"k-{number}", bench.maker(b"x" * 1000), tags=[tag])
            await bench.aside.invalidate([tag, tag_of("readings", -number)])
        await bench.settled()
        flights = bench.aside._flights
        assert (flights._by_key, flights._by_tag) == ({}, {})
        [opened] = bench.switch._opened
        assert opened.place._driver.size <= 100_000

    within(scenario, invalidate=True, memory=100_000)


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_given_what_was_made_before_a_row_that_he_could_have_read(within: Within, seed: int) -> None:
    """Readers, rows and slow makers in a random order: an answer holds every row that was announced before the ask."""
    import random

    async def scenario(bench: Bench) -> None:
        chance = random.Random(seed)
        rows = {f"tag-{number}": 0 for number in range(3)}
        announced = dict(rows)

        async def read(tag: str) -> None:
            before = announced[tag]

            async def make() -> bytes:
                at = rows[tag]
                await asyncio.sleep(chance.random() * 0.003)
                return str(at).encode()

            assert int(await bench.aside.fetch(f"key of {tag}", make, tags=[tag])) >= before

        async def write(tag: str) -> None:
            rows[tag] += 1
            written = rows[tag]
            await bench.aside.invalidate([tag])
            announced[tag] = max(announced[tag], written)

        tasks = []
        for _ in range(600):
            act = write if chance.random() < 0.2 else read
            tasks.append(asyncio.create_task(act(chance.choice(list(rows)))))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.002)
        await asyncio.gather(*tasks)
        assert bench.reads()["hit"] > 20

    within(scenario, invalidate=True, clock=SYSTEM)


# --- speed -----------------------------------------------------------------------------------------------------------


def test_a_hit_takes_microseconds_no_task_and_no_copy(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        answer = b"x" * 1_000_000
        tags = [TAG, tag_of("readings")]
        await bench.aside.fetch("k", bench.maker(answer), tags=tags)
        await bench.settled()
        make = bench.maker()
        tasks = len(asyncio.all_tasks())
        fastest = {"fetch": 1.0, "peek": 1.0}
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(200):
                found = await bench.aside.fetch("k", make, tags=tags)
            fastest["fetch"] = min(fastest["fetch"], (time.perf_counter() - began) / 200)
            assert found is answer
            began = time.perf_counter()
            for _ in range(200):
                found = bench.aside.peek("k")
            fastest["peek"] = min(fastest["peek"], (time.perf_counter() - began) / 200)
            assert found is answer
        assert len(asyncio.all_tasks()) == tasks
        assert fastest["fetch"] < 20e-6, fastest
        assert fastest["peek"] < 20e-6, fastest

    within(scenario, invalidate=True, clock=SYSTEM)


def test_peek_is_counted_as_what_it_is(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        assert bench.aside.peek("k") is None
        assert bench.reads() == {}
        await bench.aside.fetch("k", bench.maker())
        await bench.settled()
        assert bench.aside.peek("k") == b"answer"
        assert bench.reads() == {"miss": 1, "hit": 1}
        assert bench.counted("read_seconds_count", driver="memory") == 2

    within(scenario)


def test_a_cache_of_no_size_is_no_error(within: Within) -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(3):
            assert await bench.aside.fetch("k", bench.maker(), tags=[TAG]) == b"answer"
            await bench.settled()
        assert bench.made == 3
        await bench.aside.use(settings("memory://", invalidate=True))
        for _ in range(3):
            assert await bench.aside.fetch("k", bench.maker(), tags=[TAG]) == b"answer"
            await bench.settled()
        assert bench.made == 4

    within(scenario, invalidate=True, memory=0)
