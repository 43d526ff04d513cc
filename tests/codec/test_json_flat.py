"""Machine-made JSON lines: the flat path takes them, and what it takes is what the exact path makes of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qanat.codec.base import Rows, split_lines
from qanat.codec.json import decode_lines, decode_payloads
from qanat.codec.json_flat import read_flat
from qanat.codec.json_rows import decode_documents
from qanat.model.streams import Column
from qanat.model.types import BIGINT, BOOLEAN, DOUBLE, FLOAT, INT, STRING, Type

COLUMNS = [Column("s", STRING), Column("i", BIGINT), Column("d", DOUBLE), Column("b", BOOLEAN)]
LINE = '{"s": "hü-%d", "i": %d, "d": %d.5, "b": true}'
PLAIN = [(LINE % (number, number, number)).encode() for number in range(600)]


def is_taken(lines: list[bytes], columns: list[Column], end: bytes = b"\n") -> bool:
    """Whether the flat path takes the lines. Either way all must come out as the exact path has it."""
    data = end.join(lines)
    rows, numbers = split_lines(data)
    exact = decode_documents(rows.documents(), numbers.tolist(), columns, arrays=False)
    decoded = decode_lines(data, columns)
    assert repr(decoded.rows.to_pylist()) == repr(exact.rows.to_pylist())
    assert decoded.index.tolist() == exact.index.tolist()
    assert decoded.bad == exact.bad
    flat = read_flat(rows, columns)
    if flat is None:
        return False
    assert not exact.bad
    flat.validate(full=True)
    assert flat.schema == exact.rows.schema
    assert repr(flat.to_pylist()) == repr(exact.rows.to_pylist())
    return True


def value_is_taken(text: str, kind: Type, usual: str) -> bool:
    """One value in the last but one of many rows, as a column's and as a field that nobody asked for."""
    lines = [f'{{"v": {usual}, "w": 1}}'.encode()] * 600
    lines[-2] = f'{{"v": {text}, "w": 1}}'.encode()
    if len(text) < 309:
        is_taken(lines, [Column("w", BIGINT)])
    is_taken([line.replace(b', "w": 1', b"") for line in lines], [Column("v", kind)])
    return is_taken(lines, [Column("v", kind), Column("w", BIGINT)])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("last", [[], [b""]])
def test_rows_alike_are_taken(end: bytes, last: list[bytes]) -> None:
    assert is_taken(PLAIN + last, COLUMNS, end)
    assert is_taken(PLAIN, [Column("missing", INT), COLUMNS[1]], end)
    assert is_taken([b'{"i":0}', *[b'{"i":%d}' % number for number in range(-500, 0)]], [Column("i", INT)], end)
    assert is_taken([b'{ "i" :  7  , "s" :"", "" :false }'] * 600, COLUMNS, end)


@pytest.mark.parametrize("blank", [b"", b"  ", b"\t"])
def test_blank_lines_between(blank: bytes) -> None:
    is_taken([*PLAIN[:200], blank, *PLAIN[200:]], COLUMNS)
    is_taken([*PLAIN[:200], blank, blank, *PLAIN[200:]], COLUMNS, b"\r\n")


@pytest.mark.parametrize(
    "line",
    [
        '{"s": "a",  "i": 1, "d": 1.5, "b": true}',
        '{"s":  "a", "i": 1, "d": 1.5, "b": true}',
        '{"s": "a", "I": 1, "d": 1.5, "b": true}',
        '{"t": "a", "i": 1, "d": 1.5, "b": true}',
        '{"s": "a", "i": 1, "d": 1.5, "c": true}',
        '{"i": 1, "s": "a", "d": 1.5, "b": true}',
        '{"s": "a", "i": 1, "d": 1.5, "b": true }',
        '{"s": "a", "i": 1, "d": 1.5}',
        '{"s": "a", "i": 1, "d": 1.5, "b": true, "x": 1}',
        '{"s": "a", "i": 1, "d": 1.5, "b": {"x": true}}',
        '{"s": "a", "i": 1, "d": 1.5, "b": true}}',
        '{"s": "a", "i": 1, "d": 1.5, "b": true',
        '["s": "a", "i": 1, "d": 1.5, "b": true]',
        '{"s": "a", "i": 1, "d": 1.5; "b": true}',
        '{"s": "a, b", "i": 1, "d": 1.5, "b": true}',
        '{"s": "a\\"b", "i": 1, "d": 1.5, "b": true}',
        '{"s": "a\\u0041", "i": 1, "d": 1.5, "b": true}',
        '{"s": "a\\", "i": 1, "d": 1.5, "b": true}',
        '{"s": "a"b", "i": 1, "d": 1.5, "b": true}',
        '{"s": "a\tb", "i": 1, "d": 1.5, "b": true}',
        '{"s": "a\x00b", "i": 1, "d": 1.5, "b": true}',
        '{"s": "a\rb", "i": 1, "d": 1.5, "b": true}',
        '{"s": null, "i": 1, "d": 1.5, "b": true}',
        '{"s": 5, "i": 1, "d": 1.5, "b": true}',
        '{"s": "a", "i": "1", "d": 1.5, "b": true}',
        '{"s": "a", "i": 1, "d": 1.5, "b": True}',
        '{"s": "a", "i": 1, "d": 1.5, "b": 1}',
        '{"s": "a", "i": , "d": 1.5, "b": true}',
        '{"s": "a", "i": 1 , "d": 1.5, "b": true}',
        '{"s": "", "i": [1, "d": 1], "b": true}',
    ],
)
@pytest.mark.parametrize("place", [0, 201, 399])
def test_a_row_that_differs(line: str, place: int) -> None:
    lines = [*PLAIN[:place], line.encode(), *PLAIN[place + 1 :]]
    assert not is_taken(lines, COLUMNS)
    is_taken(lines, COLUMNS[:1])
    is_taken(lines, [Column("other", INT)])


@pytest.mark.parametrize("text", ['"a, b"', '"a\\\\b"', '"a"b"', '"a\tb"', '"a'])
@pytest.mark.parametrize("place", [2047, 2048, 4096, 8999])
def test_a_row_that_differs_far_down(text: str, place: int) -> None:
    lines = [b'{"i": 1, "s": "a"}'] * 9000
    assert read_flat(split_lines(b"\n".join(lines))[0], COLUMNS[:2]) is not None
    lines[place] = f'{{"i": 1, "s": {text}}}'.encode()
    assert not is_taken(lines, COLUMNS[:2])


def test_rows_whose_differences_level_out() -> None:
    """As many quotes, commas or rows in all, but not in each."""
    more, less = b'{"s": "a, b", "i": 1, "d": 1, "b": true}', b'{"s": "a", "i": 1, "d": 1; "b": true}'
    assert not is_taken([*PLAIN, more, less, *PLAIN], COLUMNS)
    assert not is_taken([*PLAIN, less, more, *PLAIN], COLUMNS)
    more, less = b'{"s": "a"", "i": 1, "d": 1, "b": true}', b'{"s": "a", "i": 1, "d": 1, b": true}'
    assert not is_taken([*PLAIN, more, less, *PLAIN], COLUMNS)
    assert not is_taken([*PLAIN, b'{"s": "a', b'", "i": 1, "d": 1, "b": true}', *PLAIN], COLUMNS)
    assert not is_taken([*PLAIN, PLAIN[1] + PLAIN[2], *PLAIN], COLUMNS)
    assert not is_taken([b'{"i": 1}'] * 600 + [b'{"i": 1}{"i": 1}'], COLUMNS[1:2])
    assert not is_taken([b'{"s": "a", "i": 1}', b'{"s": "a,b,", "i": 1}'], COLUMNS[:1])  # twice as many
    assert not is_taken([b'{"s": "a"}'] * 600 + [b'{"s": "}', b'{"s": "a""}'] + [b'{"s": "a"}'] * 40, COLUMNS[:1])


@pytest.mark.parametrize(
    "line", [b'["i": 1}', b'x"i": 1}', b'{"i": 1]', b'{"i": 1}}', b'[{"i": 1}]', b'{{"i": 1}', b"{}"]
)
def test_rows_alike_that_are_no_flat_objects(line: bytes) -> None:
    assert not is_taken([line] * 600, COLUMNS[1:2])


def test_a_value_shorter_than_nothing() -> None:
    """What stands before a value and what stands after it may not share their bytes."""
    for line in (b'{"s": "}', b'{"s": ', b'{"s": "', b'"}', b"{}"):
        assert not is_taken([b'{"s": "a"}'] * 600 + [line] + [b'{"s": "a"}'] * 40, COLUMNS[:1])
        assert not is_taken([b'{"s": "a"}'] * 600 + [line], COLUMNS[:1])
    assert not is_taken([b'{"i": 1, "j": 2}'] * 600 + [b'{"i": , "j": }', b"{,}", b'{"i": -, "j": -}'], COLUMNS[1:2])
    assert not is_taken([b'{"i": 1}'] * 600 + [b'{"i": -}'], COLUMNS[1:2])


INTEGERS = ["0", "-1", "10", "9223372036854775807", "-9223372036854775808", "null"]
ODD_INTEGERS = [
    "01", "-01", "00", "-0", "-00", "+1", "0x1F", "-0x1", "1_0", "1-1", "3.0", "3.5", "1e2", "3.", "", "-", " ", "1 1",
    "--1", "9223372036854775808", "-9223372036854775809", "9" * 400, "nul", "nullx", "nill", "n", "true", "'1'",
    "\N{NO-BREAK SPACE}1", "\N{ARABIC-INDIC DIGIT THREE}",
]  # fmt: skip
DOUBLES = [
    "0", "0.0", "-1.5", "1e5", "1E+05", "1.5e-3", "0e0", "0.1e1", "1e-400", "5e-324", "1.7976931348623157e308", "null",
    "123456789012345678901234567890", "9007199254740993", "0.30000000000000004", "2.2250738585072011e-308",
    "-0.0", "-0e5", "-0.0e0", "-1e-400",
]  # fmt: skip
ODD_DOUBLES = [
    "01", "01.5", "-01.5", "00", "1.", "1.e5", "1.E5", ".5", "-.5", "+1", "+.5", "1e", "1e+", "1e5.5", "1.5.5", "--1",
    "NaN", "nan", "inf", "-inf", "-Inf", "Infinity", "-Infinity", "infinity", "0x1p3", "0x1F", "1d5", "1f", "1_0",
    "-0", "1e999", "-1e999", "9" * 400, "", "-", "-n", "nul", "nulls", "nan0", "n1", "true",
    "0x11", "-0x11", "1 1", "1e1e1", "1e1.1", "1e", "1e-", "1-1", "1\N{ARABIC-INDIC DIGIT THREE}1", "1inf1", "1nan1",
]  # fmt: skip


@pytest.mark.parametrize("text", INTEGERS)
def test_integers(text: str) -> None:
    assert value_is_taken(text, BIGINT, "5")


@pytest.mark.parametrize("text", ODD_INTEGERS)
def test_what_is_no_plain_integer(text: str) -> None:
    assert not value_is_taken(text, BIGINT, "5")
    assert not value_is_taken(text, INT, "5")


@pytest.mark.parametrize("text", DOUBLES)
def test_doubles(text: str) -> None:
    assert value_is_taken(text, DOUBLE, "5.5")


def test_zeros_of_every_sign() -> None:
    columns, zeros = [Column("d", DOUBLE)], [b'{"d": 0}', b'{"d": -0.0}', b'{"d": 0.0}']
    assert is_taken(zeros * 200, columns)
    assert not is_taken([*zeros * 200, b'{"d": -0}'], columns)


@pytest.mark.parametrize("text", ODD_DOUBLES)
def test_what_is_no_plain_double(text: str) -> None:
    assert not value_is_taken(text, DOUBLE, "5.5")


def test_beyond_double_in_a_field_that_nobody_asked_for() -> None:
    rows, _ = split_lines(b"\n".join([b'{"v": 5, "w": 1}'] * 600 + [b'{"v": ' + b"9" * 400 + b', "w": 1}'] * 2))
    assert read_flat(rows, [Column("w", BIGINT)]) is None


@pytest.mark.xfail(
    strict=True, reason="Arrow's parser passes over it, orjson does not (json_bulk, no matter of json_flat)"
)
def test_beyond_double_in_a_field_that_nobody_asked_for_on_either_path() -> None:
    is_taken([b'{"v": 5, "w": 1}'] * 600 + [b'{"v": ' + b"9" * 400 + b', "w": 1}'], [Column("w", BIGINT)])


@pytest.mark.parametrize("text", ["TRUE", "True", "tru", "truee", "1", "0", "", "nul", "yes", "falsenull"])
def test_what_is_no_boolean(text: str) -> None:
    assert not value_is_taken(text, BOOLEAN, "true")
    assert value_is_taken("false", BOOLEAN, "true")


def test_beyond_int() -> None:
    assert value_is_taken("2147483647", INT, "5")
    assert not value_is_taken("2147483648", INT, "5")


@pytest.mark.parametrize("text", ["ü", "😀", "\u2028", "\x7f", "{}[]:", "null", " a ", "", "é" * 300])
def test_strings(text: str) -> None:
    assert value_is_taken(f'"{text}"', STRING, '"a"')


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"])
def test_not_utf_8(text: bytes) -> None:
    lines = [b'{"s": "a", "x": "b"}'] * 600
    for odd in (b'{"s": "' + text + b'", "x": "b"}', b'{"s": "a", "x": "' + text + b'"}'):
        assert not is_taken([*lines, odd, *lines], COLUMNS[:1])
    assert not is_taken([b'{"s": "a", "' + text + b'": "b"}'] * 600, COLUMNS[:1])


def test_null_is_null_where_it_may_be() -> None:
    lines = [b'{"i": null, "d": null, "b": null}'] * 600
    assert is_taken(lines, COLUMNS[1:])
    lines[7] = b'{"i": 1, "d": 1, "b": false}'
    assert is_taken(lines, COLUMNS[1:])
    for kind in (BIGINT, DOUBLE, BOOLEAN):
        name = {BIGINT: "i", DOUBLE: "d", BOOLEAN: "b"}[kind]
        assert not is_taken(lines, [Column(name, kind.with_nullable(False))])
        assert not is_taken(lines[7:8] * 9 + lines, [Column(name, kind.with_nullable(False))])
    assert not is_taken(lines, [Column("missing", BIGINT.with_nullable(False))])


def test_keys_twice_and_types_it_does_not_know() -> None:
    assert not is_taken([b'{"i": 1, "i": 2}'] * 600, COLUMNS[1:2])
    assert not is_taken([b'{"i": 1, "d": 2}'] * 600, [Column("i", BIGINT), Column("d", FLOAT)])


def test_rows_in_the_middle_of_their_data() -> None:
    data = b'{"i": x} ' + b"\n".join(b'{"i": %d}' % number for number in range(9)) + b' {"i": y}'
    starts = np.arange(9, dtype=np.int64) * 9 + 9
    for part in (Rows(data, starts, starts + 8), Rows(data, starts, starts + 8).part(3, 5)):
        taken = read_flat(part, COLUMNS[1:2])
        assert taken is not None
        assert taken.column(0).to_pylist() == [json.loads(one)["i"] for one in part.documents()]


def test_white_space_between_rows_does_not_make_up_for_what_is_in_them() -> None:
    rows = Rows(b'{"s": "a"} {"s": "\x01"}', np.array([0, 11]), np.array([10, 21]))
    assert read_flat(rows, COLUMNS[:1]) is None
    for gap in (b" \n", b"\n "):
        data = b'{"s": "a"}' + gap + b'{"s": "\x01"}'
        assert read_flat(Rows(data, np.array([0, 12]), np.array([10, 22])), COLUMNS[:1]) is None
    data = b'{"s": "a"}\n \n{"s": "\x01"}'
    assert read_flat(Rows(data, np.array([0, 13]), np.array([10, 23])), COLUMNS[:1]) is None


PAYLOAD = b'{"s": "\xc3\xbc-0", "x": "Inf", "n": 10.5, "i": -10, "b": false, "d": 1.5e1}'


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.integers(0, 80), st.sampled_from([*b'{}[]",:;0-1.+eENaInf\\ntu \t\r\n\xff\xc3', 0])),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([0, 7, 599]),
)
@example([(40, ord("-"))], 7)
def test_damaged_payloads_among_many(damage: list[tuple[int, int]], place: int) -> None:
    payload = bytearray(PAYLOAD)
    for at, byte in damage:
        payload[at % len(payload)] = byte
    payloads = [PAYLOAD] * 600
    payloads[place] = bytes(payload)
    exact = decode_documents(payloads, range(600), COLUMNS, arrays=True)
    decoded = decode_payloads(payloads, COLUMNS)
    assert repr(decoded.rows.to_pylist()) == repr(exact.rows.to_pylist())
    assert decoded.bad == exact.bad


def test_every_byte_damaged_by_every_other() -> None:
    """As above, but all of them, on few rows: whatever is taken is what the exact path takes."""
    line = b'{"s": "\xc3\xbcx", "i": 10, "b": true, "d": 0.5e1}'
    for place in range(len(line)):
        for byte in (*b'{}[]",:;0-1.+eENaInf\\ntu \t\r\n\x0b\xff\xc3', 0):
            damaged = line[:place] + bytes([byte]) + line[place + 1 :]
            lines = [line, damaged, line, line]
            ends = np.cumsum([len(one) + 1 for one in lines]) - 1
            rows = Rows(b"\n".join(lines), ends - [len(one) for one in lines], ends)
            flat = read_flat(rows, COLUMNS)
            exact = decode_documents(lines, range(4), COLUMNS, arrays=False)
            assert flat is None or (not exact.bad and repr(flat.to_pylist()) == repr(exact.rows.to_pylist())), damaged


TEXTS = st.text(st.characters(exclude_characters=',"\\', exclude_categories=["Cs", "Cc"]))
FITTING: dict[Type, st.SearchStrategy[object]] = {
    BIGINT: st.none() | st.integers(-(2**63), 2**63 - 1),
    INT: st.none() | st.integers(-(2**31), 2**31 - 1),
    DOUBLE: st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**80), 2**80),
    STRING: TEXTS,
    BOOLEAN: st.none() | st.booleans(),
}


@settings(max_examples=200, deadline=None)
@given(st.data(), st.lists(st.tuples(TEXTS, st.sampled_from(list(FITTING))), min_size=1, max_size=5))
def test_what_fits_is_taken(data: st.DataObject, fields: list[tuple[str, Type]]) -> None:
    columns = [Column(name, kind) for name, kind in dict(fields).items()]
    rows = st.fixed_dictionaries({one.name: FITTING[one.type] for one in columns})
    objects = [
        {one.name: row[one.name] for one in columns} for row in data.draw(st.lists(rows, min_size=1, max_size=8))
    ]
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,  ", " :")]))
    lines = [json.dumps(one, ensure_ascii=False, separators=separators).encode() for one in objects]
    wanted = data.draw(st.lists(st.sampled_from(columns), unique=True, min_size=1))
    assert is_taken(lines, wanted)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.lists(st.sampled_from(list(FITTING)), min_size=1, max_size=3))
def test_whatever_is_taken_is_right(data: st.DataObject, kinds: list[Type]) -> None:
    """Raw texts for values, most of them not JSON."""
    odd = [*INTEGERS, *ODD_INTEGERS, *DOUBLES, *ODD_DOUBLES, '"', '"a"', '"a, b"', '","', "\\", '"\\n"', "true", "{}"]
    texts = st.lists(st.sampled_from(odd), min_size=len(kinds), max_size=len(kinds))
    rows = data.draw(st.lists(texts, min_size=1, max_size=4))
    named = [", ".join(f'"c{place}": {text}' for place, text in enumerate(row)) for row in rows]
    lines = [f"{{{row}}}".encode() for row in named]
    is_taken(lines, [Column(f"c{place}", kind) for place, kind in enumerate(kinds)])


def test_what_is_taken_keeps_nothing_of_its_input() -> None:
    rows, _ = split_lines(b"\n".join(PLAIN))
    flat = read_flat(rows, COLUMNS)
    assert flat is not None
    assert flat.get_total_buffer_size() < len(rows.data)
