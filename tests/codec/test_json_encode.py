"""Rows -> JSON lines: what Flink writes, and back."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.codec.json import decode_lines, encode_lines
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import Column
from qanat.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    STRING,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    Kind,
    Type,
    array,
    decimal,
)

UTC = dt.UTC
AT = dt.datetime(2026, 1, 1)
ROW = Type(Kind.ROW, fields=(("a", BIGINT), ("b", array(STRING))))
MAP = Type(Kind.MAP, key=STRING, element=DOUBLE)

TEXTS = [
    ("a", STRING, '"a"'),
    ('"\\\x00\n/ü\u2028😀', STRING, '"\\"\\\\\\u0000\\n/ü\u2028😀"'),
    (-5, BIGINT, "-5"),
    (True, BOOLEAN, "true"),
    (0.1, DOUBLE, "0.1"),
    (5.0, DOUBLE, "5.0"),
    (math.nan, DOUBLE, '"NaN"'),
    (-math.inf, DOUBLE, '"-Infinity"'),
    (math.inf, FLOAT, '"Infinity"'),
    (AT, TIMESTAMP, '"2026-01-01 00:00:00"'),
    (AT.replace(microsecond=120000), TIMESTAMP, '"2026-01-01 00:00:00.12"'),
    (AT.replace(second=10), TIMESTAMP, '"2026-01-01 00:00:10"'),
    (AT.replace(tzinfo=UTC), TIMESTAMP_LTZ, '"2026-01-01 00:00:00Z"'),
    (AT.replace(microsecond=1), Type(Kind.TIMESTAMP, precision=6), '"2026-01-01 00:00:00.000001"'),
    (dt.date(2026, 1, 31), DATE, '"2026-01-31"'),
    (dt.time(1, 2, 3), Type(Kind.TIME), '"01:02:03"'),
    (dt.time(1, 2, 10, 500000), Type(Kind.TIME), '"01:02:10.5"'),
    (Decimal("1.10"), decimal(10, 2), "1.10"),
    (Decimal("-12345678901234567890.123456789"), decimal(38, 9), "-12345678901234567890.123456789"),
    (b"hi", BYTES, '"aGk="'),
    ([1.0, None, math.nan], array(DOUBLE), '[1.0,null,"NaN"]'),
    ([[True, False], None, []], array(array(BOOLEAN)), "[[true,false],null,[]]"),
    ([AT], array(TIMESTAMP), '["2026-01-01 00:00:00"]'),
    (['"', None], array(STRING), '["\\"",null]'),
    ({"a": None, "b": ["x"]}, ROW, '{"a":null,"b":["x"]}'),
    ([("k", 1.0), ("l", None)], MAP, '{"k":1.0,"l":null}'),
    ([("k", 1.0)], Type(Kind.MAP, key=STRING, element=array(BIGINT)), None),
]


def batch(values: list[object], kind: Type, name: str = "v") -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, to_arrow(kind))], schema=schema_of([(name, kind)]))


@pytest.mark.parametrize(("value", "kind", "text"), TEXTS[:-1])
def test_values_as_flink_writes_them(value: object, kind: Type, text: str) -> None:
    lines = encode_lines(batch([value, None], kind)).decode()
    assert lines == f'{{"v":{text}}}\n{{"v":null}}\n'
    assert encode_lines(batch([value], kind)).decode() == f'{{"v":{text}}}\n'


def test_iso_8601() -> None:
    times = batch([AT.replace(microsecond=5000), None], TIMESTAMP_LTZ)
    assert encode_lines(times, "ISO-8601") == b'{"v":"2026-01-01T00:00:00.005Z"}\n{"v":null}\n'
    nested = batch([[AT]], array(TIMESTAMP))
    assert encode_lines(nested, "ISO-8601") == b'{"v":["2026-01-01T00:00:00"]}\n'


def test_names_are_escaped_and_may_repeat() -> None:
    rows = pa.RecordBatch.from_arrays([pa.array([1]), pa.array(["x"])], names=['a"ü', 'a"ü'])
    assert encode_lines(rows).decode() == '{"a\\"ü":1,"a\\"ü":"x"}\n'


@pytest.mark.parametrize("rows", [pa.table({}), pa.table({"a": pa.array([], pa.int64())})])
def test_no_rows(rows: pa.Table) -> None:
    assert encode_lines(rows) == b""


def test_arrow_types_that_polars_and_sources_bring() -> None:
    frame = pl.DataFrame({"s": ["a", None], "l": [[1.5], None], "c": pl.Series(["x", "y"], dtype=pl.Categorical)})
    expected = b'{"s":"a","l":[1.5],"c":"x"}\n{"s":null,"l":null,"c":"y"}\n'
    for table in (frame.to_arrow(), frame.to_arrow(compat_level=pl.CompatLevel.oldest())):
        assert encode_lines(table) == expected
        assert encode_lines(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == expected
    assert encode_lines(pa.table({"n": pa.nulls(1), "f": pa.array([[1, 2]], pa.list_(pa.int8(), 2))})) == (
        b'{"n":null,"f":[1,2]}\n'
    )
    assert encode_lines(pa.table({"d": pa.array([1500], pa.duration("ms"))})) == b'{"d":1500}\n'


def test_slices_give_their_own_rows() -> None:
    table = pa.table({"n": list(range(50_000)), "s": [f"ü{number}" for number in range(50_000)]})
    assert encode_lines(table.slice(40_000, 3)).decode().splitlines() == [
        f'{{"n":{number},"s":"ü{number}"}}' for number in range(40_000, 40_003)
    ]
    lines = encode_lines(table).decode().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(50_000))


MILLIS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
)
KINDS: dict[Type, st.SearchStrategy[object]] = {
    STRING: st.text(),
    BIGINT: st.integers(-(2**63), 2**63 - 1),
    DOUBLE: st.floats(),
    FLOAT: st.floats(width=32),
    BOOLEAN: st.booleans(),
    TIMESTAMP: MILLIS,
    TIMESTAMP_LTZ: MILLIS.map(lambda at: at.replace(tzinfo=UTC)),
    DATE: st.dates(),
    Type(Kind.TIME): st.times().map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)),
    decimal(20, 5): st.decimals(-(10**14), 10**14, places=5),
    BYTES: st.binary(),
    array(DOUBLE): st.lists(st.none() | st.floats()),
    array(array(BOOLEAN)): st.lists(st.none() | st.lists(st.none() | st.booleans())),
    ROW: st.fixed_dictionaries({"a": st.none() | st.integers(-9, 9), "b": st.none() | st.lists(st.text(max_size=2))}),
    MAP: st.dictionaries(st.text(max_size=3), st.none() | st.floats()).map(lambda one: list(one.items())),
}


@settings(max_examples=200, deadline=None)
@given(st.data(), st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4), st.sampled_from(["SQL", "ISO-8601"]))
def test_round_trip(data: st.DataObject, kinds: list[Type], timestamps: str) -> None:
    columns = [Column(f"c{place}", kind) for place, kind in enumerate(kinds)]
    count = data.draw(st.integers(1, 4))
    values = [data.draw(st.lists(st.none() | KINDS[kind], min_size=count, max_size=count)) for kind in kinds]
    arrays = [pa.array(one, to_arrow(kind)) for one, kind in zip(values, kinds, strict=True)]
    rows = pa.RecordBatch.from_arrays(arrays, schema=schema_of((one.name, one.type) for one in columns))
    lines = encode_lines(rows, "SQL" if timestamps == "SQL" else "ISO-8601")
    back = decode_lines(lines, columns)
    assert not back.bad
    assert repr(back.rows.to_pylist()) == repr(rows.to_pylist())
