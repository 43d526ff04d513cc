"""Streams that change, and names that a store has trouble with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qanat.errors import ConfigError, StoreError
from qanat.model.streams import Column, Stream
from qanat.model.types import BIGINT, DOUBLE, STRING, TIMESTAMP, array
from qanat.stores.hot.table import open_table
from tests.conformance.store.streams import batch_of, meters, reading, readings


def grown(table, *columns):
    return replace(table, stream=replace(table.stream, columns=(*table.columns, *columns)))


def test_added_columns_are_null_in_older_rows(place, store, name):
    table = readings(name)
    store.prepare(table)
    store.write(name, batch_of(table, [reading(1, "a", 1)]))
    wide = grown(table, Column("note", STRING), Column("list", array(TIMESTAMP)))
    store.prepare(wide)
    store.write(name, batch_of(wide, [reading(2, "a", 2) | {"note": "x", "list": [None]}], offset=1))
    assert store.read(name, ["a"]).select(["id", "note", "list"]).to_pylist() == [
        {"id": 2, "note": "x", "list": [None]},
        {"id": 1, "note": None, "list": None},
    ]
    store.close()
    again = place.open()
    again.prepare(wide)
    assert again.read(name, ["a"]).column("note").to_pylist() == ["x", None]
    again.close()


def test_a_column_may_be_added_again_after_a_crash_on_the_way(store, name, place):
    """The column is there, and that it is was not yet written down."""
    table = readings(name)
    store.prepare(table)
    wide = grown(table, Column("note", STRING))
    store.prepare(wide)
    if place.driver == "cassandra":
        store._session.execute(store._tell, (name, _told(table)))
    elif place.driver != "duckdb":  # which does both in one transaction
        store._transport.run("DELETE FROM qanat_streams WHERE name = '" + name + "' AND number = 2")
    store.prepare(wide)
    store.write(name, batch_of(wide, [reading(2, "a", 2) | {"note": "x"}]))
    assert store.latest(name, ["a"]).column("note").to_pylist() == ["x"]


def _told(table):
    from qanat.stores.hot.table import describe

    return describe(table)


def test_what_differs_is_said(store, name):
    table = readings(name)
    store.prepare(table)
    columns = table.columns
    for other, text in [
        (replace(table, stream=replace(table.stream, columns=columns[:-1])), "column v is there no more"),
        (replace(table, stream=replace(table.stream, columns=(*columns[:-1], Column("v", BIGINT)))), "v was DOUBLE"),
        (replace(table, key=("id",)), "the key was"),
        (replace(table, source="another"), "another log"),
        (replace(table, stream=replace(table.stream, event_time=None)), "the event time was"),
    ]:
        with pytest.raises(StoreError, match=text):
            store.prepare(other)
    store.prepare(table)


def test_names_that_have_to_be_quoted(store, name):
    columns = tuple(
        Column(one, DOUBLE) for one in ("select", "a b", 'c"d', "e`f", "g\\h", "ü", "i.j", "k'l", "%s", "Ä?")
    )
    table = open_table(Stream(name, (Column("order", STRING), *columns)), ("order",))
    store.prepare(table)
    row = {"order": "x"} | {column.name: float(n) for n, column in enumerate(columns)}
    store.write(name, batch_of(table, [row]))
    assert store.latest(name, ["x"]).to_pylist() == [row]


def test_columns_that_differ_in_case(store, name, place):
    table = open_table(Stream(name, (Column("a", STRING), Column("A", BIGINT))), ("a",))
    if place.driver == "duckdb":
        with pytest.raises(ConfigError, match="column A and column a"):
            store.prepare(table)
    else:
        store.prepare(table)
        store.write(name, batch_of(table, [{"a": "x", "A": 3}]))
        assert store.latest(name, ["x"]).to_pylist() == [{"a": "x", "A": 3}]


def test_without_a_key_a_stream_is_one_series(store, name):
    table = open_table(Stream(name, (Column("n", BIGINT),)))
    store.prepare(table)
    store.write(name, batch_of(table, [{"n": 1}, {"n": 2}]))
    assert store.read(name, []).column("n").to_pylist() == [2, 1]


def test_a_key_of_several_columns(store, name):
    stream = Stream(name, (Column("a", STRING), Column("b", BIGINT), Column("n", BIGINT)))
    table = open_table(stream, ("b", "a"))
    store.prepare(table)
    store.write(name, batch_of(table, [{"a": "x", "b": 1, "n": 1}, {"a": "1", "b": None, "n": 2}, {"b": 1, "n": 3}]))
    assert store.latest(name, [1, "x"]).column("n").to_pylist() == [1]
    assert store.latest(name, [None, "1"]).column("n").to_pylist() == [2]
    assert store.latest(name, [1, None]).column("n").to_pylist() == [3]


def test_an_upsert_stream_is_kept_by_its_primary_key():
    with pytest.raises(ConfigError, match="latest row of each meter"):
        open_table(meters("m").stream, ("v",))
