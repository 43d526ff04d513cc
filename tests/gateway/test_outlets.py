"""What goes out: every row once and in order, whoever is slow, leaves or comes late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.errors import UnknownStreamError
from qanat.gateway import outlets as outlets_module
from qanat.gateway.filters import parse_filter
from qanat.gateway.outlets import Delivery, Outlet, Outlets
from qanat.gateway.sieves import Sieve
from qanat.log import open_log
from qanat.log.base import Append, Log, Transaction
from qanat.model.streams import CHANGE, DELETED, Column, Stream
from qanat.model.types import BIGINT, STRING

READINGS = Stream("readings", (Column("id", STRING), Column("n", BIGINT)), key=("id",), partitions=2)
PLAIN = Stream("plain", (Column("n", BIGINT),))
PAIRS = Stream("pairs", (Column("a", STRING), Column("b", BIGINT), Column("n", BIGINT)), key=("a", "b"))
LATEST = Stream("latest", (Column("id", STRING), Column("n", BIGINT)), key=("id",), upsert=True)
STREAMS = {one.name: one for one in (READINGS, PLAIN, PAIRS, LATEST)}


@pytest.fixture(params=["memory", "sqlite"])
def log(request: Any, tmp_path: Path) -> Iterator[Log]:
    opened = open_log("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/log.db")
    for stream in STREAMS.values():
        opened.create(stream)
    yield opened
    opened.close()


def add(log: Log, stream: str, partition: int = 0, **columns: Sequence[Any]) -> None:
    types = {"n": pa.int64(), "b": pa.int64(), CHANGE: pa.int8()}
    rows = pa.record_batch({name: pa.array(v, types.get(name, pa.string())) for name, v in columns.items()})
    if STREAMS[stream].upsert and CHANGE not in columns:
        rows = rows.append_column(CHANGE, pa.nulls(rows.num_rows, pa.int8()))
    log.submit(Transaction([Append(stream, partition, rows, 0)])).result(10)


def readings(log: Log, numbers: Sequence[int], partition: int = 0) -> None:
    add(log, "readings", partition, id=[f"k{n % 3}" for n in numbers], n=list(numbers))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def in_loop(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def numbers(got: Sequence[Delivery]) -> list[int]:
    return [json.loads(one.payload)["n"] for one in got]


def test_rows_from_the_beginning_and_as_they_come(log: Log) -> None:
    async def work() -> None:
        readings(log, range(5))
        outlets, got = Outlets(log, STREAMS), list[Delivery]()
        outlet = outlets.open("readings", None, {}, got.extend)
        await until(lambda: len(got) == 5)
        readings(log, range(5, 8))
        await until(lambda: len(got) == 8)
        assert numbers(got) == list(range(8))
        assert got[4] == Delivery("readings", "k1", b'{"id":"k1","n":4}', 0, 4)
        assert outlet.positions == {0: 8, 1: 0}
        outlets.close()

    in_loop(work())


def test_without_positions_only_what_comes_later(log: Log) -> None:
    async def work() -> None:
        readings(log, range(5))
        outlets, got, keyed = Outlets(log, STREAMS), list[Delivery](), list[Delivery]()
        first = outlets.open("readings", None, None, got.extend)
        readings(log, range(5, 8))
        outlets.open("readings", frozenset({"k0", "k2"}), None, keyed.extend)
        readings(log, range(8, 12))
        await until(lambda: len(got) == 7 and len(keyed) == 3)
        assert numbers(got) == list(range(5, 12))
        assert numbers(keyed) == [8, 9, 11]
        first.close()
        readings(log, [12])
        await until(lambda: len(keyed) == 4)
        assert len(got) == 7
        outlets.close()

    in_loop(work())


def test_rows_that_are_not_wanted_are_not_pushed_and_looked_at_once_for_all(log: Log, monkeypatch: Any) -> None:
    looked: list[Sequence[Delivery]] = []
    keep = Sieve._of

    def noted(self: Sieve, partition: int, rows: list[Delivery]) -> list[Delivery]:
        looked.append(rows)
        return keep(self, partition, rows)

    monkeypatch.setattr(Sieve, "_of", noted)

    async def work() -> None:
        outlets = Outlets(log, STREAMS)
        some, same, keyed, none, whole = (list[Delivery]() for _ in range(5))
        outlets.open("readings", None, None, some.extend, parse_filter(READINGS, ["n>=7"], None, None))
        outlets.open("readings", None, None, same.extend, parse_filter(READINGS, ["n >= 7"], None, None))
        outlets.open("readings", frozenset({"k1"}), None, keyed.extend, parse_filter(READINGS, ["n>=7"], None, None))
        last = outlets.open("readings", None, None, none.append, parse_filter(READINGS, ["n<0"], None, None))
        outlets.open("readings", None, None, whole.extend)
        readings(log, range(10), 1)
        await until(lambda: len(whole) == 10)
        assert numbers(some) == numbers(same) == [7, 8, 9]
        assert numbers(keyed) == [one.offset for one in whole if one.key == "k1" and one.offset >= 7]
        assert none == []
        assert last.positions == {0: 0, 1: 10}
        assert len(looked) == 3  # of two filters that are the same, of the keyed one, and of the last
        outlets.close()

    in_loop(work())


def test_a_paused_reader_goes_on_where_it_stopped_and_costs_no_memory(log: Log, monkeypatch: Any) -> None:
    monkeypatch.setattr(outlets_module, "_CACHED_BYTES", 0)

    async def work() -> None:
        outlets, slow, fast = Outlets(log, STREAMS), list[Delivery](), list[Delivery]()
        outlet: Outlet | None = None

        def take(rows: Sequence[Delivery]) -> None:
            slow.extend(rows)
            assert outlet is not None
            outlet.pause()

        outlet = outlets.open("readings", None, None, take)
        outlets.open("readings", None, None, fast.extend)
        for start in range(0, 5000, 50):
            readings(log, range(start, start + 50), start // 50 % 2)
        await until(lambda: len(fast) == 5000)
        assert len(slow) <= 1000
        assert len(outlets._pages._held) <= 1
        while len(slow) < 5000:
            had = len(slow)
            outlet.resume()
            await until(lambda had=had: len(slow) > had)  # type: ignore[misc]
        assert sorted(numbers(slow)) == sorted(numbers(fast)) == list(range(5000))
        for partition in (0, 1):
            mine = [one.offset for one in slow if one.partition == partition]
            assert mine == list(range(2500))
        outlets.close()

    in_loop(work())


def test_a_row_is_encoded_once_for_all_who_read_it(log: Log, monkeypatch: Any) -> None:
    calls: list[int] = []
    real = outlets_module.read_page
    monkeypatch.setattr(outlets_module, "read_page", lambda *a: calls.append(1) or real(*a))

    async def work() -> None:
        outlets, got = Outlets(log, STREAMS), [list[Delivery]() for _ in range(50)]
        for number, one in enumerate(got):
            outlets.open("readings", None if number % 2 else frozenset({"k0"}), None, one.extend)
        before = len(calls)
        readings(log, range(9))
        await until(lambda: all(len(one) == (9 if n % 2 else 3) for n, one in enumerate(got)))
        assert len(calls) - before <= 2 * 3  # both partitions, until nothing more is found
        assert got[1][0] is got[3][0]
        assert got[0][0] is got[1][0]
        outlets.close()

    in_loop(work())


def test_a_subscriber_may_close_others_and_itself_while_it_is_pushed_to(log: Log) -> None:
    async def work() -> None:
        outlets, got, all_of = Outlets(log, STREAMS), list[int](), list[Outlet]()

        def take(which: int) -> Callable[[Sequence[Delivery]], None]:
            def push(_: Sequence[Delivery]) -> None:
                got.append(which)
                for one in all_of:
                    one.close()

            return push

        all_of += [outlets.open("plain", None, None, take(n)) for n in range(3)]
        witness: list[Delivery] = []
        outlets.open("plain", None, None, witness.extend)
        add(log, "plain", n=[1])
        await until(lambda: bool(witness))
        assert got == [0]
        outlets.close()

    in_loop(work())


def test_the_newest_row_per_key(log: Log) -> None:
    async def work() -> None:
        outlets = Outlets(log, STREAMS)
        assert await outlets.last("readings", None) == []
        readings(log, range(7))
        readings(log, [100], 1)
        got = await outlets.last("readings", frozenset({"k0", "k2", "none"}))
        assert [(one.key, json.loads(one.payload)["n"]) for one in got] == [("k2", 5), ("k0", 6)]
        readings(log, [9])
        assert numbers(await outlets.last("readings", frozenset({"k0"}))) == [9]
        add(log, "plain", n=[1, 2, 3])
        assert [(one.key, one.payload) for one in await outlets.last("plain", None)] == [(None, b'{"n":3}')]
        add(log, "pairs", a=["x", "y"], b=[1, 2], n=[0, 1])
        assert [one.key for one in await outlets.last("pairs", None)] == ["x/1", "y/2"]
        outlets.close()

    in_loop(work())


def test_a_deleted_key_is_pushed_as_null_and_has_no_newest_row(log: Log) -> None:
    async def work() -> None:
        outlets, got = Outlets(log, STREAMS), list[Delivery]()
        outlets.open("latest", None, None, got.extend)
        add(log, "latest", id=["a", "b"], n=[1, 2])
        assert len(await outlets.last("latest", None)) == 2
        add(log, "latest", id=["a"], n=[None], **{CHANGE: [DELETED]})
        await until(lambda: len(got) == 3)
        assert [one.payload for one in got] == [b'{"id":"a","n":1}', b'{"id":"b","n":2}', b"null"]
        assert [one.key for one in await outlets.last("latest", None)] == ["b"]
        outlets.close()

    in_loop(work())


def test_an_unknown_stream_is_named(log: Log) -> None:
    async def work() -> None:
        outlets = Outlets(log, STREAMS)
        with pytest.raises(UnknownStreamError, match="nowhere"):
            outlets.open("nowhere", None, None, lambda _: None)
        with pytest.raises(UnknownStreamError, match="nowhere"):
            await outlets.last("nowhere", None)

    in_loop(work())


@given(st.lists(st.sampled_from(["row", "rows", "open", "keyed", "pause", "resume", "tick"]), max_size=40))
def test_everybody_gets_every_row_once_and_in_order_whatever_happens(steps: list[str]) -> None:
    """Law: what an outlet gets is the log from its position on, whoever else comes, pauses and goes on."""
    log = open_log("memory://")
    log.create(READINGS)

    async def work() -> None:
        outlets = Outlets(log, STREAMS)
        open_ones: list[tuple[Outlet, list[Delivery], int, frozenset[str] | None]] = []
        total = 0
        for number, step in enumerate(steps):
            if step in ("row", "rows"):
                count = 1 if step == "row" else 30
                readings(log, range(total, total + count))
                total += count
            elif step in ("open", "keyed"):
                got: list[Delivery] = []
                keys = None if step == "open" else frozenset({"k1"})
                start = None if number % 2 else {0: total // 2}
                outlet = outlets.open("readings", keys, start, got.extend)
                open_ones.append((outlet, got, total if start is None else total // 2, keys))
            elif step == "tick":
                await asyncio.sleep(0)
            elif open_ones:
                outlet = open_ones[number % len(open_ones)][0]
                (outlet.pause if step == "pause" else outlet.resume)()
        for outlet, *_ in open_ones:
            outlet.resume()
        for outlet, got, first, keys in open_ones:
            await until(lambda outlet=outlet: outlet.positions[0] == total)  # type: ignore[misc]
            wanted = [n for n in range(first, total) if keys is None or n % 3 == 1]
            assert numbers(got) == wanted
        outlets.close()

    in_loop(work())
    log.close()
