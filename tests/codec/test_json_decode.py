"""JSON -> rows: every rule, every refusal with its reason, and both paths alike."""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qanat.codec.base import Decoded, split_lines
from qanat.codec.json import decode_lines, decode_payloads
from qanat.codec.json_bulk import bulk_schema, read_rows
from qanat.codec.json_flat import read_flat
from qanat.codec.json_rows import decode_documents
from qanat.model.arrow import schema_of
from qanat.model.streams import Column
from qanat.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    SMALLINT,
    STRING,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    TINYINT,
    Kind,
    Type,
    array,
    decimal,
)

TIME = Type(Kind.TIME)
ROW = Type(Kind.ROW, fields=(("a", BIGINT), ("b", STRING)))
MAP = Type(Kind.MAP, key=STRING, element=DOUBLE)
READING = (Column("client_id", STRING), Column("timestamp", BIGINT), Column("consumption", DOUBLE))
UTC = dt.UTC


def one(text: str | bytes, kind: Type) -> object:
    """The value that the one column `v` gets; a refusal gives its reason."""
    payload = text if isinstance(text, bytes) else text.encode()
    decoded = decode_payloads([payload], [Column("v", kind)])
    assert decoded.rows.num_rows + len(decoded.bad) == 1
    return decoded.bad[0].reason if decoded.bad else decoded.rows.column(0).to_pylist()[0]


GOOD = [
    ('"a"', STRING, "a"),
    ('"ü\\u0000\\n"', STRING, "ü\x00\n"),
    ("5", BIGINT, 5),
    ("3.0", BIGINT, 3),
    ("1e2", INT, 100),
    ("-128", TINYINT, -128),
    ("9223372036854775807", BIGINT, 2**63 - 1),
    ("5", DOUBLE, 5.0),
    ("-0.0", DOUBLE, -0.0),
    ("123456789012345678901234567890", DOUBLE, 123456789012345678901234567890.0),
    ('"NaN"', DOUBLE, math.nan),
    ('"-Infinity"', FLOAT, -math.inf),
    ("0.1", FLOAT, float(np.float32(0.1))),
    ("true", BOOLEAN, True),
    ("null", BOOLEAN, None),
    ('"2026-01-01 00:00:00"', TIMESTAMP, dt.datetime(2026, 1, 1)),
    ('"2026-01-01T00:00:00.5"', TIMESTAMP, dt.datetime(2026, 1, 1, 0, 0, 0, 500000)),
    ('"2026-01-01 00:00:00.123999999"', TIMESTAMP, dt.datetime(2026, 1, 1, 0, 0, 0, 123000)),
    ('"1969-12-31 23:59:59.9999"', TIMESTAMP, dt.datetime(1969, 12, 31, 23, 59, 59, 999000)),
    ('"2026-01-01 00:00:00Z"', TIMESTAMP_LTZ, dt.datetime(2026, 1, 1, tzinfo=UTC)),
    ('"2026-01-01T00:00:00.25+02:00"', TIMESTAMP_LTZ, dt.datetime(2025, 12, 31, 22, 0, 0, 250000, tzinfo=UTC)),
    ('"2026-01-31"', DATE, dt.date(2026, 1, 31)),
    ('"23:59:59.5"', TIME, dt.time(23, 59, 59, 500000)),
    ("1.25", decimal(10, 2), Decimal("1.25")),
    ('"1.255"', decimal(10, 2), Decimal("1.26")),
    ("12345678901234567890.123456789", decimal(38, 9), Decimal("12345678901234567890.123456789")),
    ('"aGk="', BYTES, b"hi"),
    ("[1, 2.5, null]", array(DOUBLE), [1.0, 2.5, None]),
    ("[[true], null, []]", array(array(BOOLEAN)), [[True], None, []]),
    ('{"a": 1, "x": 2}', ROW, {"a": 1, "b": None}),
    ('{"k": 1, "l": null}', MAP, [("k", 1.0), ("l", None)]),
    ('[{"a": 3.0}]', array(ROW), [{"a": 3, "b": None}]),
    ('["2026-01-01 00:00:00"]', array(TIMESTAMP), [dt.datetime(2026, 1, 1)]),
]

BAD = [
    ('"12,5"', DOUBLE, 'column v: expected DOUBLE, found string "12,5"'),
    ('"5"', BIGINT, 'column v: expected BIGINT, found string "5"'),
    ("3.5", BIGINT, "column v: expected BIGINT, found number 3.5"),
    ("9223372036854775808", BIGINT, "column v: expected BIGINT (out of range), found number 9223372036854775808"),
    ("9007199254740993.0", BIGINT, "column v: expected BIGINT, found number 9007199254740992.0"),
    ("300", TINYINT, "column v: expected TINYINT (out of range), found number 300"),
    ("40000", SMALLINT, "column v: expected SMALLINT (out of range), found number 40000"),
    ("true", BIGINT, "column v: expected BIGINT, found boolean true"),
    ("1e39", FLOAT, "column v: expected FLOAT (out of range), found number 1e+39"),
    ("5", STRING, "column v: expected STRING, found number 5"),
    ("1", BOOLEAN, "column v: expected BOOLEAN, found number 1"),
    ("[1]", BIGINT, "column v: expected BIGINT, found an array"),
    ("{}", STRING, "column v: expected STRING, found an object"),
    ("null", BIGINT.with_nullable(False), "column v: expected BIGINT NOT NULL, found null"),
    ('"2026-02-30 00:00:00"', TIMESTAMP, "day is out of range"),
    ('"2026-01-01"', TIMESTAMP, "written as yyyy-MM-dd HH:mm:ss"),
    ('"2026-01-01 00:00"', TIMESTAMP, "written as yyyy-MM-dd HH:mm:ss"),
    ('"2026-01-01 24:00:00"', TIMESTAMP, "written as yyyy-MM-dd HH:mm:ss"),
    ('"2026-01-01 00:00:00Z"', TIMESTAMP, "written as yyyy-MM-dd HH:mm:ss"),
    ('"2026-01-01 00:00:00"', TIMESTAMP_LTZ, "and Z or an offset such as +02:00"),
    ("1767225600", TIMESTAMP, "found number 1767225600"),
    ('"31.01.2026"', DATE, 'expected DATE (written as yyyy-MM-dd), found string "31.01.2026"'),
    ('"1:02:03"', TIME, "HH:mm:ss"),
    ("123456789.5", decimal(10, 2), "too many digits"),
    ('"ten"', decimal(10, 2), 'found string "ten"'),
    ('"aGk"', BYTES, "base64"),
    ('[1, "a"]', array(DOUBLE), 'column v[1]: expected DOUBLE, found string "a"'),
    ('{"a": "x"}', ROW, 'column v.a: expected BIGINT, found string "x"'),
    ('{"k": "x"}', MAP, 'column v[k]: expected DOUBLE, found string "x"'),
    ("[1]", ROW, "found an array"),
]

NOT_JSON = [
    b"",
    b"  ",
    b"nope",
    b"null",
    b"5",
    b'"a"',
    b"[1]",
    b'{"v": 1',
    b'{"v": 1}}',
    b'{"v": 1} {"v": 2}',
    b'{"v": 1}{"v": 2}',
    b'{"v": 1} null',
    b'{"v": 1,}',
    b'{"v": NaN}',
    b'{"v": Infinity}',
    b'{"v": -Inf}',
    b'{"v": 01}',
    b'{"v": 1e999}',
    b'{"x": "\xff", "v": 1}',
    b'{"\xff": 1}',
    b'{"x": "\\ud800", "v": 1}',
    b'{"x": "a\nb", "v": 1}',
    b"\xef\xbb\xbf{}",
    b"{'v': 1}",
    b'{"x": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"x": ' + b'{"x":' * 3000 + b"1" + b"}" * 3001,
]


@pytest.mark.parametrize(("text", "kind", "value"), GOOD)
def test_values_that_fit(text: str, kind: Type, value: object) -> None:
    found = one(f'{{"v": {text}}}', kind)
    assert found == value or (found != found and value != value)
    assert isinstance(value, dt.datetime) or repr(found) == repr(value)


@pytest.mark.parametrize(("text", "kind", "reason"), BAD)
def test_values_that_do_not_fit(text: str, kind: Type, reason: str) -> None:
    found = one(f'{{"v": {text}}}', kind)
    assert isinstance(found, str)
    assert reason in found
    assert "\n" not in found


@pytest.mark.parametrize("payload", NOT_JSON)
def test_payloads_that_are_not_one_object(payload: bytes) -> None:
    decoded = decode_payloads([payload], [Column("v", BIGINT)])
    assert decoded.rows.num_rows == 0
    assert [bad.index for bad in decoded.bad] == [0]
    assert decoded.bad[0].data == payload
    assert decoded.bad[0].reason


@pytest.mark.parametrize("payload", [*NOT_JSON, b'{"x": NaN}', b'{"x": [-Infinity]}', b'{"x": {"NaN":-Inf}}'])
def test_what_is_not_json_is_so_on_either_path(payload: bytes) -> None:
    """Even where Arrow's parser would take it: NaN for a DOUBLE, say, or in a field that nobody asked for."""
    for payloads in ([payload], [b'{"v": 1.5}'] * 600 + [payload], [payload] + [b'{"v": 1.5}'] * 600):
        decoded = decode_payloads(payloads, [Column("v", DOUBLE)])
        assert [bad.data for bad in decoded.bad] == [payload]
        assert decoded.rows.num_rows == len(payloads) - 1


@pytest.mark.parametrize("text", ["1e39", "3.4028235677973366e38", "-3.5e38"])
def test_beyond_float_on_either_path(text: str) -> None:
    decoded = decode_payloads([b'{"v": 1}'] * 600 + [f'{{"v": {text}}}'.encode()], [Column("v", FLOAT)])
    assert [bad.index for bad in decoded.bad] == [600]


@pytest.mark.parametrize("text", ["-0", "-0.0", "0", "-0e1"])
def test_zeros_have_the_same_sign_on_either_path(text: str) -> None:
    payload = f'{{"v": {text}}}'.encode()
    few, many = (decode_payloads([payload] * count, [Column("v", DOUBLE)]).rows for count in (1, 600))
    assert set(map(repr, many.column(0).to_pylist())) == {repr(few.column(0)[0].as_py())}


def test_payloads_over_several_lines_are_one_row_each() -> None:
    payload = b'{\n  "v":\n  1\n}'
    decoded = decode_payloads([payload] * 600 + [b'{"v": 1}\n{"v": 2}', b'{"v": "\n"}'], [Column("v", BIGINT)])
    assert decoded.rows.num_rows == 600
    assert [bad.index for bad in decoded.bad] == [600, 601]


@pytest.mark.parametrize("payload", NOT_JSON)
@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_bad_payload_among_many_costs_only_itself(payload: bytes, place: int) -> None:
    payloads = [b'{"v": %d}' % number for number in range(1000)]
    payloads[place] = payload
    decoded = decode_payloads(payloads, [Column("v", BIGINT)])
    assert [(bad.index, bad.data) for bad in decoded.bad] == [(place, payload)]
    assert decoded.rows.column(0).to_pylist() == [number for number in range(1000) if number != place]
    assert decoded.index.tolist() == [number for number in range(1000) if number != place]


@pytest.mark.parametrize(("text", "kind"), [(text, kind) for text, kind, _ in [*GOOD, *BAD]])
def test_both_paths_agree_on_every_example(text: str, kind: Type) -> None:
    assert_paths_agree([f'{{"v": {text}}}'.encode()] * 3, [Column("v", kind)])


def assert_paths_agree(payloads: list[bytes], columns: list[Column]) -> None:
    """Where a quick path takes a block, it is what the exact path makes of it."""
    rows, numbers = split_lines(b"\n".join(payloads))
    schema = bulk_schema(columns)
    if schema is None or not len(rows):
        return
    for quick in (read_rows(rows, columns, schema), read_flat(rows, columns)):
        if quick is not None:
            exact = decode_documents(rows.documents(), numbers.tolist(), columns, arrays=False)
            assert not exact.bad
            assert repr(quick.to_pylist()) == repr(exact.rows.to_pylist())
            assert quick.schema == exact.rows.schema


def test_the_bulk_path_takes_what_is_plain() -> None:
    kinds = [STRING, BIGINT, DOUBLE, FLOAT, BOOLEAN, TIMESTAMP, TIMESTAMP_LTZ, DATE, TIME, array(array(BOOLEAN)), ROW]
    texts = [next(text for text, known, _ in GOOD if known == kind and "Infinity" not in text) for kind in kinds]
    payload = "{" + ", ".join(f'"c{place}": {text}' for place, text in enumerate(texts)) + "}"
    columns = [Column(f"c{place}", kind) for place, kind in enumerate(kinds)]
    rows, _ = split_lines(b"\n".join([payload.encode()] * 10 + [b"{}"]))
    schema = bulk_schema(columns)
    assert schema is not None
    taken = read_rows(rows, columns, schema)
    assert taken is not None
    assert taken.num_rows == 11
    assert all(column.null_count == 1 for column in taken.columns)


def test_missing_and_null_are_null_and_the_rest_is_ignored() -> None:
    decoded = decode_payloads([b"{}", b'{"client_id": null, "more": {"deep": [1]}}'], READING)
    assert decoded.rows.to_pylist() == [dict.fromkeys(["client_id", "timestamp", "consumption"])] * 2
    assert decoded.rows.schema == schema_of((column.name, column.type) for column in READING)


def test_the_last_of_duplicate_keys_wins() -> None:
    assert one('{"v": 1, "v": 2}', BIGINT) == 2


def test_arrays_of_objects_are_taken_whole_or_not_at_all() -> None:
    payloads = [b'[{"v": 1}, {"v": 2}]', b'[{"v": 3}, {"v": "x"}]', b"[]", b'[{"v": 4}, 5]', b' {"v":\n 6} ']
    decoded = decode_payloads(payloads, [Column("v", BIGINT)])
    assert decoded.rows.column(0).to_pylist() == [1, 2, 6]
    assert decoded.index.tolist() == [0, 0, 4]
    assert [bad.index for bad in decoded.bad] == [1, 3]
    assert decoded.bad[1].reason == "expected an array of JSON objects, found number 5 at [1]"


def test_lines_are_numbered_and_blank_ones_passed_over() -> None:
    text = b'{"v": 1}\n\n   \n{"v": 2}\r\n\r\nnope\n[{"v": 4}]\n{"v": 3}'
    for times in (1, 600):
        decoded = decode_lines((text + b"\n") * times, [Column("v", BIGINT)])
        assert decoded.rows.column(0).to_pylist() == [1, 2, 3] * times
        assert decoded.index.tolist()[:3] == [0, 3, 7]
        assert [bad.index for bad in decoded.bad][:2] == [5, 6]
        assert len(decoded.bad) == 2 * times


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n \r\n"])
def test_no_lines(data: bytes) -> None:
    decoded = decode_lines(data, READING)
    assert decoded.rows.num_rows == 0
    assert decoded.rows.schema.names == ["client_id", "timestamp", "consumption"]
    assert not decoded.bad
    assert decoded.index.dtype == np.int64


def test_objects_that_meet_across_lines_are_not_joined() -> None:
    """Two halves of an object, and two objects on one line: as many rows as lines, but not one row a line."""
    lines = [b'{"r": {"a": 1}', b"}", b'{"v": 1}{"v": 2}', *[b'{"v": 3}'] * 500]
    decoded = decode_lines(b"\n".join(lines), [Column("v", BIGINT)])
    assert [bad.index for bad in decoded.bad] == [0, 1, 2]
    assert decoded.rows.num_rows == 500


PAYLOAD = (
    b'{"client_id": "h\xc3\xbc\\u00fc\\n1", "timestamp": -17, "consumption": 1.5e3, '
    b'"l": [1, null, {"x": [true]}], "z": ""}'
)


def test_every_truncated_payload_is_a_bad_row() -> None:
    prefixes = [PAYLOAD[:end] for end in range(len(PAYLOAD))]
    for payloads in ([*prefixes], prefixes * 4):
        decoded = decode_payloads(payloads, READING)
        assert decoded.rows.num_rows == 0
        assert [bad.data for bad in decoded.bad] == payloads
    for place, prefix in enumerate(prefixes):
        payloads = [PAYLOAD] * 600 + [prefix] + [PAYLOAD] * 20
        decoded = decode_payloads(payloads, READING)
        assert [bad.index for bad in decoded.bad] == [600], place
        assert decoded.rows.num_rows == 620


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["NaN", "2026-01-01 00:00:00", "2026-01-01T10:00:00.5Z", "12:30:00", "2026-02-03", "5", "null"]),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
KINDS = [
    STRING, TINYINT, INT, BIGINT, DOUBLE, FLOAT, BOOLEAN, TIMESTAMP, TIMESTAMP_LTZ, DATE, TIME, BYTES, decimal(12, 3),
    array(DOUBLE), array(array(BOOLEAN)), ROW, MAP, BIGINT.with_nullable(False),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abcx"), VALUES), min_size=1), st.tuples(*[st.sampled_from(KINDS)] * 3))
def test_both_paths_give_the_same_rows(objects: list[dict[str, object]], kinds: tuple[Type, ...]) -> None:
    payloads = [json.dumps(one, ensure_ascii=False).encode() for one in objects]
    assert_paths_agree(payloads, [Column(name, kind) for name, kind in zip("abc", kinds, strict=True)])


FITTING = {
    BIGINT: st.integers(-(2**63), 2**63 - 1),
    DOUBLE: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**80), 2**80),
    FLOAT: st.floats(allow_nan=False, allow_infinity=False, width=32),
    STRING: st.text(),
    BOOLEAN: st.booleans(),
    TIMESTAMP: st.datetimes().map(lambda at: at.isoformat(" ", timespec="milliseconds")),
    TIMESTAMP_LTZ: st.datetimes().map(lambda at: at.isoformat(timespec="seconds") + "Z"),
    DATE: st.dates().map(str),
    TIME: st.times().map(lambda at: at.isoformat(timespec="milliseconds")),
    array(array(BOOLEAN)): st.lists(st.none() | st.lists(st.none() | st.booleans())),
    ROW: st.fixed_dictionaries({}, optional={"a": st.integers(-9, 9), "b": st.text()}),
}


@settings(max_examples=200, deadline=None)
@given(st.data(), st.lists(st.sampled_from(list(FITTING)), min_size=1, max_size=4))
def test_both_paths_give_the_same_rows_where_all_fits(data: st.DataObject, kinds: list[Type]) -> None:
    columns = [Column(f"c{place}", kind) for place, kind in enumerate(kinds)]
    rows = st.fixed_dictionaries({}, optional={one.name: st.none() | FITTING[one.type] for one in columns})
    objects = data.draw(st.lists(rows, min_size=1, max_size=5))
    payloads = [json.dumps(one, ensure_ascii=data.draw(st.booleans())).encode() for one in objects]
    assert_paths_agree(payloads, columns)
    assert not decode_payloads(payloads, columns).bad


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 80), st.sampled_from([*b'{}[]",:0-1.eENaInf\\ntu \t\xff\xc3', 0])), max_size=4)
)
@example([(0, ord("n"))])
def test_both_paths_agree_on_damaged_payloads(damage: list[tuple[int, int]]) -> None:
    payload = bytearray(b'{"s": "\xc3\xbc-0", "x": [NaN_, {"y": "Inf"}], "i": -10, "d": 1.5e1}'.replace(b"NaN_", b"1"))
    for place, byte in damage:
        payload[place % len(payload)] = byte
    columns = [Column("s", STRING), Column("i", BIGINT), Column("d", DOUBLE)]
    assert_paths_agree([bytes(payload)], columns)
    assert_paths_agree([b"{}", bytes(payload), b"{}"], columns)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    decoded = decode_payloads([data] * 2, READING)
    assert decoded.rows.num_rows + len(decoded.bad) in (0, 2)
    lines = decode_lines(data * 3, READING)
    assert len(lines.index) == lines.rows.num_rows


def test_hundred_thousand_mixed() -> None:
    payloads, good = [], []
    for number in range(100_000):
        if number % 1009 == 7:
            payloads.append(b'{"client_id": "h", "consumption": "12,5"}')
        elif number % 997 == 3:
            payloads.append(b'{"client_id": "h", "timestamp": %d.0}' % number)
            good.append((number, number, None))
        else:
            payloads.append(b'{"client_id": "h%d", "timestamp": %d, "consumption": 1}' % (number % 90, number))
            good.append((number, number, 1.0))
    decoded = decode_payloads(payloads, READING)
    taken = decoded.rows.column(1).to_pylist(), decoded.rows.column(2).to_pylist()
    assert list(zip(decoded.index.tolist(), *taken, strict=True)) == good
    assert [bad.index for bad in decoded.bad] == list(range(7, 100_000, 1009))
    assert {bad.reason for bad in decoded.bad} == {'column consumption: expected DOUBLE, found string "12,5"'}
    assert_same(decoded, decode_lines(b"\n".join(payloads), READING))


def assert_same(left: Decoded, right: Decoded) -> None:
    assert left.rows.equals(right.rows)
    assert left.index.tolist() == right.index.tolist()
    assert left.bad == right.bad


def test_results_do_not_depend_on_how_the_input_is_cut() -> None:
    texts = [f'{{"v": {text}}}'.encode() for text, kind, _ in [*GOOD, *BAD] if kind is BIGINT] + NOT_JSON
    texts += [b'{"v": -0}', b'{"v": 1, "v": 2}', b'{"v": 7}'] * 20
    columns = [Column("v", BIGINT), Column("w", DOUBLE)]
    whole = decode_payloads(texts * 20, columns)
    single = [decode_payloads([text], columns) for text in texts] * 20
    assert [bad.reason for bad in whole.bad] == [bad.reason for part in single for bad in part.bad]
    assert repr(whole.rows.to_pylist()) == repr([row for part in single for row in part.rows.to_pylist()])


def test_few_payloads_are_cheap() -> None:
    payloads = [b'{"client_id": "household-1", "timestamp": 1700000000, "consumption": 12.5}'] * 100
    decode_payloads(payloads, READING)
    best = min(_seconds(payloads) for _ in range(20))
    assert best < 0.001, f"{best * 1e3:.2f} ms for 100 payloads (0.3 ms on an idle machine)"


def _seconds(payloads: list[bytes]) -> float:
    start = time.perf_counter()
    decode_payloads(payloads, READING)
    return time.perf_counter() - start
