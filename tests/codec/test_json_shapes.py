"""JSON lines of a few shapes, with objects in them: what the shape path takes is what the exact path makes of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.codec.base import Rows, split_lines
from qanat.codec.json import decode_lines
from qanat.codec.json_rows import decode_documents
from qanat.codec.json_shapes import read_shapes
from qanat.model.streams import Column
from qanat.model.types import BIGINT, BOOLEAN, DATE, DOUBLE, FLOAT, INT, STRING, TIMESTAMP, TIMESTAMP_LTZ, Kind, Type

PERSON = Type(Kind.ROW, fields=(("id", BIGINT), ("name", STRING), ("at", TIMESTAMP)))
BID = Type(Kind.ROW, fields=(("price", DOUBLE), ("at", TIMESTAMP), ("by", Type(Kind.ROW, fields=(("id", BIGINT),)))))
COLUMNS = [Column("kind", INT), Column("person", PERSON), Column("bid", BID)]
A = b'{"kind":0,"person":{"id":7,"name":"J\xc3\xb6rg","at":"2026-01-02 03:04:05.678"},"bid":null}'
B = b'{"kind":1,"person":null,"bid":{"price":1.5,"at":"2026-01-02 03:04:05","by":{"id":9}}}'
C = b'{"kind":1,"person":null,"bid":{"price":1.5,"at":"2026-01-02 03:04:05","by":null}}'
D = b'{"kind":null}'
MIXED = [A, B, B, C, D, B, A, C] * 50


def is_taken(lines: list[bytes], columns: list[Column], end: bytes = b"\n") -> bool:
    """Whether the shape path takes the lines. Either way all must come out as the exact path has it."""
    data = end.join(lines)
    rows, numbers = split_lines(data)
    exact = decode_documents(rows.documents(), numbers.tolist(), columns, arrays=False)
    decoded = decode_lines(data, columns)
    assert repr(decoded.rows.to_pylist()) == repr(exact.rows.to_pylist())
    assert decoded.index.tolist() == exact.index.tolist()
    assert decoded.bad == exact.bad
    taken = read_shapes(rows, columns)
    if taken is None:
        return False
    assert not exact.bad
    taken.validate(full=True)
    assert taken.schema == exact.rows.schema
    assert repr(taken.to_pylist()) == repr(exact.rows.to_pylist())
    return True


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
def test_rows_of_a_few_shapes_are_taken(end: bytes) -> None:
    assert is_taken(MIXED, COLUMNS, end)
    assert is_taken(MIXED, COLUMNS[:1], end)
    assert is_taken(MIXED, [Column("missing", STRING), COLUMNS[2]], end)
    assert is_taken([A] * 600, COLUMNS, end)
    assert is_taken([b'{ "kind" :  1  , "person" :{"id" : 7 } , "bid": {"at":"2026-01-02T03:04:05" }}'] * 600, COLUMNS)


def test_only_some_fields_of_a_row() -> None:
    bid = Type(Kind.ROW, fields=(("at", TIMESTAMP), ("more", STRING)))
    assert is_taken(MIXED, [Column("bid", bid)])
    assert is_taken([*MIXED, b'{"bid":{"price":7e0}}'], [Column("bid", bid)])
    assert not is_taken([*MIXED, b'{"bid":{"price":07}}'], [Column("bid", bid)])
    assert not is_taken([*MIXED, b'{"bid":{"price":[1]}}'], [Column("bid", bid)])


@pytest.mark.parametrize(
    "line",
    [
        A.replace(b"null", b"nul"),
        A.replace(b"null", b"5"),
        A.replace(b"null", b"{}"),
        A.replace(b"null", b"[]"),
        A.replace(b"{", b"["),
        A.replace(b'"kind"', b'"person"'),
        A.replace(b'"name"', b'"id"'),
        A.replace(b"7", b'"7"'),
        A.replace(b"7", b"null "),
        A.replace(b"7", b"7.0"),
        A.replace(b"03:04:05.678", b"03:04"),
        A.replace(b"2026-01-02", b"2026-13-02"),
        A.replace(b"J", b"J, "),
        A.replace(b"J", b'J"'),
        A.replace(b"J", b"\\u004a"),
        A.replace(b"J", b"\t"),
        A.replace(b"J", b"\xff"),
        A.replace(b"}", b""),
        A.replace(b"}", b"}}"),
        A + b"}",
        A + A,
        b"{" + A,
        A.replace(b'"kind":0,', b""),
        A.replace(b",", b";"),
        A.replace(b'"id":7,', b'"id":7,,'),
        B.replace(b'{"id":9}', b"9"),
        B.replace(b'{"id":9}', b'{"id":{"id":9}}'),
        B.replace(b'"by":{"id":9}}', b'"by":{"id":9},"bid":1}'),
        b"{}",
        b'{"kind":1,"kind":2}',
        b'{"kind": }',
        b"null",
    ],
)
@pytest.mark.parametrize("place", [0, 201, 399])
def test_a_row_that_differs_is_what_the_exact_path_makes_of_it(line: bytes, place: int) -> None:
    lines = [*MIXED[:place], line, *MIXED[place + 1 :]]
    is_taken(lines, COLUMNS)
    is_taken(lines, COLUMNS[:1])
    is_taken(lines, [Column("other", INT)])


def test_as_many_commas_and_another_shape() -> None:
    other = b'{"kind":0,"person":null,"bid":{"at":"2026-01-02 03:04:05","price":1.5,"by":null}}'
    assert is_taken([*MIXED, other], COLUMNS)
    assert is_taken([other, *MIXED], COLUMNS)
    assert is_taken([b'{"a":1,"b":null}', b'{"a":1,"c":null}'] * 200, [Column("a", INT)])
    more, less = b'{"s":"a, b","i":1,"j":1}', b'{"s":"a","i":1;"j":1}'
    assert not is_taken([*[b'{"s":"a","i":1,"j":1}'] * 600, more, less], [Column("s", STRING)])


def test_more_shapes_than_are_worth_it() -> None:
    lines = [b"{" + b",".join(b'"c%d":1' % at for at in range(number % 20 + 1)) + b"}" for number in range(600)]
    assert not is_taken(lines, [Column("c0", INT)])
    assert is_taken([line for line in lines if line.count(b",") < 7], [Column("c0", INT), Column("c5", BIGINT)])


def test_types_it_does_not_know() -> None:
    for kind in (FLOAT, Type(Kind.ARRAY, element=INT), Type(Kind.ROW, fields=(("a", INT.with_nullable(False)),))):
        assert read_shapes(split_lines(b'{"a":1}')[0], [Column("v", kind)]) is None


def test_null_where_it_may_not_be() -> None:
    assert is_taken([A] * 600, [Column("person", PERSON.with_nullable(False))])
    assert not is_taken(MIXED, [Column("person", PERSON.with_nullable(False))])
    assert not is_taken(MIXED, [Column("kind", INT.with_nullable(False))])
    assert is_taken([b'{"b":null,"d":null}', b'{"b":true,"d":0.5}'] * 200, [Column("b", BOOLEAN), Column("d", DOUBLE)])


@pytest.mark.parametrize("kind", [TIMESTAMP, Type(Kind.TIMESTAMP, precision=9), TIMESTAMP_LTZ, DATE])
@pytest.mark.parametrize(
    "text",
    ["2026-01-02 03:04:05", "2026-01-02T03:04:05.6789", "2026-01-02 03:04:05.1Z", "2026-01-02", "2026-02-30 03:04:05",
     "2026-01-02 24:00:00", "2026-01-02 03:04:60", " 2026-01-02 03:04:05", "0001-01-01 00:00:00", "", "now",
     "2026-01-02 03:04:05.000", "9999-12-31 23:59:59.999", "1969-12-31 23:59:59.999", "202६-01-02 03:04:05.000",
     "2026-01-02 03:04:05.0O0", "2026-1-002 03:04:05.000", "2026-01-02 03:04:05,000", "2024-02-29 00:00:00.000",
     "2100-02-29 00:00:00.000", "2026-00-10 00:00:00.000", "2026-01-00 00:00:00.000", "2026/01/02 00:00:00.000"],
)  # fmt: skip
def test_times(kind: Type, text: str) -> None:
    usual = {Kind.DATE: "2026-01-02", Kind.TIMESTAMP_LTZ: "2026-01-02 03:04:05.000Z"}
    line = '{{"r":{{"t":"{}"}}}}'
    lines = [line.format(usual.get(kind.kind, "2026-01-02 03:04:05.000")).encode()] * 600
    lines[7] = line.format(text).encode()
    is_taken(lines, [Column("r", Type(Kind.ROW, fields=(("t", kind),)))])
    is_taken([one[5:-1] for one in lines], [Column("t", kind)])


def test_rows_in_the_middle_of_their_data() -> None:
    data = b"{,} " + b"\n".join(MIXED[:9]) + b" {,}"
    ends = np.cumsum([len(one) + 1 for one in MIXED[:9]]) + 3
    rows = Rows(data, ends - [len(one) for one in MIXED[:9]], ends)
    for part in (rows, rows.part(3, 5)):
        taken = read_shapes(part, COLUMNS[:1])
        assert taken is not None
        assert taken.column(0).to_pylist() == [json.loads(one).get("kind") for one in part.documents()]


def test_every_byte_damaged_by_every_other() -> None:
    """Whatever is taken is what the exact path takes."""
    line = b'{"kind":0,"person":{"id":7,"name":"\xc3\xb6","at":"2026-01-02 03:04:05.678"},"bid":null}'
    for place in range(len(line)):
        for byte in (*b'{}[]",:;0-1.+eEnN\\u \t\r\n\xff', 0):
            damaged = line[:place] + bytes([byte]) + line[place + 1 :]
            lines = [line, damaged, B, line]
            ends = np.cumsum([len(one) + 1 for one in lines]) - 1
            taken = read_shapes(Rows(b"\n".join(lines), ends - [len(one) for one in lines], ends), COLUMNS)
            exact = decode_documents(lines, range(4), COLUMNS, arrays=False)
            assert taken is None or (not exact.bad and repr(taken.to_pylist()) == repr(exact.rows.to_pylist())), damaged


TEXTS = st.text(st.characters(exclude_characters=',"\\', exclude_categories=["Cs", "Cc"]), max_size=8)
SCALARS: dict[Type, st.SearchStrategy[object]] = {
    BIGINT: st.none() | st.integers(-(2**63), 2**63 - 1),
    DOUBLE: st.none() | st.floats(allow_nan=False, allow_infinity=False),
    STRING: TEXTS,
    BOOLEAN: st.none() | st.booleans(),
    TIMESTAMP: st.datetimes().map(lambda t: t.isoformat(" ", "milliseconds")),
}


def types(depth: int = 2) -> st.SearchStrategy[Type]:
    """Scalars, and ROWs of them."""
    scalars = st.sampled_from(list(SCALARS))
    if not depth:
        return scalars
    fields = st.dictionaries(TEXTS, types(depth - 1), min_size=1, max_size=3)
    return scalars | fields.map(lambda one: Type(Kind.ROW, fields=tuple(one.items())))


def values(kind: Type) -> st.SearchStrategy[object]:
    """What fits; a ROW may be null, and lack fields."""
    if kind.kind is not Kind.ROW:
        return SCALARS[kind]
    return st.none() | st.fixed_dictionaries({}, optional={name: values(field) for name, field in kind.fields})


@settings(max_examples=300, deadline=None)
@given(st.data(), st.dictionaries(TEXTS, types(), min_size=1, max_size=4))
def test_whatever_is_taken_is_right(data: st.DataObject, fields: dict[str, Type]) -> None:
    columns = [Column(name, kind) for name, kind in fields.items()]
    objects = data.draw(st.lists(values(Type(Kind.ROW, fields=tuple(fields.items()))), min_size=1, max_size=6))
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,  ", " :")]))
    lines = [json.dumps(one, ensure_ascii=False, separators=separators).encode() for one in objects if one is not None]
    if lines:
        is_taken(lines, data.draw(st.lists(st.sampled_from(columns), unique=True, min_size=1)))
