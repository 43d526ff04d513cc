"""Every column type comes back as it was declared, whatever is in it."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qanat.errors import ConfigError
from qanat.model import types as t
from qanat.model.arrow import to_arrow
from qanat.model.streams import Column, Stream
from qanat.model.types import Kind, Type
from qanat.stores.hot.rows import declared_schema, make_batch
from qanat.stores.hot.table import open_table
from qanat.stores.hot.texts import plain
from tests.conformance.store.streams import Rows

#: From the year 1 to 9999, which is what SQL's times are.
FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
NS = 2**63 - 1

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
ints = {kind: st.integers(-(2**bits), 2**bits - 1) for kind, bits in (("8", 7), ("16", 15), ("32", 31), ("64", 63))}
SPECIAL = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0])

#: Each type with what a column of it may hold, as Arrow takes it; times as whole numbers.
SCALARS: dict[str, tuple[Type, st.SearchStrategy[Any]]] = {
    "boolean": (t.BOOLEAN, st.booleans()),
    "tinyint": (t.TINYINT, ints["8"]),
    "smallint": (t.SMALLINT, ints["16"]),
    "int": (t.INT, ints["32"]),
    "bigint": (t.BIGINT, ints["64"]),
    "float": (t.FLOAT, st.floats(width=32) | SPECIAL),
    "double": (t.DOUBLE, st.floats() | SPECIAL),
    "decimal": (t.decimal(12, 3), st.decimals(-(10**8), 10**8, places=3)),
    "decimal38": (t.decimal(38, 10), st.decimals(-(10**27), 10**27, places=10, allow_nan=False)),
    "string": (t.STRING, texts),
    "varchar": (Type(Kind.STRING, precision=20), texts),
    "bytes": (t.BYTES, st.binary(max_size=12)),
    "date": (t.DATE, st.integers(FIRST_MS // 86_400_000, LAST_MS // 86_400_000)),
    "time": (Type(Kind.TIME, precision=3), st.integers(0, 86_399_999)),
    "timestamp": (t.TIMESTAMP, st.integers(FIRST_MS, LAST_MS)),
    "instant": (t.TIMESTAMP_LTZ, st.integers(FIRST_MS, LAST_MS)),
    "timestamp6": (Type(Kind.TIMESTAMP, precision=6), st.integers(FIRST_MS * 1000, LAST_MS * 1000)),
    "instant6": (Type(Kind.TIMESTAMP_LTZ, precision=6), st.integers(FIRST_MS * 1000, LAST_MS * 1000)),
    "timestamp9": (Type(Kind.TIMESTAMP, precision=9), st.integers(-NS, NS)),
    "instant9": (Type(Kind.TIMESTAMP_LTZ, precision=9), st.integers(-NS, NS)),
    "days": (Type(Kind.INTERVAL_DAY), ints["64"]),
    "months": (Type(Kind.INTERVAL_YEAR), ints["32"]),
}


def lists(name: str) -> tuple[Type, st.SearchStrategy[Any]]:
    kind, values = SCALARS[name]
    return t.array(kind), st.lists(st.none() | values, max_size=3)


def maps(name: str) -> tuple[Type, st.SearchStrategy[Any]]:
    kind, values = SCALARS[name]
    pairs = st.dictionaries(texts, st.none() | values, max_size=3).map(lambda found: list(found.items()))
    return Type(Kind.MAP, key=t.STRING.with_nullable(False), element=kind), pairs


def row(name: str) -> tuple[Type, st.SearchStrategy[Any]]:
    kind, values = SCALARS[name]
    deep = Type(Kind.ROW, fields=(("x", t.array(kind)), ("the y", t.BIGINT)))
    inner = st.fixed_dictionaries({"x": st.none() | st.lists(values, max_size=2), "the y": st.none() | ints["64"]})
    return deep, inner


GROUPS: dict[str, dict[str, tuple[Type, st.SearchStrategy[Any]]]] = {
    "scalars": SCALARS,
    "arrays": {name: lists(name) for name in SCALARS},
    "maps": {name: maps(name) for name in SCALARS},
    "rows": {name: row(name) for name in SCALARS},
}


def bits(value: Any) -> Any:
    """A value that equals another only where both are the same, a not-a-number included."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, list | tuple):
        return [bits(one) for one in value]
    return {name: bits(one) for name, one in value.items()} if isinstance(value, dict) else value


def values_of(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> list[Any]:
    """Python's values, times as whole numbers."""
    return [bits(value) for value in column.cast(plain(kind)).to_pylist()]


def array_of(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Times are given as whole numbers, which Arrow takes inside of lists by way of another type."""
    shape = plain(kind)
    return pa.array(_decimals_as_text(values), shape).cast(kind)


def _decimals_as_text(value: Any) -> Any:
    match value:
        case Decimal():
            return str(value)
        case list():
            return [_decimals_as_text(one) for one in value]
        case tuple():
            return tuple(_decimals_as_text(one) for one in value)
        case dict():
            return {name: _decimals_as_text(one) for name, one in value.items()}
        case _:
            return value


@pytest.mark.parametrize("group", GROUPS)
def test_what_goes_in_comes_back(store, name, group):
    """A stream with a column of every type; each row is looked up by the number of its batch."""
    cases = GROUPS[group]
    columns = tuple(Column(column, kind) for column, (kind, _) in cases.items())
    table = open_table(Stream(name, (Column("batch", t.BIGINT), *columns)), ("batch",))
    schema = declared_schema(table)
    store.prepare(table)
    offset = 0

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(*(st.none() | values for _, values in cases.values())), min_size=1, max_size=3))
    def check(drawn: list[tuple[Any, ...]]) -> None:
        nonlocal offset
        given = [
            array_of(list(values), field.type)
            for values, field in zip(zip(*drawn, strict=True), list(schema)[1:], strict=True)
        ]
        rows = pa.record_batch([pa.array([offset] * len(drawn)), *given], schema=schema)
        store.write(name, make_batch(table, 0, [Rows(offset, 5, rows)]))
        found = store.read(name, [offset], order="oldest")
        assert found.schema.equals(schema)
        for field, column in zip(list(schema)[1:], given, strict=True):
            assert values_of(found.column(field.name), field.type) == values_of(column, field.type), field.name
        offset += len(drawn)

    check()


def test_a_type_that_no_store_has_is_refused(store, name):
    table = open_table(Stream(name, (Column("a", t.BIGINT), Column("x", t.NULL))), ("a",))
    with pytest.raises(ConfigError, match="column x"):
        store.prepare(table)


KEYS = [name for name, (kind, _) in SCALARS.items() if kind.kind not in (Kind.FLOAT, Kind.DOUBLE)]


@pytest.mark.parametrize("case", KEYS)
def test_every_type_but_floats_is_a_key(store, name, case):
    kind, values = SCALARS[case]
    table = open_table(Stream(name, (Column("k", kind), Column("n", t.BIGINT))), ("k",))
    store.prepare(table)
    offset = 0

    @settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.none() | values, min_size=1, max_size=4, unique=True))
    def check(drawn: list[Any]) -> None:
        nonlocal offset
        column = array_of(drawn, to_arrow(kind))
        rows = pa.record_batch([column, pa.array(range(offset, offset + len(drawn)))], schema=declared_schema(table))
        store.write(name, make_batch(table, 0, [Rows(offset, 5, rows)]))
        for number, key in enumerate(column):
            assert store.latest(name, [key]).column("n").to_pylist() == [offset + number]
        offset += len(drawn)

    check()


@pytest.mark.parametrize("kind", [t.FLOAT, t.DOUBLE, t.array(t.INT)])
def test_a_key_of_floats_or_collections_is_refused(kind):
    with pytest.raises(ConfigError, match="column k is"):
        open_table(Stream("s", (Column("k", kind),)), ("k",))
