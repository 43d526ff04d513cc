"""Answers to repeated requests: stored with their rows or not at all, found again, forgotten in time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.errors import BackpressureError
from qanat.gateway.answers import KEPT_MS, Answer, Answers, State, digest

NOW = 1_700_000_000_000


class Kept(dict[str, bytes]):
    """The state of a log."""

    def take(self, state: Mapping[str, bytes | None]) -> None:
        for key, value in state.items():
            if value is None:
                self.pop(key, None)
            else:
                self[key] = value


def name(number: int) -> bytes:
    return digest("n", str(number))


async def keep(answers: Answers, kept: Kept, *numbers: int, now: int = NOW, stored: bool = True) -> None:
    claim = answers.claim([name(number) for number in numbers], b"m")
    await claim.begin()
    state = claim.state([(name(number), Answer(now, b"m", b"%d" % number)) for number in numbers], now)
    if stored:
        kept.take(state)
    claim.end(stored=stored)


def found(answers: Answers, numbers: range, now: int = NOW) -> list[int]:
    return [number for number in numbers if answers.find(name(number), now) is not None]


def test_what_was_stored_is_found_after_a_restart_and_what_failed_is_not() -> None:
    async def run() -> None:
        kept = Kept()
        answers = Answers("http", kept.get)
        for number in range(500):
            await keep(answers, kept, number, stored=number % 3 > 0)
        wanted = [number for number in range(500) if number % 3]
        assert found(answers, range(500)) == wanted
        again = Answers("http", kept.get)
        assert found(again, range(500)) == wanted
        assert again.find(name(1), NOW) == Answer(NOW, b"m", b"1")
        assert len(kept) <= 128

    asyncio.run(run())


@given(st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=40))
def test_memory_and_log_always_tell_the_same(batches: list[tuple[int, bool]]) -> None:
    async def run() -> None:
        kept, number = Kept(), 0
        answers = Answers("http", kept.get)
        for size, stored in batches:
            await keep(answers, kept, *range(number, number + size), stored=stored)
            number += size
        again = Answers("http", kept.get)
        assert found(answers, range(number)) == found(again, range(number))
        assert len(again) == len(answers)

    asyncio.run(run())


def test_a_lane_is_never_shared_so_a_failed_transaction_takes_no_answer_with_it() -> None:
    async def run() -> None:
        kept = Kept()
        answers = Answers("http", kept.get)
        first, second = answers.claim([name(1)], b""), answers.claim([name(2)], b"")
        await first.begin()
        await second.begin()
        states = [
            claim.state([(name(number), Answer(NOW, b"", b""))], NOW) for claim, number in ((first, 1), (second, 2))
        ]
        assert not set(states[0]) & set(states[1])
        kept.take(states[1])
        first.end(stored=False)
        second.end(stored=True)
        assert found(Answers("http", kept.get), range(3)) == found(answers, range(3)) == [2]

    asyncio.run(run())


def test_the_oldest_are_forgotten_where_there_are_too_many() -> None:
    async def run() -> None:
        kept = Kept()
        answers = Answers("http", kept.get)
        for first in range(0, 80_000, 500):
            await keep(answers, kept, *range(first, first + 500))
        assert 60_000 <= len(answers) <= 65_536 + 64 * 32
        there = found(answers, range(80_000))
        assert there[-1] == 79_999
        assert 0 not in there
        assert found(Answers("http", kept.get), range(80_000)) == there
        assert sum(map(len, kept.values())) < 8 << 20

    asyncio.run(run())


def test_after_a_day_an_answer_counts_no_more_and_is_removed() -> None:
    async def run() -> None:
        kept = Kept()
        answers = Answers("http", kept.get)
        for number in range(100):
            await keep(answers, kept, number, now=NOW + number)
        assert found(answers, range(100), NOW + KEPT_MS + 49) == list(range(50, 100))

        async def store(state: State) -> bool:
            kept.take(state)
            return True

        assert await answers.tidy(NOW + KEPT_MS + 49, store) == 50
        assert len(answers) == 50
        assert found(Answers("http", kept.get), range(100)) == list(range(50, 100))
        assert await answers.tidy(NOW + KEPT_MS + 200, store) == 50
        assert (len(answers), kept) == (0, {})

    asyncio.run(run())


def test_what_could_not_be_removed_from_the_log_stays() -> None:
    async def run() -> None:
        kept = Kept()
        answers = Answers("http", kept.get)
        await keep(answers, kept, 1)

        async def fail(state: State) -> bool:
            return False

        assert await answers.tidy(NOW + KEPT_MS + 1, fail) == 0
        assert len(answers) == 1

    asyncio.run(run())


def test_too_many_that_wait_are_told_to_come_back() -> None:
    async def run() -> None:
        answers = Answers("http", Kept().get)
        claims = [answers.claim([name(number)], b"") for number in range(64 + 256 + 1)]
        for claim in claims[:64]:
            await claim.begin()
        waiting = [asyncio.ensure_future(claim.begin()) for claim in claims[64:-1]]
        await asyncio.sleep(0)
        with pytest.raises(BackpressureError):
            await claims[-1].begin()
        for claim in claims[:64]:
            claim.end(stored=False)
        await asyncio.wait_for(asyncio.gather(*waiting[:64]), 5)
        for task in waiting:
            task.cancel()

    asyncio.run(run())
