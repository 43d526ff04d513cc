"""CSV as Flink's format reads and writes it."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qanat.codec.csv_bulk as csv_bulk
from qanat.codec.csv import CsvOptions, decode_lines, encode_lines
from qanat.errors import ConfigError
from qanat.model.arrow import schema_of, to_arrow
from qanat.model.streams import Column
from qanat.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    INT,
    STRING,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    Kind,
    Type,
    array,
    decimal,
)

READING = [Column("client_id", STRING), Column("timestamp", BIGINT), Column("consumption", DOUBLE)]


def test_options() -> None:
    given_options = {
        "connector": "filesystem",
        "csv.field-delimiter": ";",
        "csv.quote-character": "'",
        "csv.null-literal": "n/a",
        "csv.ignore-parse-errors": "true",
        "csv.allow-comments": "true",
        "csv.header": "true",
    }
    expected = CsvOptions(
        delimiter=";", quote="'", null_literal="n/a", ignore_parse_errors=True, allow_comments=True, header=True
    )
    assert CsvOptions.of(given_options) == expected
    assert CsvOptions.of({}) == CsvOptions()
    assert CsvOptions.of({"csv.field-delimiter": "\\t"}).delimiter == "\t"
    with pytest.raises(ConfigError, match="one character"):
        CsvOptions.of({"csv.field-delimiter": "::"})
    with pytest.raises(ConfigError, match="'true' or 'false'"):
        CsvOptions.of({"csv.header": "yes"})


def test_rows_and_bad_rows() -> None:
    data = b'a,1,2.5\n\n"b,""\nx",2, 3\nc,x,1\nd,1\n"e"x,1,2\nf,1,12;5\r\n"g,1,2'
    decoded = decode_lines(data, READING)
    assert decoded.rows.to_pylist() == [
        {"client_id": "a", "timestamp": 1, "consumption": 2.5},
        {"client_id": 'b,"\nx', "timestamp": 2, "consumption": 3.0},
    ]
    assert decoded.index.tolist() == [0, 2]
    assert [(bad.index, bad.data) for bad in decoded.bad] == [
        (4, b"c,x,1"),
        (5, b"d,1"),
        (6, b'"e"x,1,2'),
        (7, b"f,1,12;5"),
        (8, b'"g,1,2'),
    ]
    assert decoded.bad[0].reason == 'column timestamp: expected BIGINT, found "x"'
    assert decoded.bad[1].reason == "expected 3 fields, found 2"
    assert decoded.bad[3].reason == 'column consumption: expected DOUBLE, found "12;5"'


def test_a_bad_row_over_many_lines_keeps_all_its_bytes() -> None:
    decoded = decode_lines(b'"a\nb",x,1\n"c",1,1', READING)
    assert [(bad.index, bad.data) for bad in decoded.bad] == [(0, b'"a\nb",x,1')]
    assert decoded.rows.column(0).to_pylist() == ["c"]


def test_an_open_quote_costs_only_its_own_line() -> None:
    decoded = decode_lines(b'"a,1,1\nb,2,2\nc,3,3\n', READING)
    assert [bad.index for bad in decoded.bad] == [0]
    assert decoded.rows.column(0).to_pylist() == ["b", "c"]


def test_null_literal_comments_header_and_empty_fields() -> None:
    data = b"id,t,c\n#x\n,NULL,1\n#,1,NULL\nNULL,,1\n"
    options = CsvOptions(null_literal="NULL", allow_comments=True, header=True)
    decoded = decode_lines(data, READING, options)
    assert decoded.rows.to_pylist() == [{"client_id": "", "timestamp": None, "consumption": 1.0}]
    assert [bad.reason for bad in decoded.bad] == ['column timestamp: expected BIGINT, found ""']


def test_ignored_parse_errors_become_null() -> None:
    columns = [*READING[:2], Column("consumption", DOUBLE.with_nullable(False))]
    decoded = decode_lines(b"a,x,1\nb,2\nc,3,4,5\n", columns, CsvOptions(ignore_parse_errors=True))
    assert not decoded.bad
    assert [list(row.values()) for row in decoded.rows.to_pylist()] == [["a", None, 1.0], ["b", 2, None], ["c", 3, 4.0]]


def test_not_null() -> None:
    columns = [Column("v", BIGINT.with_nullable(False))]
    decoded = decode_lines(b"NULL\n1\n", columns, CsvOptions(null_literal="NULL"))
    assert decoded.bad[0].reason == "column v: expected BIGINT NOT NULL, found null"


@pytest.mark.parametrize(
    "field", ["0x10", "1_0", "1e400", "٣", "nan", "inf", "1.5", "9223372036854775808", "--1", "true", "1 2"]
)
def test_what_is_no_bigint_is_none_on_either_path(field: str) -> None:
    lines = [f"h,{number},1" for number in range(5000)] + [f"h,{field},1"]
    for few in (lines[-1:], lines):
        decoded = decode_lines("\n".join(few).encode(), READING)
        assert [bad.index for bad in decoded.bad] == [len(few) - 1]
        assert decoded.rows.num_rows == len(few) - 1


@pytest.mark.parametrize("field", ["nan", "inf", "1e400", "0x1p3", "1,5"])
def test_what_is_no_double_is_none_on_either_path(field: str) -> None:
    lines = [f"h,{number},1" for number in range(5000)] + [f"h,1,{field}"]
    for few in (lines[-1:], lines):
        decoded = decode_lines("\n".join(few).encode(), READING)
        assert [bad.index for bad in decoded.bad] == [len(few) - 1]


def test_encoding() -> None:
    table = pa.table(
        {
            "s": ["a", "b,c", 'd"', "e\n", "", None],
            "t": pa.array([dt.datetime(2026, 1, 1, 0, 0, 0, 5000), None] * 3, pa.timestamp("ms", tz="UTC")),
            "d": [1.5, float("nan"), None, 1.0, 2.0, 3.0],
            "l": [[1, None], [], None, [2], [3], [4]],
            "b": pa.array([b"a"] * 6),
        }
    )
    assert encode_lines(table).decode() == (
        'a,2026-01-01 00:00:00.005Z,1.5,1;,YQ==\n"b,c",,NaN,"",YQ==\n"d""",2026-01-01 00:00:00.005Z,,,YQ==\n'
        '"e\n",,1.0,2,YQ==\n"",2026-01-01 00:00:00.005Z,2.0,3,YQ==\n,,3.0,4,YQ==\n'
    )
    options = CsvOptions(delimiter="|", null_literal="NULL", header=True)
    assert encode_lines(table.select(["s", "d"]).slice(4), options) == b's|d\n""|2.0\nNULL|3.0\n'
    with pytest.raises(ConfigError, match="MAP"):
        encode_lines(pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}))


ROW = Type(Kind.ROW, fields=(("a", BIGINT), ("b", DOUBLE)))
KINDS: dict[Type, st.SearchStrategy[object]] = {
    STRING: st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])),
    BIGINT: st.integers(-(2**63), 2**63 - 1),
    INT: st.integers(-5, 5),
    DOUBLE: st.floats(),
    BOOLEAN: st.booleans(),
    TIMESTAMP: st.datetimes().map(lambda at: at.replace(microsecond=0)),
    TIMESTAMP_LTZ: st.datetimes(timezones=st.just(dt.UTC)).map(lambda at: at.replace(microsecond=0)),
    DATE: st.dates(),
    decimal(20, 5): st.decimals(-(10**14), 10**14, places=5),
    BYTES: st.binary(min_size=1),
    array(BIGINT): st.lists(st.none() | st.integers(-9, 9), min_size=2),
    ROW: st.fixed_dictionaries({"a": st.integers(-9, 9), "b": st.floats()}),
}


@settings(max_examples=200, deadline=None)
@given(st.data(), st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4), st.sampled_from([",", "\t", "|"]))
def test_round_trip(data: st.DataObject, kinds: list[Type], delimiter: str) -> None:
    columns = [Column(f"c{place}", kind) for place, kind in enumerate(kinds)]
    count = data.draw(st.integers(1, 4))
    values = [data.draw(st.lists(st.none() | KINDS[kind], min_size=count, max_size=count)) for kind in kinds]
    arrays = [pa.array(one, to_arrow(kind)) for one, kind in zip(values, kinds, strict=True)]
    rows = pa.RecordBatch.from_arrays(arrays, schema=schema_of((one.name, one.type) for one in columns))
    options = CsvOptions(delimiter=delimiter, null_literal="NULL")
    back = decode_lines(encode_lines(rows, options), columns, options)
    assert not back.bad
    assert repr(back.rows.to_pylist()) == repr(rows.to_pylist())


FIELDS = st.sampled_from(
    ["1", "-2.5", "x", "", " 3", "1e3", "+4", "nan", "0x1", "NULL", "a b", "ü", '"q"', "00", ".5", "5."]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(FIELDS, min_size=2, max_size=3).map(",".join), min_size=1, max_size=6))
def test_both_paths_give_the_same_rows(lines: list[str]) -> None:
    data = "\n".join(lines).encode()
    columns = READING[:2] if len(lines) % 2 else [Column("a", DOUBLE), Column("b", STRING)]
    least, csv_bulk._LEAST = csv_bulk._LEAST, 0
    try:
        quick = csv_bulk.read_lines(data, columns, ",") if b'"' not in data else None
    finally:
        csv_bulk._LEAST = least
    exact = decode_lines(data, columns)
    if quick is not None:
        assert not exact.bad
        assert repr(quick.rows.to_pylist()) == repr(exact.rows.to_pylist())
        assert quick.index.tolist() == exact.index.tolist()


def test_many_lines() -> None:
    lines = [b"household-%d,%d,%d.5" % (number % 90, number, number) for number in range(20_000)]
    decoded = decode_lines(b"\n".join(lines), READING)
    assert decoded.rows.column(1).to_pylist() == list(range(20_000))
    lines[17_000] = b"h,1"
    decoded = decode_lines(b"\n".join(lines), READING)
    assert [bad.index for bad in decoded.bad] == [17_000]
    assert decoded.rows.num_rows == 19_999
