"""Rows by key and time: which ones, in which order, as often as they were written or once."""

from __future__ import annotations

import random

import pytest

from qanat.errors import ConfigError, StoreError
from qanat.model.streams import Column, Stream
from qanat.model.types import BIGINT, STRING
from qanat.stores.hot.table import open_table
from tests.conformance.store.places import Place
from tests.conformance.store.streams import DAY, batch_of, reading, readings

NOON = 20_000 * DAY + DAY // 2


def ids(found):
    return found.column("id").to_pylist()


@pytest.fixture
def table(store, name):
    table = readings(name)
    store.prepare(table)
    return table


def test_newest_first_or_oldest_first_between_two_times(store, table):
    rows = [reading(n, "a" if n % 2 else "b", NOON + n) for n in range(10)]
    store.write(table.name, batch_of(table, rows))
    assert ids(store.read(table.name, ["a"])) == [9, 7, 5, 3, 1]
    assert ids(store.read(table.name, ["a"], order="oldest")) == [1, 3, 5, 7, 9]
    assert ids(store.read(table.name, ["a"], since=NOON + 3, until=NOON + 7)) == [7, 5, 3]
    assert ids(store.read(table.name, ["a"], since=NOON + 4, until=NOON + 6, order="oldest")) == [5]
    assert ids(store.read(table.name, ["a"], limit=2)) == [9, 7]
    assert ids(store.read(table.name, ["a"], limit=2, order="oldest", since=NOON + 2)) == [3, 5]
    assert ids(store.read(table.name, ["c"])) == []
    assert ids(store.latest(table.name, ["b"])) == [8]
    assert ids(store.latest(table.name, ["c"])) == []


def test_a_span_of_many_days_is_read_through(store, table):
    rows = [reading(n, "a", NOON + n * DAY) for n in range(-3, 4)]
    random.Random(3).shuffle(rows)
    store.write(table.name, batch_of(table, rows))
    assert ids(store.read(table.name, ["a"])) == [3, 2, 1, 0, -1, -2, -3]
    assert ids(store.read(table.name, ["a"], order="oldest", limit=3)) == [-3, -2, -1]
    assert ids(store.read(table.name, ["a"], since=NOON - DAY, until=NOON + DAY)) == [1, 0, -1]
    assert ids(store.latest(table.name, ["a"])) == [3]


def test_times_before_1970_and_after_2300(store, table):
    times = [-62_135_596_800_000, -DAY - 1, -1, 0, 12_000_000_000_000, 253_402_300_799_999]
    store.write(table.name, batch_of(table, [reading(n, "a", time) for n, time in enumerate(times)]))
    assert ids(store.read(table.name, ["a"], order="oldest")) == [0, 1, 2, 3, 4, 5]
    assert ids(store.read(table.name, ["a"], since=-DAY - 1, until=-1)) == [2, 1]


def test_equal_times_go_by_partition_and_offset(store, table):
    for partition in (1, 0):
        rows = [reading(10 * partition + n, "a", NOON) for n in range(3)]
        store.write(table.name, batch_of(table, rows, offset=40, partition=partition))
    assert ids(store.read(table.name, ["a"])) == [12, 11, 10, 2, 1, 0]
    assert ids(store.read(table.name, ["a"], order="oldest")) == [0, 1, 2, 10, 11, 12]


def test_without_an_event_time_the_arrival_counts(store, table):
    rows = [{"id": 1, "sensor": "a"}, {"id": 2, "sensor": "a"}]
    store.write(table.name, batch_of(table, rows, at=NOON + 5))
    assert ids(store.read(table.name, ["a"], since=NOON + 5, until=NOON + 5)) == [2, 1]
    assert ids(store.read(table.name, ["a"], since=NOON + 6)) == []


def test_the_same_batch_again_changes_nothing(store, table):
    rows = [reading(n, "a", NOON + n) for n in range(6)]
    batch = batch_of(table, rows, offset=100)
    for _ in range(3):
        store.write(table.name, batch)
        assert ids(store.read(table.name, ["a"])) == [5, 4, 3, 2, 1, 0]
        assert store.position(table.name) == {0: 106}


def test_the_same_rows_cut_otherwise_change_nothing(store, table):
    rows = [reading(n, "a", NOON + n) for n in range(8)]
    for first, last in [(0, 3), (0, 5), (2, 6), (4, 8), (0, 8)]:
        store.write(table.name, batch_of(table, rows[first:last], offset=first))
    assert ids(store.read(table.name, ["a"], order="oldest")) == list(range(8))
    assert store.position(table.name) == {0: 8}


def test_what_was_written_is_there_for_who_opens_it_again(place: Place, store, table):
    store.write(table.name, batch_of(table, [reading(1, "a", NOON)], offset=3, partition=1))
    store.close()
    again = place.open()
    again.prepare(table)
    assert ids(again.latest(table.name, ["a"])) == [1]
    assert again.position(table.name) == {1: 4}
    again.write(table.name, batch_of(table, [reading(1, "a", NOON), reading(2, "a", NOON + 1)], offset=3, partition=1))
    assert ids(again.read(table.name, ["a"])) == [2, 1]
    again.close()


def test_a_batch_of_no_rows_moves_the_position(store, table):
    batch = batch_of(table, [reading(1, "a", NOON)], offset=9)
    store.write(table.name, batch)
    store.write(table.name, batch_of(table, [], offset=30))
    assert store.position(table.name) == {0: 30}


def test_null_and_strange_texts_are_keys(store, table):
    keys = [None, "", "null", '["a"]', "a'b", 'a"b', "a\\b", "ü🌧\u0000x", "a,b", "{key:String}", "%s"]
    store.write(table.name, batch_of(table, [reading(n, key, NOON) for n, key in enumerate(keys)]))
    for number, key in enumerate(keys):
        found = store.read(table.name, [key])
        assert (ids(found), found.column("sensor").to_pylist()) == ([number], [key])


def test_a_key_that_does_not_fit_is_refused(store, table):
    with pytest.raises(ConfigError, match=r"no key of .* in sensor"):
        store.latest(table.name, [3.5])
    with pytest.raises(ConfigError, match="2 values"):
        store.read(table.name, ["a", "b"])
    with pytest.raises(StoreError, match="not prepared"):
        store.read("nothing", ["a"])


def test_old_rows_go_and_young_ones_stay(store, name, place):
    if place.driver == "cassandra":
        pytest.skip("rows of Cassandra go by its own clock: tests/stores/hot/test_cassandra.py")
    table = readings(name, retention_ms=7 * DAY)
    store.prepare(table)
    now = NOON + 100 * DAY
    ages = {1: 0, 2: 6, 3: 7, 4: 38, 5: 99}
    store.write(table.name, batch_of(table, [reading(n, "a", now - days * DAY) for n, days in ages.items()]))
    store.expire(now)
    assert {1, 2, 3} >= set(ids(store.read(table.name, ["a"]))) >= {1, 2}
    store.write(table.name, batch_of(table, [reading(9, "a", now)], offset=5))
    store.expire(now + 38 * DAY)
    assert ids(store.read(table.name, ["a"])) == []


def test_rows_of_any_size_of_one_key_and_day(store, name):
    table = open_table(Stream(name, (Column("k", STRING), Column("id", BIGINT), Column("x", STRING))), ("k",))
    store.prepare(table)
    sizes = [10, 3_000, 100_000, 10, 3_000, 3_000, 60_000, *[200] * 120]
    rows = [{"k": "a", "id": n, "x": "ü" * size} for n, size in enumerate(sizes)]
    store.write(name, batch_of(table, rows))
    found = store.read(name, ["a"], order="oldest")
    assert (ids(found), [len(x) for x in found.column("x").to_pylist()]) == (list(range(len(sizes))), sizes)
