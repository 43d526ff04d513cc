"""Streams that hold the latest row of each key."""

from __future__ import annotations

import random

import pytest

from tests.conformance.store.streams import changes, meters


@pytest.fixture
def table(store, name):
    table = meters(name)
    store.prepare(table)
    return table


def value(store, table, meter):
    found = store.latest(table.name, [meter]).column("v").to_pylist()
    return found[0] if found else None


def test_the_latest_row_stays_and_deletions_delete(store, table):
    store.write(table.name, changes(table, [("a", 1), ("b", 1), ("a", 2)]))
    assert [value(store, table, meter) for meter in "abc"] == [2, 1, None]
    store.write(table.name, changes(table, [("b", None), ("c", 3), ("a", None), ("a", 4)], offset=3))
    assert [value(store, table, meter) for meter in "abc"] == [4, None, 3]
    store.write(table.name, changes(table, [("b", 5), ("c", None)], offset=7))
    assert [value(store, table, meter) for meter in "abc"] == [4, 5, None]
    assert store.read(table.name, ["a"]).to_pylist() == [{"meter": "a", "v": 4}]


def test_old_batches_again_change_nothing(store, table):
    batches = [changes(table, [("a", 1), ("b", 1)]), changes(table, [("a", None), ("b", 2)], offset=2)]
    for batch in batches:
        store.write(table.name, batch)
    for batch in [batches[0], batches[1], batches[0]]:
        store.write(table.name, batch)
        assert [value(store, table, meter) for meter in "ab"] == [None, 2]
    assert store.position(table.name)[0] == 4


def test_whatever_the_cuts_and_repetitions_the_last_row_is_there(store, table):
    draw = random.Random(11)
    rows = [(draw.choice("abcde"), draw.choice([None, *range(50)])) for _ in range(60)]
    want = dict(rows)
    end = 0
    while end < len(rows):
        begin, end = draw.randint(max(0, end - 6), end), min(len(rows), end + draw.randint(1, 9))
        store.write(table.name, changes(table, rows[begin:end], offset=begin))
    assert {meter: value(store, table, meter) for meter in "abcde"} == {meter: want.get(meter) for meter in "abcde"}
