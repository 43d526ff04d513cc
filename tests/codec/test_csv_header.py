"""CSV with a header line: each record for itself, by name; what the csv module reads alike is read alike."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.codec.base import Decoded
from qanat.codec.csv_header import read_csv
from qanat.errors import DataError
from qanat.model.streams import Column
from qanat.model.types import BIGINT, BOOLEAN, DATE, DOUBLE, INT, STRING, TIMESTAMP, decimal

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\ufeff"), max_size=6)
COLUMNS = [Column("a", STRING), Column("b", STRING)]


def decode(data: bytes, columns: Sequence[Column]) -> Decoded:
    body = read_csv(data)
    return body.decode(body, columns)


def written(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["b", "a"], *rows])
    return out.getvalue().encode()


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=20))
def test_what_the_csv_module_writes_is_read_back(rows: list[tuple[str, str]]) -> None:
    decoded = decode(written(rows), COLUMNS)
    assert [(row["b"], row["a"]) for row in decoded.rows.to_pylist()] == rows
    assert decoded.bad == ()


FIELD = st.sampled_from(["", "1", "-7", "2.5", "x", "true", "1e3", "99999999999999999999", " 4 ", "NaN", '"q"', '""'])
TYPED = [Column("i", INT), Column("d", DOUBLE), Column("s", STRING), Column("t", BOOLEAN), Column("n", decimal(5, 2))]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(FIELD, min_size=4, max_size=6), min_size=1, max_size=30))
def test_a_record_has_the_same_verdict_alone_and_among_others(rows: list[list[str]]) -> None:
    lines = [",".join(row).encode() for row in rows]
    header = b"i,d,s,t,n\n"
    decoded = decode(header + b"\n".join(lines), TYPED)
    bad = {one.index: one.reason for one in decoded.bad}
    good = dict(zip(decoded.index.tolist(), decoded.rows.to_pylist(), strict=True))
    assert sorted([*bad, *good]) == list(range(len(lines)))
    for place, line in enumerate(lines):
        alone = decode(header + line, TYPED)
        if place in bad:
            assert [one.reason for one in alone.bad] == [bad[place]]
        else:
            assert repr(alone.rows.to_pylist()) == repr([good[place]])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"1", b",", b'"', b"\n", b"\r\n", b"\r", b" ", b"\xff", b"\0"]), max_size=40))
def test_any_bytes_become_rows_or_bad_rows_and_none_is_lost(parts: list[bytes]) -> None:
    data = b"a,b\n" + b"".join(parts)
    body = read_csv(data)
    decoded = body.decode(body, COLUMNS)
    assert sorted([*decoded.index.tolist(), *(one.index for one in decoded.bad)]) == list(range(len(body)))
    assert all(one.reason and one.data.startswith(b"a,b\n") for one in decoded.bad)


def test_a_quote_that_is_never_closed_costs_its_own_line() -> None:
    decoded = decode(b'a,b\n1,2\n3,"4\n5,6\n', COLUMNS)
    assert [row["a"] for row in decoded.rows.to_pylist()] == ["1", "5"]
    assert [one.data for one in decoded.bad] == [b'a,b\n3,"4']


def test_columns_may_be_missing_be_more_or_be_in_another_order() -> None:
    decoded = decode(b"\xef\xbb\xbf extra , b ,a\r\n1,2,3\r\n", [*COLUMNS, Column("c", BIGINT)])
    assert decoded.rows.to_pylist() == [{"a": "3", "b": "2", "c": None}]


def test_times_and_dates_are_read_in_bulk_and_the_bad_ones_found() -> None:
    columns = [Column("t", TIMESTAMP), Column("d", DATE)]
    lines = [f"2024-01-{day % 31 + 1:02} 10:00:00,2024-02-{day % 31 + 1:02}" for day in range(310)]
    decoded = decode(("t,d\n" + "\n".join(lines)).encode(), columns)
    assert {one.index % 31 for one in decoded.bad} == {29, 30}  # there is no 30th of February
    assert len(decoded.rows) == 290


@pytest.mark.parametrize("data", [b"", b"\n\n", b"a,a\n1,2\n", b'"a\n', b'a"b,"c\n"\xff",1\n"'])
def test_a_header_that_is_none_is_an_error(data: bytes) -> None:
    with pytest.raises(DataError):
        read_csv(data)


def test_a_slice_of_a_body_is_a_body() -> None:
    body = read_csv(b"a,b\n1,2\nx\n3,4\n")
    part = body[1:]
    assert isinstance(part, type(body))
    decoded = body.decode(part, COLUMNS)
    assert decoded.rows.to_pylist() == [{"a": "3", "b": "4"}]
    assert (decoded.index.tolist(), decoded.bad[0].index) == ([1], 0)
    assert isinstance(decoded.rows, pa.RecordBatch)
