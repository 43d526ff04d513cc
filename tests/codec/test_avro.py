"""Avro payloads -> rows, held against fastavro, with every truncation and every kind of type."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import uuid
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qanat.codec.avro import decode_avro
from qanat.codec.avro_schema import canonical, fingerprint, parse_avro
from qanat.codec.base import Decoded
from qanat.errors import SchemaError
from qanat.model import types as t
from qanat.model.streams import Column
from qanat.model.types import Kind, Type

UTC = dt.UTC
ROW = Type(Kind.ROW, fields=(("a", t.INT), ("b", t.array(t.STRING))))
MAP = Type(Kind.MAP, key=t.STRING, element=t.DOUBLE)


def record(*fields: tuple[Any, ...], **more: Any) -> dict[str, Any]:
    """(name, type) or (name, type, settings) for each field."""
    made = [{"name": one[0], "type": one[1], **(one[2] if len(one) > 2 else {})} for one in fields]
    return {"type": "record", "name": "R", "fields": made, **more}


def encoded(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
    return out.getvalue()


def decoded(schema: Any, payloads: list[bytes], reader: Any = None, **columns: Type) -> Decoded:
    given_columns = [Column(name, kind) for name, kind in columns.items()]
    reads = None if reader is None else parse_avro(json.dumps(reader))
    made = decode_avro(payloads, given_columns, parse_avro(json.dumps(schema)), reads)
    made.rows.validate(full=True)
    assert made.rows.schema.names == list(columns)
    return made


#: Avro type, value, column, and what the row has.
TYPES: list[tuple[Any, Any, Type, Any]] = [
    ("boolean", True, t.BOOLEAN, True),
    ("int", -(2**31), t.INT, -(2**31)),
    ("int", 5, t.BIGINT, 5),
    ("int", 127, t.TINYINT, 127),
    ("long", 2**63 - 1, t.BIGINT, 2**63 - 1),
    ("long", -(2**63), t.BIGINT, -(2**63)),
    ("long", 7, t.DOUBLE, 7.0),
    ("long", 7, t.decimal(5, 2), decimal.Decimal("7.00")),
    ("float", 1.5, t.FLOAT, 1.5),
    ("double", -0.1, t.DOUBLE, -0.1),
    ("double", 4.0, t.INT, 4),
    ("string", "gr\u00fc\u00dfe \U0001f33e", t.STRING, "gr\u00fc\u00dfe \U0001f33e"),
    ("string", "", t.STRING, ""),
    ("string", "2026-11-21", t.DATE, dt.date(2026, 11, 21)),
    ("string", "12.50", t.decimal(6, 2), decimal.Decimal("12.50")),
    ("string", "x", t.BYTES, b"x"),
    ("bytes", b"\x00\xff", t.BYTES, b"\x00\xff"),
    ("bytes", b"abc", t.STRING, "abc"),
    ({"type": "fixed", "name": "F", "size": 20}, bytes(range(20)), t.BYTES, bytes(range(20))),
    ({"type": "fixed", "name": "F", "size": 0}, b"", t.BYTES, b""),
    ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", t.STRING, "B"),
    ({"type": "int", "logicalType": "date"}, dt.date(1969, 12, 31), t.DATE, dt.date(1969, 12, 31)),
    ({"type": "int", "logicalType": "time-millis"}, dt.time(1, 2, 3, 4000), Type(Kind.TIME), dt.time(1, 2, 3, 4000)),
    ({"type": "long", "logicalType": "time-micros"}, dt.time(1, 2, 3, 4567), Type(Kind.TIME), dt.time(1, 2, 3, 4000)),
    (
        {"type": "long", "logicalType": "timestamp-millis"},
        dt.datetime(2026, 1, 2, 3, tzinfo=UTC),
        t.TIMESTAMP_LTZ,
        dt.datetime(2026, 1, 2, 3, tzinfo=UTC),
    ),
    (
        {"type": "long", "logicalType": "timestamp-micros"},
        dt.datetime(1960, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        t.TIMESTAMP_LTZ,
        dt.datetime(1960, 1, 2, 3, 4, 5, tzinfo=UTC),
    ),
    (
        {"type": "long", "logicalType": "timestamp-millis"},
        dt.datetime(2026, 1, 2, 3, tzinfo=UTC),
        t.TIMESTAMP,
        dt.datetime(2026, 1, 2, 3),
    ),
    ({"type": "long", "logicalType": "timestamp-millis"}, dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), t.BIGINT, 1000),
    (
        {"type": "long", "logicalType": "local-timestamp-micros"},
        dt.datetime(2026, 1, 2, 3),
        Type(Kind.TIMESTAMP, precision=6),
        dt.datetime(2026, 1, 2, 3),
    ),
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2},
        decimal.Decimal("-12.34"),
        t.decimal(12, 3),
        decimal.Decimal("-12.340"),
    ),
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0},
        decimal.Decimal(10**37),
        t.decimal(38, 0),
        decimal.Decimal(10**37),
    ),
    (
        {"type": "fixed", "name": "F", "size": 6, "logicalType": "decimal", "precision": 9, "scale": 1},
        decimal.Decimal("0.1"),
        t.decimal(9, 1),
        decimal.Decimal("0.1"),
    ),
    ({"type": "string", "logicalType": "uuid"}, uuid.UUID(int=7), t.STRING, str(uuid.UUID(int=7))),
    ("null", None, t.INT, None),
    (["null", "int"], None, t.INT, None),
    (["int", "null"], 3, t.INT, 3),
    (["null", "int", "double"], 3, t.DOUBLE, 3.0),
    (["string", "long"], 12, t.STRING, "12"),
    (
        ["null", record(("x", "int")) | {"name": "I"}],
        {"x": 1},
        Type(Kind.ROW, fields=(("x", t.INT), ("y", t.INT))),
        {"x": 1, "y": None},
    ),
    ({"type": "array", "items": "long"}, [1, -2, 3], t.array(t.INT), [1, -2, 3]),
    ({"type": "array", "items": ["null", "string"]}, ["a", None], t.array(t.STRING), ["a", None]),
    ({"type": "array", "items": "double"}, [0.5] * 300, t.array(t.DOUBLE), [0.5] * 300),
    (
        {"type": "array", "items": {"type": "array", "items": "int"}},
        [[1], [], [2, 3]],
        t.array(t.array(t.INT)),
        [[1], [], [2, 3]],
    ),
    ({"type": "map", "values": "double"}, {"k": 1.0, "l": 2.0}, MAP, [("k", 1.0), ("l", 2.0)]),
    ({"type": "map", "values": "double"}, {}, MAP, []),
]


@pytest.mark.parametrize(("kind", "value", "column", "expected"), TYPES, ids=lambda one: None)
def test_every_type_and_every_truncation_of_it(kind: Any, value: Any, column: Type, expected: Any) -> None:
    schema = record(("id", "int"), ("v", kind), ("end", "string"))
    payload = encoded(schema, {"id": 1, "v": value, "end": "!"})
    cut = [payload[:size] for size in range(len(payload))]
    made = decoded(schema, [payload, *cut, payload + b"x", payload], id=t.INT, v=column, end=t.STRING)
    row = {"id": 1, "v": expected, "end": "!"}
    assert made.rows.to_pylist() == [row, row]
    assert made.index.tolist() == [0, len(cut) + 2]
    assert [bad.index for bad in made.bad] == list(range(1, len(cut) + 2))
    assert made.bad[-1].reason == "1 bytes are left over"
    assert all(bad.reason for bad in made.bad)


#: Type, value, column, why it does not fit.
MISFITS: list[tuple[Any, Any, Type, str]] = [
    ("int", 128, t.TINYINT, "column v: expected TINYINT, found number 128"),
    ("double", 1.5, t.INT, "column v: expected INT, found number 1.5"),
    ("double", 1e300, t.FLOAT, "column v: expected FLOAT, found number 1e+300"),
    ("string", "x", t.INT, "column v: expected INT, found string"),
    ("string", "tomorrow", t.DATE, 'column v: expected DATE, found string "tomorrow"'),
    ("long", 5, t.TIMESTAMP_LTZ, "column v: expected TIMESTAMP_LTZ(3), found int64"),
    (["null", "int"], None, t.INT.with_nullable(False), "column v: expected INT NOT NULL, found null"),
    (
        {"type": "array", "items": "int"},
        [1, 2, 300],
        t.array(t.TINYINT),
        "column v[2]: expected TINYINT, found number 300",
    ),
    (
        {"type": "map", "values": "int"},
        {"k": 300},
        Type(Kind.MAP, key=t.STRING, element=t.TINYINT),
        "column v[0]: expected TINYINT, found number 300",
    ),
    (record(("a", "string")) | {"name": "I"}, {"a": "x"}, ROW, "column v.a: expected INT, found string"),
    ("bytes", b"\xff", t.STRING, "column v: expected STRING, found b'\\xff'"),
]


@pytest.mark.parametrize(("kind", "value", "column", "reason"), MISFITS, ids=lambda one: None)
def test_what_does_not_fit_its_column_says_which_and_why(kind: Any, value: Any, column: Type, reason: str) -> None:
    made = decoded(record(("v", kind)), [encoded(record(("v", kind)), {"v": value})], v=column)
    assert [bad.reason for bad in made.bad] == [reason]
    assert made.rows.num_rows == 0


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("boolean", b"\x02", "a boolean that is neither 0 nor 1"),
        ("int", b"\x80\x80\x80\x80\x10", "an int of more than 32 bits"),
        ("long", b"\xff" * 11, "a number of more than 64 bits"),
        ("string", b"\x02\xff", "a string that is not UTF-8"),
        ("string", b"\x03", "it ends too soon"),
        (["null", "int"], b"\x04", "a branch that [null, int] does not have"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02", "a symbol that E does not have"),
        ({"type": "array", "items": "null"}, b"\xfe\xff\xff\xff\x0f", "an array with more items than bytes"),
        ({"type": "array", "items": "int"}, b"\xfe\xff\xff\xff\x0f", "an array with more items than bytes"),
    ],
)
def test_what_is_not_avro(kind: Any, body: bytes, reason: str) -> None:
    good = b"" if kind == "null" else None
    made = decoded(record(("v", kind)), [body], v=t.STRING)
    assert [bad.reason for bad in made.bad] == [reason]
    assert good is None


def test_aliases_and_defaults_of_the_contract_hold() -> None:
    writer = record(("watts", "int"), ("extra", "string"))
    reader = record(
        ("consumption", "double", {"aliases": ["watts"]}),
        ("unit", "string", {"default": "W"}),
        ("phase", ["null", "int"], {"default": None}),
        ("tags", {"type": "array", "items": "string"}, {"default": ["x"]}),
        ("cost", {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, {"default": "\u0001\u0000"}),
    )
    made = decoded(
        writer,
        [encoded(writer, {"watts": 5, "extra": "?"})],
        reader,
        consumption=t.DOUBLE,
        unit=t.STRING,
        phase=t.INT,
        tags=t.array(t.STRING),
        cost=t.decimal(4, 2),
        extra=t.STRING,
    )
    expected = {
        "consumption": 5.0,
        "unit": "W",
        "phase": None,
        "tags": ["x"],
        "cost": decimal.Decimal("2.56"),
        "extra": "?",
    }
    assert made.rows.to_pylist() == [expected]


def test_blocks_of_an_array_may_say_their_size() -> None:
    """Two items in five bytes (a negative count and a size), one item as a block of its own, the end."""
    schema = record(("v", {"type": "array", "items": "int"}), ("end", "int"))
    payload = b"\x03\x04\x02\x04" + b"\x02\x06" + b"\x00" + b"\x0e"
    made = decoded(schema, [payload, b"\x00\x0e"], v=t.array(t.INT), end=t.INT)
    assert made.rows.to_pylist() == [{"v": [1, 2, 3], "end": 7}, {"v": [], "end": 7}]


def test_a_record_inside_itself_is_passed_over() -> None:
    schema = record(("id", "int"), ("next", ["null", "R"]))
    payload = encoded(schema, {"id": 1, "next": {"id": 2, "next": {"id": 3, "next": None}}})
    assert decoded(schema, [payload], id=t.INT).rows.to_pylist() == [{"id": 1}]
    assert decoded(schema, [b"\x00\x02" * 5000], id=t.INT).bad[0].reason == "it is nested too deeply"


def test_a_schema_that_is_no_record_reads_nothing() -> None:
    assert decoded("int", [b"\x02"], v=t.INT).bad[0].reason == "its schema is int, not a record"


PAYLOADS = st.fixed_dictionaries(
    {
        "s": st.text(max_size=5),
        "n": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "d": st.floats(allow_nan=False),
        "a": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        "m": st.dictionaries(st.text(max_size=2), st.text(max_size=3), max_size=3),
        "r": st.one_of(st.none(), st.fixed_dictionaries({"x": st.booleans(), "y": st.binary(max_size=4)})),
    }
)
SCHEMA = record(
    ("s", "string"),
    ("n", ["null", "long"]),
    ("d", "double"),
    ("a", {"type": "array", "items": "int"}),
    ("m", {"type": "map", "values": "string"}),
    (
        "r",
        [
            "null",
            {
                "type": "record",
                "name": "I",
                "fields": [{"name": "x", "type": "boolean"}, {"name": "y", "type": "bytes"}],
            },
        ],
    ),
)
COLUMNS = {
    "s": t.STRING,
    "n": t.BIGINT,
    "d": t.DOUBLE,
    "a": t.array(t.INT),
    "m": Type(Kind.MAP, key=t.STRING, element=t.STRING),
    "r": Type(Kind.ROW, fields=(("x", t.BOOLEAN), ("y", t.BYTES))),
}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PAYLOADS, max_size=8))
def test_what_fastavro_writes_comes_out_again(values: list[dict[str, Any]]) -> None:
    made = decoded(SCHEMA, [encoded(SCHEMA, one) for one in values], **COLUMNS)
    assert made.bad == ()
    assert made.rows.to_pylist() == [{**one, "m": list(one["m"].items())} for one in values]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), PAYLOADS)
def test_any_bytes_are_rows_or_bad_rows_and_do_not_disturb_their_neighbours(noise: list[bytes], value: Any) -> None:
    good = encoded(SCHEMA, value)
    made = decoded(SCHEMA, [*noise, good, *noise], **COLUMNS)
    assert len(noise) in made.index.tolist()
    assert sorted([*made.index.tolist(), *(bad.index for bad in made.bad)]) == list(range(2 * len(noise) + 1))
    assert made.rows.to_pylist()[made.index.tolist().index(len(noise))]["s"] == value["s"]


def test_canonical_form_and_fingerprint_are_those_of_fastavro() -> None:
    raw = {**SCHEMA, "namespace": "farm", "doc": "x"}
    theirs = fastavro.schema.to_parsing_canonical_form(raw)
    tree = parse_avro(json.dumps(raw))
    assert canonical(tree) == theirs
    assert fingerprint(tree).hex() == fastavro.schema.fingerprint(theirs, "CRC-64-AVRO")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "this is not JSON"),
        ('{"type": "record", "name": "R"}', "the record R has no list of fields"),
        ('{"type": "record", "name": "R", "fields": [{"name": "a", "type": "watt"}]}', r"\$.a: no type 'watt'"),
        ('{"type": "record", "name": "1R", "fields": []}', "'1R' is no name"),
        ('["int", "int"]', "the union holds int twice"),
        ('["int", ["null"]]', "a union may not hold a union"),
        ('{"type": "enum", "name": "E", "symbols": ["A", "A"]}', "must be different names"),
        ('{"type": "fixed", "name": "F"}', "needs a size"),
        (json.dumps(record(("a", "int", {"default": "x"}))), 'the default "x" is not of type int'),
        (json.dumps(record(("a", "int"), ("a", "int"))), "the field a stands in R twice"),
        ("7", "a type is a name"),
    ],
)
def test_what_is_no_avro_schema_is_refused_with_the_place(text: str, said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        parse_avro(text)
