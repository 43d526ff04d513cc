"""CBOR to rows: the values of each type, what is refused and why, every truncated prefix."""

from __future__ import annotations

import datetime as dt
import decimal
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat.codec.cbor import decode_payloads, decoder_at
from qanat.model.streams import Column
from qanat.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    STRING,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    TINYINT,
    Kind,
    Type,
    array,
)
from qanat.model.types import decimal as decimal_type

COLUMNS = (Column("id", STRING), Column("value", DOUBLE), Column("count", BIGINT), Column("raw", BYTES))


def one(value: object, kind: Type) -> Any:
    """What a column of the type holds of a value; the reason where it does not fit."""
    decoded = decode_payloads([cbor2.dumps({"c": value})], [Column("c", kind)])
    return decoded.bad[0].reason if decoded.bad else decoded.rows.to_pylist()[0]["c"]


NOON = dt.datetime(2026, 11, 21, 12, 0, 0, 250_000, dt.UTC)


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        ("a", STRING, "a"),
        (1, BIGINT, 1),
        (-(2**63), BIGINT, -(2**63)),
        (3.0, BIGINT, 3),
        (1, DOUBLE, 1.0),
        (1.5, FLOAT, 1.5),
        (float("inf"), FLOAT, float("inf")),
        (float("inf"), DOUBLE, float("inf")),
        (True, BOOLEAN, True),
        (None, DOUBLE, None),
        (cbor2.undefined, DOUBLE, None),
        (b"\xff\0", BYTES, b"\xff\0"),
        (NOON, TIMESTAMP_LTZ, NOON),
        (NOON, TIMESTAMP, NOON.replace(tzinfo=None)),
        (dt.date(2026, 11, 21), DATE, dt.date(2026, 11, 21)),
        (decimal.Decimal("1.25"), decimal_type(5, 2), decimal.Decimal("1.25")),
        (2**80, decimal_type(38, 0), decimal.Decimal(2**80)),
        (decimal.Decimal("1.25"), DOUBLE, 1.25),
        ([1, None], array(INT), [1, None]),
        ({"a": 1}, Type(Kind.MAP, key=STRING, element=INT), [("a", 1)]),
        ({7: "x"}, Type(Kind.MAP, key=INT, element=STRING), [(7, "x")]),
        ({"x": b"1", "y": 2}, Type(Kind.ROW, fields=(("x", BYTES),)), {"x": b"1"}),
    ],
)
def test_a_value_becomes_what_its_column_holds(value: object, kind: Type, wanted: object) -> None:
    assert one(value, kind) == wanted


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        ("1", BIGINT, 'column c: expected BIGINT, found string "1"'),
        (1.5, BIGINT, "column c: expected BIGINT, found number 1.5"),
        (300, TINYINT, "column c: expected TINYINT (out of range), found number 300"),
        (2**64, BIGINT, "column c: expected BIGINT, found number 18446744073709551616"),
        (2**2000, DOUBLE, "column c: expected DOUBLE (too many digits), found a number"),
        (decimal.Decimal("1e999999"), BIGINT, "column c: expected BIGINT (too many digits), found a number"),
        (b"x", STRING, "column c: expected STRING, found a byte string"),
        (b"x", array(INT), "column c: expected ARRAY<INT>, found a byte string"),
        (NOON, BIGINT, "column c: expected BIGINT, found a time"),
        (cbor2.CBORTag(999, 1), BIGINT, "column c: expected BIGINT, found a tagged value"),
        ({"a": 1}, STRING, "column c: expected STRING, found a map"),
        ({1.5: 1}, Type(Kind.MAP, key=INT, element=INT), "column c: expected a text or a whole number as key"),
        (None, INT.with_nullable(False), "column c: expected INT NOT NULL, found null"),
    ],
)
def test_a_value_that_does_not_fit_is_a_reason_and_never_null(value: object, kind: Type, reason: str) -> None:
    assert one(value, kind).startswith(reason)


def test_rows_and_arrays_of_rows_keep_their_payload() -> None:
    payloads = [cbor2.dumps(value) for value in ({"id": "a"}, [{"id": "b"}, {"id": "c", "more": 1}], [])]
    decoded = decode_payloads(payloads, COLUMNS)
    assert [row["id"] for row in decoded.rows.to_pylist()] == ["a", "b", "c"]
    assert decoded.index.tolist() == [0, 1, 1]
    assert decoded.bad == ()


def test_a_payload_is_taken_whole_or_not_at_all() -> None:
    payloads = [cbor2.dumps([{"id": "a"}, {"id": 1}, {"id": "c"}]), cbor2.dumps({"id": "d"})]
    decoded = decode_payloads(payloads, COLUMNS)
    assert [row["id"] for row in decoded.rows.to_pylist()] == ["d"]
    assert decoded.index.tolist() == [1]
    assert [(bad.index, bad.data) for bad in decoded.bad] == [(0, payloads[0])]


def test_rows_may_lie_deeper() -> None:
    decode = decoder_at(["data", "rows"])
    payloads = [cbor2.dumps(value) for value in ({"data": {"rows": [{"id": "a"}]}}, {"data": {}}, {"data": 1}, [1])]
    decoded = decode(payloads, COLUMNS)
    assert [row["id"] for row in decoded.rows.to_pylist()] == ["a"]
    assert [bad.reason for bad in decoded.bad] == [
        "nothing lies at data.rows",
        "nothing lies at data.rows",
        "nothing lies at data",
    ]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not CBOR: empty"),
        (b"\xa1", "not CBOR: it ends too early"),
        (b"\x9b" + b"\xff" * 8, "not CBOR"),
        (b"\x5b\x7f" + b"\xff" * 7, "not CBOR"),
        (b"\x81" * 10_000, "not CBOR: maximum container nesting depth"),
        (b"\xd8\x1c\x81\xd8\x1d\x00", "not CBOR: error decoding semantic tag"),
        (b"\xd8\x23\x61(", "not CBOR: error decoding semantic tag 35"),
        (b"\xa0\x00", "not CBOR: 1 bytes follow its value"),
        (b"\x61\xff", "not CBOR"),
        (b"\xff", "not CBOR"),
        (b"\x03", "expected a CBOR map or an array of them, found number 3"),
        (b"\x82\xa0\x01", "expected a CBOR map or an array of them, found number 1 at [1]"),
        (b"\xc1" + b"\xfb" + struct.pack(">d", 1e300), "not CBOR"),
    ],
)
def test_what_is_no_row_is_refused_with_its_reason(payload: bytes, reason: str) -> None:
    decoded = decode_payloads([payload], COLUMNS)
    assert decoded.rows.num_rows == 0
    assert decoded.bad[0].reason.startswith(reason)
    assert decoded.bad[0].data == payload


ROWS: st.SearchStrategy[Mapping[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "id": st.none() | st.text(),
        "value": st.none() | st.floats(allow_nan=False) | st.integers(-(2**53), 2**53),
        "count": st.none() | st.integers(-(2**63), 2**63 - 1),
        "raw": st.none() | st.binary(),
        "more": st.recursive(st.integers() | st.text() | st.binary(), lambda inner: st.lists(inner, max_size=3)),
    },
)


@given(st.lists(ROWS | st.lists(ROWS, max_size=3), max_size=5))
def test_what_is_written_comes_back(values: Sequence[Any]) -> None:
    decoded = decode_payloads([cbor2.dumps(value) for value in values], COLUMNS)
    assert decoded.bad == ()
    rows = [row for value in values for row in (value if isinstance(value, list) else [value])]
    assert decoded.rows.to_pylist() == [{column.name: row.get(column.name) for column in COLUMNS} for row in rows]


@given(ROWS | st.lists(ROWS, max_size=3))
def test_every_truncated_prefix_is_a_bad_row(value: Any) -> None:
    whole = cbor2.dumps(value)
    decoded = decode_payloads([whole[:end] for end in range(len(whole))], COLUMNS)
    assert decoded.rows.num_rows == 0
    assert [bad.index for bad in decoded.bad] == list(range(len(whole)))


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_break_it(payloads: list[bytes]) -> None:
    decoded = decode_payloads(payloads, COLUMNS)
    assert {*decoded.index.tolist(), *(bad.index for bad in decoded.bad)} <= set(range(len(payloads)))
    assert not set(decoded.index.tolist()) & {bad.index for bad in decoded.bad}
